"""The two numerics on held-out text."""

import os
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.evaluate import evaluate, main
from headrace.models.tokenizer import Tokenizer
from headrace.models.transformer import Transformer, token_bits

EXCERPT = Path(__file__).parent / "data" / "tempest.txt"


def check_agreement(text):
    result = evaluate(example_checkpoint(), [text])
    assert result.bytes == len(text.encode())
    assert result.agreement >= 0.97
    assert result.hardware_bits_per_byte == pytest.approx(result.float32_bits_per_byte, rel=0.01)
    # a byte unigram needs 4.7 on this play; both held-out plays together need 2.003
    assert 1.8 < result.float32_bits_per_byte < 2.4


def test_hardware_numerics_agree_on_held_out_text():
    check_agreement(EXCERPT.read_text()[:2000])


@pytest.mark.slow
def test_hardware_numerics_agree_on_the_whole_excerpt():
    check_agreement(EXCERPT.read_text())


def test_windows_score_every_token_once():
    model = Transformer(load_checkpoint(example_checkpoint()))
    ids = [0, *Tokenizer(example_checkpoint()).encode("Enter the KING and his train.\n" * 3)]
    bits, best = token_bits(model, ids, window=16)
    assert bits.shape == best.shape == (len(ids) - 1,)
    for position in (0, 15, 16, len(ids) - 2):
        full = position // 16 * 16 + 16 <= len(ids) - 1
        start = position // 16 * 16 if full else len(ids) - 1 - 16
        logits = model.forward(ids[start : position + 1])[-1].astype(np.float64)
        chance = np.exp(logits[ids[position + 1]]) / np.exp(logits).sum()
        assert bits[position] == pytest.approx(-np.log2(chance), abs=1e-3)
        assert best[position] == logits.argmax()


def test_bad_arguments():
    model = Transformer(load_checkpoint(example_checkpoint()))
    for ids, window in [([0], 4), ([0, 1], 0)]:
        with pytest.raises(InputError, match="at least two tokens"):
            token_bits(model, ids, window)
    for ids, part in [([0, 512], "from 0 to 511"), ([-1, 2], "from 0 to 511")]:
        with pytest.raises(InputError, match=part):
            model.forward(ids)
    with pytest.raises(InputError, match="non-empty"):
        model.forward([])
    with pytest.raises(InputError, match="at most 512 positions"):
        model.forward([1] * 513)
    with pytest.raises(InputError, match="no text"):
        evaluate(example_checkpoint(), [""])


def test_command_prints_the_figures_or_one_line(tmp_path, capsys):
    text = tmp_path / "short.txt"
    text.write_text("Friends, Romans, countrymen, lend me your ears.\n")
    assert main(["--text", str(text), "--window", "32"]) == 0
    out = capsys.readouterr().out
    assert "bytes                   48" in out
    assert "top-1 agreement" in out
    assert main(["--text", str(tmp_path / "none.txt")]) == 2
    assert capsys.readouterr().err == f"cannot read {tmp_path / 'none.txt'}: no such file\n"


def test_text_that_never_ends_is_refused(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert main(["--text", str(path)]) == 2
        assert capsys.readouterr().err == f"cannot read {path}: it is not a regular file\n"
