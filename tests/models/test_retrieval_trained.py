"""Policies on trained attention: a layer's steps are what the forward pass attends with."""

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.checkpoint import example_checkpoint, load_checkpoint
from headrace.models.kernels import rms_norm
from headrace.models.kernels.retrieval import HashClusterTable, Resv, draw_hyperplanes
from headrace.models.kv_policies import Full, ResvPolicy, StreamingLlm, run_policy
from headrace.models.kv_policies.trained import layer_steps
from headrace.models.numerics import make_numerics
from headrace.models.transformer import KVCache, Transformer

CHECKPOINT = load_checkpoint(example_checkpoint())
IDS = np.random.default_rng(0).integers(1, 512, 60).tolist()
PASSES = [("frame", 10)] * 4 + [("question", 15)] + [("answer", 1)] * 5


@pytest.mark.parametrize("layer", [0, 3])
def test_steps_are_the_attention_of_the_forward_pass(layer):
    model = Transformer(CHECKPOINT)
    cache = KVCache(model)
    states = model.hidden_states(IDS, cache)
    steps = layer_steps(CHECKPOINT, layer, IDS, PASSES)
    assert [(s.stage, len(s.k)) for s in steps] == PASSES
    q, k, v = (np.concatenate([getattr(s, name) for s in steps]) for name in "qkv")
    network, weights = CHECKPOINT.network, CHECKPOINT.layers[layer]
    stored = cache.append(layer, k[:0], v[:0])
    assert (stored[0] == k).all()
    assert (stored[1] == v).all()
    # through the rest of the layer, these queries give the next state
    numerics = make_numerics(CHECKPOINT, "float32")
    a = numerics.attend(q, k, v).reshape(60, -1)
    (o,) = numerics.linears(
        rms_norm(a, weights.attention_sub_norm, network.rms_eps), weights.o_proj
    )
    x = states[layer] + o
    up, gate = numerics.linears(
        rms_norm(x, weights.post_attention_norm, network.rms_eps),
        weights.up_proj, weights.gate_proj,
    )  # fmt: skip
    inner = rms_norm(numerics.gate(gate, up), weights.ffn_sub_norm, network.rms_eps)
    (d,) = numerics.linears(inner, weights.down_proj)
    assert np.allclose(x + d, states[layer + 1], rtol=1e-5, atol=1e-5)


def test_surprise_is_minus_the_logarithm_of_the_probability():
    steps = layer_steps(CHECKPOINT, 1, IDS, PASSES)
    surprise = np.concatenate([s.surprise for s in steps])
    logits = Transformer(CHECKPOINT).forward(IDS).astype(np.float64)
    for t in range(1, 60):
        weights = np.exp(logits[t - 1] - logits[t - 1].max())
        assert surprise[t] == pytest.approx(-np.log(weights[IDS[t]] / weights.sum()), rel=1e-5)


def test_the_guess_comes_from_the_layer_before():
    assert layer_steps(CHECKPOINT, 0, IDS, PASSES)[0].guess is None
    for step in layer_steps(CHECKPOINT, 4, IDS, PASSES):
        guess, q = step.guess.ravel(), step.q.ravel()
        likeness = guess @ q / np.linalg.norm(guess) / np.linalg.norm(q)
        assert 0.5 < likeness < 0.9999  # the residual stream moves slowly


def test_policies_run_on_it():
    steps = layer_steps(CHECKPOINT, 2, IDS, PASSES)
    assert {o.error for o in run_policy(Full(), steps)} == {0.0}
    heads, dim = CHECKPOINT.network.kv_heads, CHECKPOINT.network.head_dim
    planes = draw_hyperplanes(heads * dim, 32, np.random.default_rng(1))
    resv = ResvPolicy(Resv(HashClusterTable(heads, dim, planes), ratio=0.9))
    found, window = run_policy(resv, steps)[-1], run_policy(StreamingLlm(recent=8), steps)[-1]
    assert 0 < found.kept_share < 1
    assert 0 < found.error < window.error


@pytest.mark.parametrize(
    ("layer", "passes", "message"),
    [
        (6, PASSES, "layer 6; one from 0 to 5"),
        (-1, PASSES, "layer -1"),
        (0, PASSES[1:], "passes: 60 tokens"),
        (0, [("frame", 0), *PASSES], "passes"),
    ],
)
def test_refusals_are_one_line(layer, passes, message):
    with pytest.raises(InputError, match=message) as caught:
        layer_steps(CHECKPOINT, layer, IDS, passes)
    assert "\n" not in str(caught.value)
