"""Floating-point operators of SN40L's compute unit against NumPy's float32, bit by bit.

A vector is two float32 and two bfloat16 numbers and a random number: two products, a sum, two
roundings, a reciprocal and an exponential. NumPy knows no bfloat16: rounding is held against sums
of integers and, on its own, against the nearest of all bfloat16 values.
"""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.floating import check_registers, check_significand, registered_steps
from headrace.errors import InputError
from headrace.rtl.sn40l.floating.add import FloatAdd
from headrace.rtl.sn40l.floating.exponential import Exponential
from headrace.rtl.sn40l.floating.multiply import FloatMultiply
from headrace.rtl.sn40l.floating.reciprocal import reciprocal
from headrace.rtl.sn40l.floating.rounding import RandomSource, bfloat16
from headrace.rtl.streams import StreamVectors, pack, run_regression, simulate_streams
from headrace.rtl.ubimoe.pipeline import delayed
from headrace.rtl.verilog import to_verilog

OPERANDS = {"left": 32, "right": 32, "short_left": 16, "short_right": 16, "random": 16}
RESULTS = {
    "product": 32,
    "short_product": 32,
    "total": 32,
    "nearest": 16,
    "by_chance": 16,
    "inverse": 16,
    "power": 16,
}
LANES, SWEEP = 2, 120_000
SPECIAL = [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC12345]


class Bench(wiring.Component):
    """All operators behind one stream."""

    def __init__(self, multiply, add):
        self.registers = multiply, add
        operands = data.StructLayout({k: unsigned(v) for k, v in OPERANDS.items()})
        results = data.StructLayout({k: unsigned(v) for k, v in RESULTS.items()})
        super().__init__(
            {
                "operands": In(stream.Signature(data.ArrayLayout(operands, LANES))),
                "results": Out(stream.Signature(data.ArrayLayout(results, LANES))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        multiply, add = self.registers
        go, latency = Signal(), max(self.registers)
        m.d.comb += go.eq(~self.results.valid | self.results.ready)
        m.d.comb += self.operands.ready.eq(go)
        there = delayed(m, self.operands.valid, latency, go, "valid", reset=True)
        m.d.comb += self.results.valid.eq(there)
        for lane in range(LANES):
            of, to = self.operands.payload[lane], self.results.payload[lane]
            long, short = FloatMultiply(24, multiply), FloatMultiply(8, multiply)
            adder, exponential = FloatAdd(add), Exponential()
            m.submodules += [long, short, adder, exponential]
            for part, left, right in (
                (long, of.left, of.right),
                (short, of.short_left, of.short_right),
                (adder, of.left, of.right),
            ):
                m.d.comb += [part.enable.eq(go), part.left.eq(left), part.right.eq(right)]
            m.d.comb += [exponential.enable.eq(go), exponential.number.eq(of.short_left)]
            found = {
                "product": (long.product, multiply),
                "short_product": (short.product, multiply),
                "total": (adder.total, add),
                "nearest": (bfloat16(of.left, 0, of.random), 0),
                "by_chance": (bfloat16(of.left, 1, of.random), 0),
                "inverse": (reciprocal(m, of.short_left, f"reciprocal_{lane}"), 0),
                "power": (exponential.result, 1),
            }
            for name, (value, registers) in found.items():
                value = delayed(m, value, latency - registers, go, f"{name}_{lane}")
                m.d.comb += to[name].eq(value)
        return m


def draw_patterns(rng, count):
    """Draw float32 patterns: all exponents, the extreme ones often, fractions with few ones."""
    exponent = rng.integers(0, 256, count)
    extreme = rng.choice([0, 0, 1, 2, 23, 24, 25, 126, 127, 128, 253, 254, 255], count)
    exponent = np.where(rng.integers(2, size=count) == 0, extreme, exponent)
    fraction = rng.integers(0, 1 << 23, count)
    few = (1 << 23) - (1 << rng.integers(0, 24, count)) & 0x7FFFFF
    fraction = np.choose(rng.integers(0, 4, count), [fraction, few, few ^ 0x7FFFFF, fraction])
    pattern = rng.integers(0, 2, count) << 31 | exponent << 23 | fraction
    special = rng.choice(SPECIAL, count) | rng.integers(0, 2, count) << 31
    return np.where(rng.integers(6, size=count) == 0, special, pattern)


def draw(rng, count):
    """Draw operands; a third of the second ones are near the first ones, to cancel."""
    left, right = draw_patterns(rng, count), draw_patterns(rng, count)
    near = left ^ 0x80000000
    near ^= rng.integers(0, 1 << 24, count) >> rng.integers(0, 25, count)
    far = (left & 0x7F800000) - (rng.integers(0, 28, count) << 23)
    far = np.maximum(far, 0) | (right & 0x807FFFFF)
    right = np.choose(rng.integers(0, 4, count), [right, near, far, right])
    halves = draw_patterns(rng, count) >> 16, draw_patterns(rng, count) >> 16
    return np.stack([left, right, *halves, rng.integers(0, 1 << 16, count)], axis=1)


def values(bits, shift=0):
    return (np.asarray(bits).astype(np.uint32) << np.uint32(shift)).view(np.float32)


def patterns(numbers):
    bits = numbers.view(np.uint32).astype(np.int64)
    return np.where(np.isnan(numbers), 0x7FC00000, bits)


def cut(bits, addend):
    total = bits + addend >> 16
    return np.where(np.isnan(values(bits)), 0x7FC0, total)


def reciprocals(short):
    """Return the bfloat16 next to 1 / x: in float64, none is a tie unless it is exact."""
    with np.errstate(all="ignore"):
        return nearest(1 / values(short, 16).astype(np.float64))


def exponentials(short):
    """Return the bfloat16 next to exp(-|x|), in float64."""
    with np.errstate(all="ignore"):
        return nearest(np.exp(-abs(values(short, 16).astype(np.float64))))


def nearest(exact):
    """Return the bfloat16 next to float64 numbers."""
    with np.errstate(all="ignore"):
        magnitude = abs(exact)
        _, exponent = np.frexp(np.where(np.isfinite(magnitude), magnitude, 0))
        unit = np.ldexp(1.0, np.maximum(exponent - 8, -133))
        rounded = (np.rint(magnitude / unit) * unit).astype(np.float32)
    bits = rounded.view(np.uint32).astype(np.int64) | np.signbit(exact).astype(np.int64) << 31
    return np.where(np.isnan(exact), 0x7FC0, bits >> 16)


def expected(operands):
    """Return what NumPy makes of the operands."""
    left, right, short_left, short_right, random = operands.T
    with np.errstate(all="ignore"):
        found = [
            patterns(values(left) * values(right)),
            patterns(values(short_left, 16) * values(short_right, 16)),
            patterns(values(left) + values(right)),
        ]
    near = cut(left, 0x7FFF + (left >> 16 & 1))
    functions = reciprocals(short_left), exponentials(short_left)
    return np.stack([*found, near, cut(left, random), *functions], axis=1)


def payloads(rows, fields):
    lowest = np.cumsum([0, *fields.values()])[:-1].tolist()
    words = [sum(int(v) << at for v, at in zip(row, lowest, strict=True)) for row in rows]
    return pack(np.array(words, object).reshape(-1, LANES), sum(fields.values()))


def vectors(operands, **more):
    return StreamVectors(
        {"operands": payloads(operands, OPERANDS)},
        {"results": payloads(expected(operands), RESULTS)},
        **more,
    )


@pytest.mark.parametrize(("multiply", "add"), [(4, 5), (1, 1), (2, 3)])
def test_operators_equal_numpy(multiply, add):
    wanted = vectors(draw(np.random.default_rng(multiply), 500 * LANES))
    assert simulate_streams(Bench(multiply, add), wanted).results == wanted.results


def test_all_pairs_of_specials():
    signed = [s | sign for s in SPECIAL for sign in (0, 1 << 31)]
    rows = [[a, b, a >> 16, b >> 16, 0xFFFF] for a, b in product(signed, signed)]
    rows += [rows[0]] * (-len(rows) % LANES)
    wanted = vectors(np.array(rows))
    assert simulate_streams(Bench(1, 1), wanted).results == wanted.results


def test_products_of_bfloat16_are_exact_where_they_are_normal():
    """So that a multiply-add has one rounding alone."""
    bits = draw(np.random.default_rng(3), 50_000)[:, 2:4]
    with np.errstate(all="ignore"):
        exact = values(bits[:, 0], 16).astype(float) * values(bits[:, 1], 16).astype(float)
        single = exact.astype(np.float32)
    normal = (abs(exact) >= 2.0**-126) & np.isfinite(single)
    assert normal.sum() > 10_000
    assert (single[normal] == exact[normal]).all()


def test_reciprocals_are_the_nearest():
    """The reference, against the errors of both neighbours, in fractions."""
    for pattern in [0x3F80, 0x4040, 0x0080, 0x0081, 0x7F00, 0x7E81, 0x7F7F, 0x0040, 0x1234, 0xC123]:
        found = int(reciprocals(np.array([pattern]))[0])
        exact = 1 / Fraction(float(values(pattern, 16)))
        errors = [abs(Fraction(float(values(found + d, 16))) - exact) for d in (-1, 0, 1)]
        assert errors[1] < min(errors[0], errors[2])
    assert reciprocals(np.array([0, 0x8000, 0xFF80, 0x0001])).tolist() == [
        0x7F80, 0xFF80, 0x8000, 0x7F80,
    ]  # fmt: skip


def test_exponentials_come_near_no_tie():
    """So float64 rounds right: its own error is 2^-52 or so of the value."""
    x = values(np.arange(0x3B00, 0x42BA), 16).astype(float)  # to 93
    exact = np.exp(-x)
    _, exponent = np.frexp(exact)
    places = np.ldexp(exact, -np.maximum(exponent - 8, -133))
    assert abs(abs(places - np.floor(places) - 0.5)).min() > 2.0**-40
    assert exponentials(np.array([0, 0x8000, 0xBF80, 0x3F80, 0xFF80, 0xC2BA])).tolist() == [
        0x3F80, 0x3F80, 0x3EBC, 0x3EBC, 0, 0,
    ]  # fmt: skip


def test_nearest_bfloat16_is_the_nearest():
    """The reference of the rounding, against the distances to all neighbours."""
    rng = np.random.default_rng(4)
    bits = draw_patterns(rng, 20_000) & 0x7FFFFFFF
    bits = bits[bits < 0x7F7F0000]
    below = bits >> 16
    lower, upper = (values(b, 16).astype(float) for b in (below, below + 1))
    here = values(bits).astype(float)
    down, up = here - lower, upper - here
    nearest = np.where((down < up) | ((down == up) & (below % 2 == 0)), below, below + 1)
    assert (cut(bits, 0x7FFF + (bits >> 16 & 1)) == nearest).all()


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_verilog_equals_numpy_under_stalls(simulator):
    stall = {"operands": 0.2, "results": 0.3}
    wanted = vectors(draw(np.random.default_rng(5), 100 * LANES), stall=stall)
    verilog = to_verilog(Bench(4, 5), "floating")
    done = run_regression(verilog, "floating", wanted, simulator)
    assert done.passed, done.message


@pytest.mark.slow
@pytest.mark.parametrize(("multiply", "add"), [(4, 5), (2, 2)])
def test_verilog_equals_numpy_on_many_patterns(multiply, add):
    operands = draw(np.random.default_rng(add), SWEEP)
    operands[: 1 << 16, 2] = np.arange(1 << 16)  # every reciprocal and exponential
    wanted = vectors(operands)
    verilog = to_verilog(Bench(multiply, add), "floating")
    done = run_regression(verilog, "floating", wanted, "verilator")
    assert done.passed, done.message


def test_random_numbers_have_the_full_period():
    """Every number but 0 once in 65,535 draws, each 16 steps of a shift register from the last."""

    def stepped(state):
        fresh = state >> 15 ^ state >> 14 ^ state >> 12 ^ state >> 3
        return (state << 1 | fresh & 1) & 0xFFFF

    from amaranth.sim import Simulator

    source = RandomSource()
    simulator = Simulator(source)
    simulator.add_clock(1e-6)
    seen, draws = [], 300

    async def bench(context):
        context.set(source.load, 1)
        context.set(source.seed, 0xACE1)
        await context.tick()
        context.set(source.load, 0)
        for cycle in range(2 * draws):
            context.set(source.draw, cycle % 2)
            if cycle % 2:
                seen.append(context.get(source.number))
            await context.tick()
        context.set(source.load, 1)
        context.set(source.seed, 0)
        await context.tick()
        assert context.get(source.number) == 1

    simulator.add_testbench(bench)
    simulator.run()
    state, states = 0xACE1, []
    for _ in range(65_535):
        states.append(state)
        for _ in range(16):
            state = stepped(state)
    assert state == 0xACE1
    assert sorted(states) == list(range(1, 65_536))
    assert seen == states[:draws]


def test_registers_are_spread_evenly():
    assert registered_steps(5, 5) == {1, 2, 3, 4, 5}
    assert registered_steps(5, 1) == {5}
    assert registered_steps(4, 2) == {2, 4}
    assert all(len(registered_steps(5, n)) == n for n in range(1, 6))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_registers("adder", 0, 5), "adder registers = 0 is not allowed: 1 to 5"),
        (lambda: check_registers("adder", 6, 5), "adder registers = 6 is not allowed: 1 to 5"),
        (lambda: check_significand(25), "significand = 25 is not allowed: 2 to 24 bits"),
    ],
)
def test_parameters_are_checked(check, message):
    with pytest.raises(InputError, match=message):
        check()
