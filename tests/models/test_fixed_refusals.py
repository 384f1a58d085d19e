"""What the fixed-point kernels refuse: one line with name, value and what is allowed."""

import dataclasses

import numpy as np
import pytest

from headrace.errors import InputError
from headrace.models.kernels import fixed
from headrace.models.kernels.fixed import FORMATS

F = FORMATS["int8"]


def ints(*shape):
    return np.zeros(shape, np.int64)


def attend(tokens=3, head_dim=4, dims=2, k=None, v=None):
    q = ints(tokens, 1, head_dim)
    return fixed.streaming_attention(q, q if k is None else k, q if v is None else v, F, dims=dims)


def job(tokens, probabilities):
    return fixed.Job(5, np.array(tokens), np.array(probabilities))


def affine(*shape):
    return fixed.Affine(weights=ints(*shape), bias=ints(shape[0]))


REFUSED = [
    (
        lambda: fixed.linear(ints(2, 3) + 128, ints(4, 3), None, F),
        "x: values from 128 to 128 .*127",
    ),
    (lambda: fixed.linear(ints(2, 3) - 129, ints(4, 3), None, F), "x: .*: -128 to 127"),
    (
        lambda: fixed.linear(ints(2, 3), ints(4, 2), None, F),
        r"weights of shape \(4, 2\) .*\(n, 3\)",
    ),
    (lambda: fixed.linear(ints(2, 3), ints(4, 3) + 128, None, F), "weights: .*: -128 to 127"),
    (lambda: fixed.linear(ints(2, 3), ints(4, 3), ints(3), F), r"bias of shape \(3,\) .*\(4\)"),
    (lambda: fixed.linear(ints(2, 3), ints(4, 3), ints(4) + 2**15, F), "bias: .*: -32768 to 32767"),
    (lambda: fixed.linear(ints(0, 3), ints(4, 3), None, F), r"x of shape \(0, 3\)"),
    (lambda: fixed.linear(ints(2, 3) * 1.0, ints(4, 3), None, F), "x: integers .*, found float64"),
    (
        lambda: fixed.linear(ints(2, 3), ints(4, 3), None, F, bias_fraction=23),
        "bias_fraction = 23 is not allowed: 0 to 22",
    ),
    (lambda: attend(tokens=512), "tokens = 512 is not allowed: 1 to 511"),
    (lambda: attend(head_dim=8), "head_dim = 8 is not allowed: a power of 4"),
    (lambda: attend(dims=3), "dims = 3 is not allowed: a divisor of head_dim = 4"),
    (lambda: attend(dims=0), "dims = 0 is not allowed"),
    (lambda: attend(k=ints(2, 1, 4)), r"k of shape \(2, 1, 4\) .*\(3, 1, 4\)"),
    (lambda: attend(v=ints(3, 1, 4) + 200), "v: values from 200"),
    (lambda: fixed.layer_norm(ints(2, 3), ints(4), ints(3), F), r"gain of shape \(4,\)"),
    (lambda: fixed.layer_norm(ints(2, 3), ints(3), ints(3) + 2**15, F), "offset: values"),
    (lambda: fixed.top_k(ints(2, 3), 4), "top_k = 4 is not allowed: 1 to 3"),
    (lambda: fixed.top_k(ints(2, 3), 0), "top_k = 0 is not allowed"),
    (lambda: fixed.online_softmax(ints(1, 257)), "experts = 257 is not allowed: 1 to 256"),
    (
        lambda: fixed.dispatch(fixed.Choices(ints(2, 1) + 3, ints(2, 1)), 3),
        "a choice is not in 0 to 2",
    ),
    (lambda: fixed.combine(ints(2, 3), [job([0], [0])], [], F), "1 jobs but 0 results"),
    (
        lambda: fixed.combine(ints(2, 3), [job([2], [0])], [ints(1, 3)], F),
        "expert 5: tokens beyond 0 to 1",
    ),
    (
        lambda: fixed.combine(ints(2, 3), [job([1], [2**22 + 1])], [ints(1, 3)], F),
        "expert 5: probabilities beyond 0 to 4194304",
    ),
    (
        lambda: fixed.combine(ints(2, 3), [job([1], [1])], [ints(2, 3)], F),
        r"tokens of shape \(1,\); \(2,\) is needed",
    ),
    (lambda: fixed.add_residual(ints(2, 3), ints(3, 2), F), r"result of shape \(3, 2\)"),
    (
        lambda: fixed.patch_embedding(ints(2, 3) + 256, ints(4, 3), ints(4), ints(3, 4), F),
        "pixels: .*: 0 to 255",
    ),
    (
        lambda: fixed.patch_embedding(ints(2, 3), ints(4, 3), ints(4), ints(2, 4), F),
        r"positions of shape \(2, 4\) .*\(3, 4\)",
    ),
    (
        lambda: fixed.Attention(heads=3, qkv=affine(12, 4), projection=affine(4, 4)),
        "heads = 3 is not allowed: a divisor of the width 4",
    ),
    (
        lambda: fixed.Attention(heads=2, qkv=affine(8, 4), projection=affine(4, 4)),
        r"\(12, 4\) and \(4, 4\) are needed",
    ),
    (
        lambda: fixed.Experts(gate=ints(2, 4), top_k=1, experts=()),
        "gate of 2 rows for 0 experts",
    ),
    (lambda: fixed.from_real([0.5, float("nan")], 8, 4), "not finite"),
    (lambda: dataclasses.replace(F, operand_bits=33), "operand_bits = 33 .*: 2 to 32"),
    (lambda: dataclasses.replace(F, norm_fraction=23), "norm_fraction = 23 .*: 0 to 22"),
]


@pytest.mark.parametrize("call, message", REFUSED, ids=[message for _, message in REFUSED])
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_parameters_are_rounded_to_nearest_and_saturate():
    reals = [0.5 / 16, 1.5 / 16, -0.51 / 16, 100.0, -100.0, 7.99]
    assert fixed.from_real(reals, 8, 4).tolist() == [0, 2, -1, 127, -128, 127]
    assert fixed.to_real(np.array([-3, 8]), 4).tolist() == [-0.1875, 0.5]
