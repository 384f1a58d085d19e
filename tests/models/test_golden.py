"""tiny-bitnet against the numbers that transformers computed for it (golden.npz)."""

import numpy as np
import pytest

from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.kernels import dequantise, int_matmul, quantise_activations, ternary_matmul
from headrace.models.tokenizer import Tokenizer
from headrace.models.transformer import KVCache, Transformer

PROMPTS = range(3)


@pytest.fixture(scope="module")
def golden():
    with np.load(example_checkpoint() / "golden.npz") as data:
        return dict(data)


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(example_checkpoint())


def greedy(model, ids, count):
    cache = KVCache(model)
    logits = model.forward(ids, cache, last_only=True)[0]
    tokens = []
    for _ in range(count):
        tokens.append(int(np.argmax(logits)))
        logits = model.forward(tokens[-1:], cache)[0]
    return tokens


@pytest.mark.parametrize("name", ["q_proj", "down_proj"])
def test_layer_integers_are_exact(golden, checkpoint, name):
    value = {key: golden[f"layer0.{name}.{key}"] for key in ("x", "x_int8", "acc_int32")}
    linear = getattr(checkpoint.layers[0], name)
    assert np.array_equal(linear.weights, golden[f"layer0.{name}.w_ternary"])
    assert linear.scale == golden[f"layer0.{name}.weight_scale"][0]
    q, a = quantise_activations(value["x"])
    assert np.array_equal(q, value["x_int8"])
    # torch computes 127 / x as 127 * (1 / x), one unit in the last place away at most
    np.testing.assert_array_max_ulp(a, golden[f"layer0.{name}.act_scale"], maxulp=1)
    assert np.array_equal(int_matmul(q, linear.weights), value["acc_int32"])
    for method in ("naive", "half", "full"):
        assert np.array_equal(ternary_matmul(q, linear.weights, method), value["acc_int32"])
    y = dequantise(value["acc_int32"], a, linear.scale)
    np.testing.assert_allclose(y, golden[f"layer0.{name}.y"], rtol=1e-5, atol=1e-6)


def test_hidden_states(golden, checkpoint):
    states = Transformer(checkpoint).hidden_states(golden["prompt0.ids"])
    np.testing.assert_allclose(states, golden["prompt0.hidden_states"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("index", PROMPTS)
def test_logits_and_greedy_tokens(golden, checkpoint, index):
    model = Transformer(checkpoint)
    ids = golden[f"prompt{index}.ids"]
    logits = model.forward(ids)[-1]
    np.testing.assert_allclose(logits, golden[f"prompt{index}.logits"], rtol=0, atol=1e-4)
    assert greedy(model, ids, 32) == golden[f"prompt{index}.greedy"].tolist()


@pytest.mark.parametrize("index", PROMPTS)
def test_hardware_numerics_find_the_same_greedy_tokens(golden, checkpoint, index):
    # the smallest gap between the two best logits is 0.07, and half precision stays well below
    model = Transformer(checkpoint, "hardware", "full")
    ids = golden[f"prompt{index}.ids"]
    assert greedy(model, ids, 32) == golden[f"prompt{index}.greedy"].tolist()


@pytest.mark.parametrize(("matmul", "group_size"), [("naive", 3), ("half", 4), ("full", 2)])
def test_every_matmul_gives_the_same_bits(golden, checkpoint, matmul, group_size):
    ids = golden["prompt1.ids"]
    plain = Transformer(checkpoint, "hardware").forward(ids)
    table = Transformer(checkpoint, "hardware", matmul, group_size).forward(ids)
    assert np.array_equal(plain, table)


@pytest.mark.parametrize("precision", ["float32", "hardware"])
def test_cache_continues_where_it_stopped(golden, checkpoint, precision):
    model = Transformer(checkpoint, precision)
    ids = golden["prompt0.ids"]
    cache = KVCache(model)
    parts = [model.forward(ids[:9], cache), model.forward(ids[9:12], cache)]
    parts.append(model.forward(ids[12:], cache))
    assert cache.length == len(ids)
    # halves of prefill and decode attention differ in their rounding, by design
    tolerance = 1e-4 if precision == "float32" else 0.5
    np.testing.assert_allclose(np.concatenate(parts), model.forward(ids), rtol=0, atol=tolerance)


@pytest.mark.parametrize("index", PROMPTS)
def test_tokenizer(golden, index):
    tokenizer = Tokenizer(example_checkpoint())
    text = str(golden[f"prompt{index}.text"])
    ids = golden[f"prompt{index}.ids"].tolist()
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text
