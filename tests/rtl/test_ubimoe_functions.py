"""The pipelined functions, on corners and random arguments, while `enable` comes and goes."""

import gc
import math
import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from headrace.arch.ubimoe.functions import (
    EXP_LATENCY,
    GELU_LATENCY,
    RECIP_LATENCY,
    RSQRT_LATENCY,
)
from headrace.errors import InputError
from headrace.models.kernels import fixed as reference
from headrace.rtl.ubimoe.functions import Exponential, Gelu, Reciprocal, RootReciprocal
from headrace.rtl.ubimoe.reciprocal import Divider
from headrace.rtl.ubimoe.root import SquareRoot

ONE = 1 << 22
COUNT = 5000


def rounded(value):
    """Round half up; a float so near a tie that its error could decide is no witness."""
    low = math.floor(value)
    assert value == low or abs(value - low - 0.5) > 1e-7
    return math.floor(value + 0.5)


COARSE = [rounded(ONE * math.exp(-i / 16)) for i in range(256)]
FINE = [rounded(ONE * math.exp(-i / 4096)) for i in range(256)]
BENDS = [rounded(ONE * i / 64 * math.erfc(i / 32 / math.sqrt(2))) for i in range(177)]


def exponential(x):
    if x >= 16 * ONE:
        return 0
    p = COARSE[x >> 18] * FINE[x >> 10 & 255] >> 22
    return p - (p * (x & 1023) >> 22)


def reciprocal(s):
    return 2**44 // s


def root_reciprocal(v):
    return min(2**44 // math.isqrt(max(v, 1) << 22), 2**31 - 1)


def gelu(x):
    size = abs(x)
    if size >= 11 * ONE // 2:
        return max(x, 0)
    i, f = divmod(size, 1 << 17)
    return max(x, 0) - (BENDS[i] + ((BENDS[i + 1] - BENDS[i]) * f >> 17))


def stream(component, arguments, seed=0):
    """Return the results that come `latency` enabled cycles after their arguments."""
    generator = random.Random(seed)
    seen = []

    async def bench(context):
        feed = [*arguments, *[arguments[0]] * component.latency]
        for argument in feed:
            context.set(component.argument, argument)
            context.set(component.enable, 1)
            seen.append(context.get(component.result))
            await context.tick()
            if generator.random() < 0.3:  # what stands still takes nothing
                context.set(component.enable, 0)
                context.set(component.argument, feed[len(seen) // 2])
                await context.tick().repeat(generator.randint(1, 3))

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen[component.latency :]


def around(points, low, high, reach=2):
    near = {p + offset for p in points for offset in range(-reach, reach + 1)}
    return sorted(p for p in near if low <= p <= high)


def drawn(bits, count, seed):
    """Return numbers whose sizes, not values, are spread evenly."""
    generator = random.Random(seed)
    return [generator.getrandbits(generator.randint(1, bits)) for _ in range(count)]


def powers(bits):
    return [1 << b for b in range(bits + 1)]


def test_exponential():
    points = [*powers(33), *(i << 18 for i in range(257)), *(i << 10 for i in range(257))]
    arguments = [*around(points, 0, 2**33 - 1, 1), *drawn(33, COUNT // 2, 1), *drawn(26, COUNT, 2)]
    component = Exponential()
    assert component.latency == EXP_LATENCY
    assert stream(component, arguments) == [exponential(x) for x in arguments]


def test_exponential_is_one_at_nought_and_near_the_exponential():
    arguments = [0, *(random.Random(3).randrange(16 * ONE) for _ in range(500))]
    results = stream(Exponential(), arguments)
    assert results[0] == ONE
    wrong = [abs(e / ONE - math.exp(-x / ONE)) for x, e in zip(arguments, results, strict=True)]
    assert max(wrong) < 3 / ONE


def test_reciprocal():
    points = [ONE * i for i in range(1, 512)] + powers(31)
    arguments = around(points, ONE, 2**31 - 1)
    arguments += [ONE + v for v in drawn(30, COUNT, 4)]
    component = Reciprocal()
    assert component.latency == RECIP_LATENCY
    assert stream(component, arguments) == [reciprocal(s) for s in arguments]


def test_root_reciprocal():
    squares = [i * i for i in (1, 2, 3, 1000, 4096, 32767, 46340)]
    arguments = around([-(2**31), 0, *powers(31), *squares], -(2**31), 2**31 - 1)
    arguments += drawn(31, COUNT, 5)
    arguments += [-v for v in drawn(31, 100, 6)]
    assert root_reciprocal(arguments[0]) == root_reciprocal(1) == 2**31 - 1
    component = RootReciprocal()
    assert component.latency == RSQRT_LATENCY
    assert stream(component, arguments) == [root_reciprocal(v) for v in arguments]


def test_gelu():
    points = [0, -(2**31), 2**31 - 1, *(i << 17 for i in range(180)), *powers(31)]
    points += [-p for p in points]
    arguments = around(points, -(2**31), 2**31 - 1)
    arguments += [sign * v for sign in (1, -1) for v in drawn(31, COUNT // 2, 7 + sign)]
    generator = random.Random(9)
    arguments += [generator.randint(-6 * ONE, 6 * ONE) for _ in range(COUNT)]
    component = Gelu()
    assert component.latency == GELU_LATENCY
    assert stream(component, arguments) == [gelu(x) for x in arguments]


def test_gelu_is_near_gelu():
    generator = random.Random(10)
    arguments = [generator.randint(-8 * ONE, 8 * ONE) for _ in range(500)]
    for x, result in zip(arguments, stream(Gelu(), arguments), strict=True):
        exact = x / ONE * (1 + math.erf(x / ONE / math.sqrt(2))) / 2
        assert abs(result / ONE - exact) < 1e-4


def test_reference_agrees():
    """The expected values above are also those of the reference."""
    wide = [*drawn(31, COUNT, 13), *(-v for v in drawn(31, COUNT, 14)), -(2**31), 0]
    costs, sums = drawn(33, COUNT, 15), [ONE + v for v in drawn(30, COUNT, 16)]
    for function, expected, arguments in [
        (lambda x: reference.exponential(-x), exponential, costs),
        (reference.reciprocal, reciprocal, sums),
        (reference.root_reciprocal, root_reciprocal, wide),
        (reference.gelu, gelu, wide),
    ]:
        results = function(np.array(arguments, np.int64))
        assert results.tolist() == [expected(argument) for argument in arguments]


@pytest.mark.parametrize(("divisor_bits", "quotient_bits"), [(31, 23), (27, 31), (20, 25), (5, 44)])
@pytest.mark.parametrize("bits_per_stage", [1, 2, 3, 5])
def test_divider_saturates_at_its_smallest_divisor(divisor_bits, quotient_bits, bits_per_stage):
    divider = Divider(divisor_bits, quotient_bits, bits_per_stage)
    smallest = 2 ** (44 - quotient_bits)
    arguments = around([smallest, *powers(divisor_bits)], smallest, 2**divisor_bits - 1)
    generator = random.Random(11)
    arguments += [generator.randint(smallest, 2**divisor_bits - 1) for _ in range(50)]
    assert divider.latency == math.ceil(quotient_bits / bits_per_stage)
    assert stream(divider, arguments) == [min(2**44 // s, 2**quotient_bits - 1) for s in arguments]


@pytest.mark.parametrize(
    ("argument_bits", "zeros", "bits_per_stage"),
    [(31, 22, 1), (31, 22, 2), (31, 22, 3), (8, 0, 1), (7, 0, 3), (1, 0, 1), (1, 4, 2), (2, 6, 3)],
)
def test_square_root(argument_bits, zeros, bits_per_stage):
    root = SquareRoot(argument_bits, zeros, bits_per_stage)
    whole = 2**argument_bits
    arguments = list(range(min(whole, 300))) + around(powers(argument_bits), 0, whole - 1)
    arguments += [v % whole for v in drawn(argument_bits, 100, 12)]
    assert root.latency == math.ceil(((argument_bits + zeros + 1) // 2) / bits_per_stage)
    assert stream(root, arguments) == [math.isqrt(v << zeros) for v in arguments]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Divider(31, 45), "quotient_bits = 45 is not allowed: 1 to 44"),
        (lambda: Divider(20, 23), "divisor_bits = 20 is not allowed: at least 22"),
        (lambda: Divider(31, 23, 0), "bits_per_stage = 0 is not allowed: 1 to 23"),
        (lambda: SquareRoot(0), "argument_bits = 0 is not allowed: at least 1"),
        (lambda: SquareRoot(8, 3), "zeros = 3 is not allowed: even, at least 0"),
        (lambda: SquareRoot(8, 0, 5), "bits_per_stage = 5 is not allowed: 1 to 4"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*created but never used")
def test_sizes_are_checked(build, message):
    with pytest.raises(InputError, match=message):
        build()
    gc.collect()  # else the components that never were warn in a later test
