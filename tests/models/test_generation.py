"""Text out: sampling, streaming, stopping, and what is refused."""

import json
import shutil
import warnings

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.checkpoint import example_checkpoint
from headrace.models.generation import _pieces, generate
from headrace.models.sampling import sample
from headrace.models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def golden():
    with np.load(example_checkpoint() / "golden.npz") as data:
        return dict(data)


@pytest.mark.parametrize("precision", ["hardware", "float32"])
def test_greedy_text_is_the_golden_tokens(golden, precision):
    prompt = str(golden["prompt0.text"])
    pieces = list(generate(example_checkpoint(), prompt, max_new_tokens=32, precision=precision))
    expected = Tokenizer(example_checkpoint()).decode(golden["prompt0.greedy"].tolist())
    assert "".join(pieces) == expected
    assert len(pieces) > 20  # it streams


def test_seed_decides_and_prompt_may_be_empty():
    options = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 40, "matmul": "integer"}
    first = "".join(generate(example_checkpoint(), "", seed=1, **options))
    assert first == "".join(generate(example_checkpoint(), "", seed=1, **options))
    others = {"".join(generate(example_checkpoint(), "", seed=s, **options)) for s in (2, 3)}
    assert others != {first}


def copy_with(tmp_path, change):
    folder = tmp_path / "copy"
    shutil.copytree(example_checkpoint(), folder)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_stops_at_end_of_text_and_at_the_longest_sequence(golden, tmp_path):
    prompt, greedy = str(golden["prompt2.text"]), golden["prompt2.greedy"].tolist()
    ids = golden["prompt2.ids"]
    stop = greedy[3]
    folder = copy_with(tmp_path, {"eos_token_id": [stop, 0]})
    text = "".join(generate(folder, prompt, max_new_tokens=20, precision="float32"))
    assert text == Tokenizer(folder).decode(greedy[: greedy.index(stop)])
    shutil.rmtree(folder)
    folder = copy_with(tmp_path, {"max_position_embeddings": len(ids) + 2})
    text = "".join(generate(folder, prompt, max_new_tokens=20, precision="float32"))
    # the last token needs no position of its own
    assert text == Tokenizer(folder).decode(greedy[:3])


def test_characters_of_several_tokens_come_whole():
    tokenizer = Tokenizer(example_checkpoint())
    ids = tokenizer.encode("naïve €5 — ☃")
    assert tokenizer.decode(ids) == "naïve €5 — ☃"
    assert "\ufffd" in tokenizer.decode(ids[:3])

    pieces = list(_pieces(tokenizer, iter(ids)))
    assert "".join(pieces) == "naïve €5 — ☃"
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": -1}, "top_k = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"precision": "double"}, "one of float32, hardware"),
        ({"matmul": "magic"}, "one of integer, naive, half, full"),
        ({"group_size": 9}, "from 1 to 5"),
    ],
)
def test_bad_option_is_refused_at_the_call(options, part):
    with pytest.raises(InputError, match=part):
        generate(example_checkpoint(), "Hamlet:", **options)


def test_prompt_that_is_too_long():
    with pytest.raises(InputError, match="at most 512 positions"):
        generate(example_checkpoint(), "To be, or not to be. " * 200)


def test_tokenizer_that_is_missing_or_broken(tmp_path):
    folder = copy_with(tmp_path, {})
    (folder / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match="not a tokenizer"):
        generate(folder, "x")
    (folder / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        generate(folder, "x")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no such file"):
        generate(folder, "x")


def split(pattern):
    behaviour = {"behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {"type": "Split", "pattern": pattern} | behaviour}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"},
          "pre_tokenizer": None}, "cannot encode the text: WordLevel error"),
        # these two make the library panic, which is no Exception
        (split({"Regex": "(a+)+$"}), "cannot encode the text: Onig"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
         "not a tokenizer: Precompiled"),
    ],
)  # fmt: skip
def test_hostile_tokenizer_is_refused_in_one_line(tmp_path, change, part):
    folder = copy_with(tmp_path, {})
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as caught:
        generate(folder, "a" * 40 + "b")
    assert str(caught.value).startswith(f"{path}: {part}")
    assert "\n" not in str(caught.value)


def test_prompt_that_is_no_unicode():
    with pytest.raises(InputError, match="^text: not Unicode at character 1$"):
        generate(example_checkpoint(), "a\udcff")


def test_tokenizer_file_can_neither_pad_nor_cut(tmp_path):
    path = tmp_path / "tokenizer.json"
    raw = json.loads((example_checkpoint() / "tokenizer.json").read_text())
    raw["padding"] = {
        "strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    raw["truncation"] = {
        "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    path.write_text(json.dumps(raw))
    text = "Friends, Romans"
    assert Tokenizer(tmp_path).encode(text) == Tokenizer(example_checkpoint()).encode(text)


def test_special_token_that_is_none(tmp_path):
    folder = copy_with(tmp_path, {"eos_token_id": "end"})
    with pytest.raises(InputError, match="eos_token_id = end; token ids"):
        generate(folder, "x")
    shutil.rmtree(folder)
    folder = copy_with(tmp_path, {"bos_token_id": None})
    with pytest.raises(InputError, match="no bos_token_id"):
        generate(folder, "")


def test_greedy_takes_the_first_of_equals():
    assert sample(np.array([1, 3, 3, 2], np.float32)) == 1


def test_top_k_and_temperature_shape_the_draw():
    rng = np.random.default_rng(0)
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    draws = [sample(logits, temperature=1.0, top_k=2, rng=rng) for _ in range(2000)]
    assert set(draws) == {0, 1}
    assert np.mean(draws) == pytest.approx(0.3 / 0.8, abs=0.05)
    cold = [sample(logits, temperature=1e-6, rng=rng) for _ in range(20)]
    assert set(cold) == {0}


def test_temperature_too_small_to_divide_by():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits = np.array([1, 3, 2], np.float32)
        assert sample(logits, temperature=1e-320, rng=np.random.default_rng(0)) == 1


def test_drawing_needs_a_generator():
    with pytest.raises(InputError, match="random generator"):
        sample(np.zeros(3, np.float32), temperature=1.0)
