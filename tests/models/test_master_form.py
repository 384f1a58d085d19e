"""The float master form and the packed form of tiny-bitnet hold the same ternary weights."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from headrace.models.checkpoint import (
    example_checkpoint,
    load_checkpoint,
    pack_ternary,
    ternarise,
    unpack_ternary,
)

DATA = Path(__file__).parent / "data"
LINEARS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("up_proj", "gate_proj", "down_proj"),
}


def named_linears(checkpoint):
    for index, layer in enumerate(checkpoint.layers):
        for block, names in LINEARS.items():
            for name in names:
                yield f"model.layers.{index}.{block}.{name}.weight", getattr(layer, name)


def test_packed_form_gives_the_digests_of_the_master_form():
    expected = json.loads((DATA / "master-digests.json").read_text())
    found = {
        name: hashlib.sha256(linear.weights.tobytes()).hexdigest()
        for name, linear in named_linears(load_checkpoint(example_checkpoint()))
    }
    assert len(found) == 42
    assert found == expected


def test_float_weights_ternarise_to_the_packed_ones():
    ((name, master),) = load_file(DATA / "master-k_proj.safetensors").items()
    linear = ternarise(master)
    packed = dict(named_linears(load_checkpoint(example_checkpoint())))[name]
    assert np.array_equal(linear.weights, packed.weights)
    assert linear.scale == pytest.approx(packed.scale, rel=2e-7)


@pytest.mark.skipif(
    "HEADRACE_MASTER_CHECKPOINT" not in os.environ,
    reason="HEADRACE_MASTER_CHECKPOINT names no folder with the float master weights (11 MB)",
)
def test_whole_master_checkpoint():
    master = dict(named_linears(load_checkpoint(os.environ["HEADRACE_MASTER_CHECKPOINT"])))
    for name, linear in named_linears(load_checkpoint(example_checkpoint())):
        assert np.array_equal(linear.weights, master[name].weights), name
        assert linear.scale == pytest.approx(master[name].scale, rel=2e-7)


def test_ternarise_worked_example():
    # mean |W| = 1; ties at one half go to even, that is to 0
    linear = ternarise(np.array([[0.5, -0.5, 0.75], [-3.0, 0.25, 1.0]], dtype=np.float32))
    assert linear.scale == 1
    assert linear.weights.tolist() == [[0, 0, 1], [-1, 0, 1]]


def test_packing_worked_example():
    # rows 0..3 are fields 0..3 of one byte row: 0b10_01_00_10 = T + 1 of 1, -1, 0, 1
    weights = np.array([[1], [-1], [0], [1]], dtype=np.int8)
    packed = pack_ternary(weights)
    assert packed.tolist() == [[0b10_01_00_10]]
    assert np.array_equal(unpack_ternary(packed), weights)


def test_eight_rows_are_packed_two_apart():
    weights = np.array([[-1], [0], [1], [-1], [0], [1], [1], [1]], dtype=np.int8)
    assert pack_ternary(weights).tolist() == [[0b10_01_10_00], [0b10_10_00_01]]
