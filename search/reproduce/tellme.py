"""TeLLMe's published figures (arXiv 2510.15926) beside the model's."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from headrace.arch.calibration import calibration
from headrace.arch.device import load_device
from headrace.arch.resources import Resources
from headrace.arch.tellme import TELLME
from headrace.arch.tellme.engine import engine_sizes
from headrace.models.network import load_network
from headrace.search.reproduce.row import Row
from headrace.sim.tellme import simulate
from headrace.sim.tellme.formulas import prefill_steps
from headrace.sim.workload import Workload

__all__ = ["rows"]

_TOTALS = {"lut": 98303.0, "ff": 136721.0, "dsp": 610.0, "bram36": 98.5, "uram": 60.0}
_MODULES: tuple[tuple[str, str, tuple[str, ...], Mapping[str, float]], ...] = (
    (
        "tlmm",
        "TLMM with fused element-wise units",
        ("ternary_matmul", "elementwise"),
        {"lut": 43137.0, "dsp": 320.0},
    ),
    ("rpa", "prefill attention", ("prefill_attention",), {"lut": 18072.0, "dsp": 115.0}),
    ("da", "decode attention", ("decode_attention",), {"lut": 9570.0, "dsp": 123.0}),
    ("wbmu", "weight buffer", ("weight_buffer",), {"lut": 6885.0, "uram": 48.0}),
    ("rest", "RMS-MAX, control, AXI", ("rms_max", "axi_shell"), {"lut": 20639.0, "dsp": 52.0}),
)
_UNITS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM36", "uram": "URAM"}
_ALTERNATIVE = "kv260:ddr4-2400"


def rows(device: str = "kv260") -> list[Row]:
    """Return every published figure with its prediction at the published point.

    Parameters
    ----------
    device : str
        Device to predict for. The rates are also given for the other published bandwidth of the
        KV260's memory.

    Raises
    ------
    InputError
        The device is unknown or cannot run the design.
    """
    found = [*_exact(), *_times(device)]
    if device == TELLME.default_device:
        found += [
            replace(
                row,
                id=f"{row.id}.ddr4-2400",
                what=f"{row.what}, DDR at 19.2 GB/s",
                fitted=False,
                note=f"{row.note}; constants fitted at 17.1 GB/s".lstrip("; "),
            )
            for row in _times(_ALTERNATIVE)
            if row.id.startswith(("ttft", "decode"))
        ]
    return [*found, *_resources(), *_energy(device), *_figure_10(device), *_not_reproduced()]


def _fitted(*constants: str) -> bool:
    return any(calibration()[f"tellme.{name}"].fitted for name in constants)


def _exact() -> Iterator[Row]:
    """Figures that follow from sizes alone."""
    sizes = engine_sizes(TELLME.point())
    buffer = TELLME.resources(TELLME.point())["weight_buffer"]
    groups = -(-1536 // sizes.copies)
    measured = {
        "weight_buffer_uram": ("URAM of the weight buffer", 48.0, buffer.uram, "table 3"),
        "row_beats": ("beats per 1,536 outputs", 308.0, sizes.row_beats(groups), "release"),
        "tables": ("tables that a pair of URAMs feeds", 28.0, 144 // sizes.index_bits, "eq 7"),
        "beat_vectors": ("index vectors per beat", 5.0, sizes.vectors_per_beat, "section 3.2"),
        "key_steps": ("key steps at N = 128, reversed", 1088.0, prefill_steps(128, 8, True), "fig"),
        "key_steps_forward": ("key steps, forward", 2048.0, prefill_steps(128, 8, False), "fig"),
    }
    for name, (what, published, predicted, source) in measured.items():
        yield Row(
            id=name, what=what, published=published, predicted=float(predicted), unit="1",
            fitted=False, source=source, allowed=0.0, note="exact",
        )  # fmt: skip


def _times(device: str) -> Iterator[Row]:
    """Latencies and rates."""
    short, long = (_metrics(device, tokens) for tokens in (64, 128))
    forward = _metrics(device, 128, prefill_order="forward")
    attention = "one layer, 128 tokens, eight query lanes; secondary source"
    yield Row(
        id="weight_bytes", what="weight bytes per pass", published=175_279_104.0,
        predicted=long["weight_bytes"], unit="B", fitted=False, source="release", allowed=0.0,
        note="exact",
    )  # fmt: skip
    yield Row(
        id="prefill_attention_forward", what="prefill attention, forward order", published=14.3e-3,
        predicted=forward["prefill_attention_s"], unit="s", fitted=False, source="figure",
        allowed=0.03, note=f"{attention}; softmax_cycles fitted on the reversed order",
    )  # fmt: skip
    yield Row(
        id="prefill_attention", what="prefill attention, reversed order", published=7.6e-3,
        predicted=long["prefill_attention_s"], unit="s", fitted=_fitted("softmax_cycles"),
        source="figure", allowed=0.03, note=attention,
    )  # fmt: skip
    yield Row(
        id="ttft_64", what="time to first token, 64 tokens", published=0.45,
        predicted=short["ttft_s"], unit="s", fitted=False, source="abstract",
        allowed=0.05, note="block_gap_cycles fitted on 128 tokens",
    )  # fmt: skip
    yield Row(
        id="ttft_128", what="time to first token, 128 tokens", published=0.96,
        predicted=long["ttft_s"], unit="s", fitted=_fitted("block_gap_cycles"), source="abstract",
        allowed=0.05,
    )  # fmt: skip
    yield Row(
        id="prefill_tok_per_s", what="prefill rate", published=143.0,
        predicted=short["prefill_tok_per_s"], unit="tok/s", fitted=False, source="table 1",
        allowed=0.05, note="64 tokens: 64 / 0.45 s",
    )  # fmt: skip
    yield Row(
        id="decode_tok_per_s", what="decode rate, short context", published=25.0,
        predicted=long["decode_tok_per_s"], unit="tok/s", fitted=_fitted("ddr_efficiency"),
        source="table 1", allowed=0.05, note="context of 64 tokens assumed",
    )  # fmt: skip
    yield Row(
        id="lm_head_s", what="LM head on the CPU", published=0.009, predicted=long["lm_head_s"],
        unit="s", fitted=False, source="secondary source", note="an input, not a prediction",
    )  # fmt: skip


def _metrics(
    device: str, prompt_tokens: int, context_tokens: int = 64, **values: object
) -> Mapping[str, float]:
    return simulate(
        TELLME.point(values),
        load_device(device),
        load_network(TELLME.default_network),
        Workload(prompt_tokens=prompt_tokens, context_tokens=context_tokens),
    ).metrics


def _resources() -> Iterator[Row]:
    """Totals and modules of table 3."""
    modules = TELLME.resources(TELLME.point())
    total = sum(modules.values(), Resources()).as_dict()
    for name, published in _TOTALS.items():
        yield Row(
            id=f"total_{name}", what=f"{_UNITS[name]}, total", published=published,
            predicted=total[name], unit=_UNITS[name], fitted=name != "uram", source="table 3",
            allowed=0.10,
            note="flip-flops: 28 % is printed beside it, which is not 136,721 of 234,240"
            if name == "ff"
            else "weight buffer exact, 12 others fitted" if name == "uram" else "",
        )  # fmt: skip
    for label, what, members, figures in _MODULES:
        part = sum((modules[m] for m in members), Resources()).as_dict()
        for name, published in figures.items():
            yield Row(
                id=f"{label}_{name}", what=f"{_UNITS[name]}, {what}", published=published,
                predicted=part[name], unit=_UNITS[name],
                fitted=label != "wbmu", source="table 3",
                note="the engine's own share is counted from its netlist; HLS built the paper's"
                if label in ("tlmm", "wbmu")
                else "",
            )  # fmt: skip


def _energy(device: str) -> Iterator[Row]:
    """Power and tokens per joule."""
    short, long = (_metrics(device, tokens) for tokens in (64, 128))
    yield Row(
        id="power_w", what="power", published=4.8, predicted=long["power_w"], unit="W",
        fitted=_fitted("static_w"), source="table 1", allowed=0.10,
        note="how it was measured is not published",
    )  # fmt: skip
    yield Row(
        id="prefill_tok_per_j", what="prefill tokens per joule", published=29.8,
        predicted=short["prefill_tok_per_j"], unit="tok/J", fitted=False, source="table 1",
        allowed=0.10,
        note="64 tokens; 143 tok/s over 4.8 W",
    )  # fmt: skip
    yield Row(
        id="decode_tok_per_j", what="decode tokens per joule", published=5.2,
        predicted=long["decode_tok_per_j"], unit="tok/J", fitted=False, source="table 1",
        allowed=0.10,
        note="25 tok/s over 4.8 W, both of which are fitted",
    )  # fmt: skip


def _figure_10(device: str) -> Iterator[Row]:
    """Ends of the decode curve, whose contexts are not published."""
    for name, published, context, why in (
        ("first", 24.6, 64, "64 tokens assumed"),
        ("last", 11.2, 1023, "1,023 tokens assumed, the limit of the release"),
    ):
        yield Row(
            id=f"decode_{name}", what=f"decode rate at the {name} plotted context",
            published=published, predicted=_metrics(device, 64, context)["decode_tok_per_s"],
            unit="tok/s", fitted=False, source="figure 10",
            note=f"contexts are not published: {why}",
        )  # fmt: skip


def _not_reproduced() -> Iterator[Row]:
    """Published figures that cannot be predicted, and why."""
    figures = (
        ("v1_decode", "decode rate of version 1", 9.51, "tok/s", "arXiv 2504.16266",
         "its sizes, clock and resources are not published"),
        ("perplexity", "WikiText-2 perplexity", 12.79, "1", "table 2",
         "needs the trained checkpoint, not the machine"),
    )  # fmt: skip
    for name, what, published, unit, source, note in figures:
        yield Row(
            id=name, what=what, published=published, predicted=None, unit=unit, fitted=False,
            source=source, note=note,
        )  # fmt: skip
