"""Static memory of the SN40L: maps against exhaustive search, spills in the published order."""

from itertools import combinations

import numpy as np
import pytest

from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.models.network import load_network
from headrace.sim.sn40l.allocation import KINDS, Symbol, allocate, overlay
from headrace.sim.sn40l.sections import LEVELS, compile_pass
from headrace.sim.sn40l.symbols import symbols_of
from headrace.sim.sn40l.workload import Pass


def symbol(name, size, first, last, kind="activation", transfer=0):
    return Symbol(name=name, kind=kind, bytes=size, first=first, last=last, transfer_bytes=transfer)


def draw(rng, count, most=6, equal=False):
    calls = np.sort(rng.integers(0, 8, (count, 2)), axis=1).tolist()
    sizes = [3] * count if equal else rng.integers(1, most, count).tolist()
    return [symbol(f"s{i}", n, *life) for i, (n, life) in enumerate(zip(sizes, calls, strict=True))]


def live_together(a, b):
    return bool({*range(a.first, a.last + 1)} & {*range(b.first, b.last + 1)})


def peak_of(symbols):
    calls = range(max((s.last for s in symbols), default=0) + 1)
    return max(sum(s.bytes for s in symbols if s.first <= c <= s.last) for c in calls)


def check(symbols, tier):
    assert tier.peak == (peak_of(symbols) if symbols else 0)
    assert tier.height == max((tier.offsets[s.name] + s.bytes for s in symbols), default=0)
    assert tier.height >= tier.peak
    assert min(tier.offsets.values(), default=0) >= 0
    for a, b in combinations(symbols, 2):
        if live_together(a, b):
            low, high = sorted((a, b), key=lambda s: tier.offsets[s.name])
            assert tier.offsets[low.name] + low.bytes <= tier.offsets[high.name]


def lowest(symbols):
    """Search all offsets of all symbols for the lowest map."""
    for height in range(peak_of(symbols), sum(s.bytes for s in symbols) + 1):
        if _fits(symbols, [], height):
            return height
    raise AssertionError


def _fits(rest, placed, height):
    if not rest:
        return True
    new = rest[0]
    for offset in range(height - new.bytes + 1):
        clash = any(
            live_together(new, s) and offset < at + s.bytes and at < offset + new.bytes
            for at, s in placed
        )
        if not clash and _fits(rest[1:], [*placed, (offset, new)], height):
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_small_maps_are_the_lowest(seed):
    rng = np.random.default_rng(seed)
    symbols = draw(rng, int(rng.integers(1, 7)))
    tier = overlay(symbols)
    check(symbols, tier)
    assert tier.height == lowest(symbols)


def test_neither_simple_order_is_always_lowest():
    """A seventh symbol, which lives apart, leaves only the two simple orders."""
    symbols = next(
        s for s in (draw(np.random.default_rng(seed), 6, 9) for seed in range(5000))
        if overlay(s).height < overlay([*s, symbol("far", 1, 90, 90)]).height
    )  # fmt: skip
    assert overlay(symbols).height == lowest(symbols)


@pytest.mark.parametrize("seed", range(10))
def test_equal_sizes_reach_the_peak(seed):
    symbols = draw(np.random.default_rng(seed), 40, equal=True)
    tier = overlay(symbols)
    check(symbols, tier)
    assert tier.height == tier.peak


@pytest.mark.parametrize("seed", range(10))
def test_large_maps_do_not_overlap(seed):
    symbols = draw(np.random.default_rng(seed), 60, 50)
    tier = overlay(symbols)
    check(symbols, tier)
    assert tier.height <= 1.25 * tier.peak


def test_disjoint_lives_share_addresses():
    symbols = [symbol("a", 4, 0, 1), symbol("b", 6, 2, 3), symbol("c", 5, 4, 4)]
    assert overlay(symbols).offsets == {"a": 0, "b": 0, "c": 0}
    assert overlay([]).height == 0


SPILLS = [
    symbol("w1", 10, 0, 9, "weights", 10),
    symbol("w2", 20, 0, 9, "weights", 5),
    symbol("kv", 10, 0, 9, "cache", 1),
    symbol("a1", 10, 0, 9, "activation", 500),
    symbol("a2", 10, 0, 9, "activation", 400),
]


@pytest.mark.parametrize("room, gone", [
    (60, ()), (59, ("a2",)), (49, ("a2", "a1")), (39, ("a2", "a1", "kv")),
    (29, ("a2", "a1", "kv", "w2")), (9, ("a2", "a1", "kv", "w2", "w1")),
])  # fmt: skip
def test_order_of_spills(room, gone):
    """Activations first, weights last; of one kind the least transferred first."""
    found = allocate(SPILLS, room, 100)
    assert tuple(s.name for s in found.spilled) == gone
    assert found.hbm.height <= room
    assert {*found.hbm.offsets} | {*found.ddr.offsets} == {s.name for s in SPILLS}
    traffic = {s.name: s.transfer_bytes for s in SPILLS}
    assert found.spilled_transfer_bytes == sum(traffic[name] for name in gone)


@pytest.mark.parametrize("seed", range(10))
def test_no_symbol_spills_without_need(seed):
    """With the last one that spilled back in HBM it would not fit."""
    rng = np.random.default_rng(seed)
    symbols = [symbol(s.name, s.bytes, s.first, s.last, str(rng.choice(KINDS)),
                      int(rng.integers(0, 99))) for s in draw(rng, 6)]  # fmt: skip
    room = int(rng.integers(0, peak_of(symbols)))
    found = allocate(symbols, room, 1000)
    gone = [s.name for s in found.spilled]
    order = sorted(symbols, key=lambda s: (KINDS.index(s.kind), s.transfer_bytes, s.first, s.name))
    assert gone == [s.name for s in order[: len(gone)]]
    assert found.hbm.height <= room < lowest(order[len(gone) - 1 :])


def test_symbols_of_a_pass():
    work = Pass(network=load_network("llama-3-8b"), tokens=1, context=99, tensor_parallel=8)
    for level in LEVELS:
        program = compile_pass(work, ChipSizes(), level)
        symbols = symbols_of(program)
        assert sum(s.transfer_bytes for s in symbols) == program.hbm_bytes
        sizes = dict.fromkeys(KINDS, 0)
        for s in symbols:
            sizes[s.kind] += s.bytes
        assert sizes["cache"] == 32 * 100 * 2 * 128 * 2
        table, head = 128256 * 4096 * 2, 128256 // 8 * 4096 * 2  # every socket has the table
        layer = (4096 * (2 * 4096 + 2 * 1024 + 3 * 14336) // 8 + 2 * 4096) * 2
        assert sizes["weights"] == table + head + 32 * layer + 2 * 4096
        assert all(s.last - s.first == len(program.calls) - 1 for s in symbols
                   if s.kind != "activation")  # fmt: skip


@pytest.mark.parametrize("name", ["vit-small", "m3vit-tiny", "bitnet-b1.58-2b-4t"])
def test_symbols_carry_all_bytes(name):
    for level in LEVELS:
        program = compile_pass(Pass(network=load_network(name), tokens=197), ChipSizes(), level)
        assert sum(s.transfer_bytes for s in symbols_of(program)) == program.hbm_bytes


def test_lives_of_intermediate_results():
    """Layer 0 of a small network, without fusion: calls 1 to 19 after the embedding's."""
    work = Pass(network=load_network("vit-tiny"), tokens=50)
    program = compile_pass(work, ChipSizes(), "unfused")
    names = [k.names[0] for k in program.calls[2:17]]
    assert names == [
        "input_norm", "q_proj", "k_proj", "v_proj", "attention.scores", "attention.mask",
        "attention.softmax", "attention.values", "o_proj", "attention_residual",
        "post_attention_norm", "up_proj", "gelu", "down_proj", "ffn_residual",
    ]  # fmt: skip
    found = {s.name: s for s in symbols_of(program)}
    lives = {name: (s.first - 2, s.last - 2) for name, s in found.items()}
    assert lives["1.input_norm"] == (0, 3)
    assert lives["0.position_add"] == (-1, 9)  # the norm and the residual read it
    assert lives["1.k_proj"] == (2, 4)
    assert lives["1.v_proj"] == (3, 7)
    assert lives["1.attention_residual"] == (9, 14)
    assert lives["1.ffn_residual"] == (14, 15 + 9)
    residual = found["1.attention_residual"]
    assert residual.bytes == 50 * 192 * 2
    assert residual.transfer_bytes == 3 * residual.bytes  # written, read by norm and sum
    assert lives["13.classifier"][1] == len(program.calls) - 1 - 2


@pytest.mark.parametrize("facts, words", [
    ({"kind": "code"}, "kind"), ({"bytes": 0}, "bytes = 0"), ({"first": -1}, "first"),
    ({"last": 0, "first": 1}, "lives from call 1 to call 0"), ({"transfer_bytes": 2.5}, "transfer"),
    ({"bytes": 1 << 60}, "bytes"),
])  # fmt: skip
def test_symbols_that_are_refused(facts, words):
    good = {"name": "s", "kind": "cache", "bytes": 1, "first": 0, "last": 0, "transfer_bytes": 0}
    with pytest.raises(InputError, match=words) as refusal:
        Symbol(**(good | facts))
    assert "\n" not in str(refusal.value)


def test_other_refusals():
    twice = [symbol("a", 1, 0, 0), symbol("a", 1, 1, 1)]
    many = [symbol(f"s{i}", 1, i, i) for i in range(5000)]
    for symbols, hbm, ddr, words in (
        (SPILLS, 9, 10, "of DDR"),
        (SPILLS, -1, 10, "hbm_bytes"),
        (SPILLS, 10, 1.0, "ddr_bytes"),
        (twice, 10, 10, "given twice"),
        (many, 10, 10, "at most"),
    ):
        with pytest.raises(InputError, match=words):
            allocate(symbols, hbm, ddr)
