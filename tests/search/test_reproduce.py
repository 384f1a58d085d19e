import pytest

from headrace.search.reproduce.row import Row
from headrace.search.reproduce.tellme import rows

ROWS = {row.id: row for row in rows()}


@pytest.mark.parametrize(
    "name, published",
    [("weight_buffer_uram", 48), ("row_beats", 308), ("weight_bytes", 175_279_104),
     ("key_steps", 1088), ("key_steps_forward", 2048), ("tables", 28), ("beat_vectors", 5)],
)  # fmt: skip
def test_exact_figures(name: str, published: float) -> None:
    assert (ROWS[name].published, ROWS[name].predicted) == (published, published)
    assert not ROWS[name].fitted


@pytest.mark.parametrize(
    "name, published, tolerance",
    [
        ("prefill_attention_forward", 14.3e-3, 0.03),
        ("prefill_attention", 7.6e-3, 0.03),
        ("ttft_64", 0.45, 0.05),
        ("ttft_128", 0.96, 0.05),
        ("decode_tok_per_s", 25, 0.05),
        ("total_lut", 98303, 0.1),
        ("total_ff", 136721, 0.1),
        ("total_dsp", 610, 0.1),
        ("total_bram36", 98.5, 0.1),
        ("total_uram", 60, 0.1),
        ("power_w", 4.8, 0.1),
        ("prefill_tok_per_j", 29.8, 0.1),
        ("decode_tok_per_j", 5.2, 0.1),
    ],
)
def test_within_tolerance(name: str, published: float, tolerance: float) -> None:
    row = ROWS[name]
    assert row.published == published
    assert row.error is not None
    assert abs(row.error) <= tolerance


def test_what_was_fitted_is_marked() -> None:
    assert ROWS["ttft_128"].fitted
    assert not ROWS["ttft_64"].fitted
    assert ROWS["prefill_attention"].fitted
    assert not ROWS["prefill_attention_forward"].fitted


def test_both_memory_bandwidths_are_shown() -> None:
    assert {"ttft_128.ddr4-2400", "decode_tok_per_s.ddr4-2400"} <= set(ROWS)


def test_what_cannot_be_reproduced_has_a_reason() -> None:
    missing = [row for row in ROWS.values() if row.predicted is None]
    assert {"v1_decode", "perplexity"} == {row.id for row in missing}
    assert all(row.note and row.error is None for row in missing)


def test_a_claim_is_met_or_missed() -> None:
    def row(predicted: float | None, allowed: float | None) -> Row:
        return Row(
            id="x", what="", published=4.0, predicted=predicted, unit="1", fitted=False, source="",
            allowed=allowed,
        )  # fmt: skip

    assert row(4.19, 0.05).met is True
    assert row(4.21, 0.05).met is False
    assert row(4.0, 0.0).met is True
    assert row(4.2, None).met is None
    assert row(None, 0.05).met is None


def test_every_claim_is_met() -> None:
    missed = [row.id for row in ROWS.values() if row.met is False]
    assert not missed
    assert sum(row.met is True for row in ROWS.values()) >= 20


def test_error_is_relative() -> None:
    row = Row(id="x", what="", published=4.0, predicted=5.0, unit="1", fitted=False, source="")
    assert row.error == 0.25
