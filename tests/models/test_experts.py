"""Compositions of experts: published bytes; traces that are what they say; hostile files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InputError
from headrace.models.experts import (
    MAX_REQUESTS,
    CompositionOfExperts,
    all_miss_trace,
    check_requests,
    read_trace,
    uniform_trace,
    zipf_trace,
)
from headrace.models.network import load_network

EXPERT = 13_476_831_232  # 6,738,415,616 published parameters in bfloat16


def composition(experts=150):
    llama = load_network("llama-2-7b")
    return CompositionOfExperts(expert=llama, router=llama, experts=experts)


def test_bytes_of_samba_coe():
    coe = composition()
    assert coe.expert_bytes == EXPERT
    assert coe.weight_bytes == 151 * EXPERT
    assert coe.weight_bytes / 2 > 1e12  # "over a trillion parameters"
    # keys and values of 32 layers of 4096 in two bytes
    assert coe.kv_bytes(8, 4096) == 8 * 4096 * 32 * 2 * 4096 * 2 == 1 << 34


def test_experts_that_a_memory_holds():
    coe = composition()
    hbm = 512 << 30
    assert hbm // EXPERT == 40
    assert coe.resident_experts(hbm) == 39
    assert coe.resident_experts(hbm, coe.kv_bytes(8, 4096)) == 38
    assert coe.resident_experts(3 * EXPERT) == 2
    assert coe.resident_experts(3 * EXPERT, 1) == 1
    with pytest.raises(InputError, match="holds no expert: .* take 26953662465"):
        coe.resident_experts(2 * EXPERT, 1)


def test_zipf_shares_are_met():
    requests = 200_000
    weights = np.arange(1.0, 51) ** -1.2
    shares = weights / weights.sum()
    counts = np.bincount(zipf_trace(50, requests, 1.2, 3), minlength=50)
    assert (abs(counts - requests * shares) < 4.5 * np.sqrt(requests * shares)).all()
    even = np.bincount(uniform_trace(50, requests, 3), minlength=50)
    assert (abs(even - requests / 50) < 4.5 * np.sqrt(requests / 50)).all()


def test_seeds_decide():
    first, same, other = (zipf_trace(100, 500, 1.0, seed) for seed in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()


def test_all_miss_trace_goes_round():
    assert all_miss_trace(3, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 849), min_size=1, max_size=40), st.booleans())
def test_a_trace_from_a_file(tmp_path_factory, trace, ends):
    path = tmp_path_factory.mktemp("trace") / "trace.txt"
    path.write_text("\n".join(map(str, trace)) + "\n" * ends)
    found = read_trace(path, 850)
    assert found.tolist() == trace
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "1 to 4194304 lines with an expert are needed: none"),
        (b"\n", "lines with an expert are needed: none"),
        (b"1\n\n2\n", "line 2 is ''; an expert from 0 to 849"),
        (b"1\n850\n", "line 2 is '850'"),
        (b"-1\n", "line 1 is '-1'"),
        (b"1.0\n", "line 1 is '1.0'"),
        (b"1 2\n", "line 1 is '1 2'"),
        (b"1\r\n2\r\n", r"line 1 is '1\\r'"),
        ("\u0663\n".encode(), "line 1 is"),
        (b"9" * 5000, "line 1 is '99999999999999999999'; an"),
        (b"\xff\n", "not UTF-8 at byte 0"),
    ],
)
def test_what_is_no_trace_is_one_line(text, part, tmp_path):
    path = tmp_path / "trace.txt"
    path.write_bytes(text)
    with pytest.raises(InputError, match=part) as caught:
        read_trace(path, 850)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_without_end_is_refused(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_bytes(b"1\n" * (MAX_REQUESTS + 1))
    with pytest.raises(InputError, match="are needed: 4194305"):
        read_trace(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="larger than"):
        read_trace(path)
    with pytest.raises(InputError, match="no such file"):
        read_trace(tmp_path / "none")


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: composition(0), "experts = 0; an integer from 1 to 4096"),
        (lambda: composition(4097), "experts = 4097"),
        (lambda: composition(True), "experts = True"),
        (lambda: zipf_trace(10, 0, 1.0, 0), "requests = 0; an integer from 1 to"),
        (lambda: zipf_trace(10, MAX_REQUESTS + 1, 1.0, 0), "requests = 4194305"),
        (lambda: zipf_trace(10, 5, float("nan"), 0), "exponent = nan"),
        (lambda: zipf_trace(10, 5, 1.0, -1), "seed = -1; an integer from 0"),
        (lambda: zipf_trace(0, 5, 1.0, 0), "experts = 0"),
        (lambda: all_miss_trace(0, 5), "experts = 0"),
        (lambda: all_miss_trace(5, 2.0), "requests = 2.0"),
        (lambda: check_requests([]), r"not float64 of shape \(0,\)"),
        (lambda: check_requests([[1]]), r"of shape \(1, 1\)"),
        (lambda: check_requests([1.0]), "not float64"),
        (lambda: check_requests([3, -1]), "experts from -1 to 3; 0 to 4095"),
        (lambda: check_requests([4096]), "experts from 4096 to 4096"),
    ],
)
def test_refusals(call, part):
    with pytest.raises(InputError, match=part):
        call()
