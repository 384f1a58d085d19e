"""Split products: exact for signed and unsigned factors, and as late as asked, with stalls."""

import random

import pytest
from amaranth.hdl import Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from headrace.rtl.ubimoe.product import split_product


class Product(wiring.Component):
    def __init__(self, a, b, stages):
        self.stages = stages
        super().__init__({"enable": In(1), "a": In(a), "b": In(b), "result": Out(signed(80))})

    def elaborate(self, platform):
        m = Module()
        product = split_product(m, self.a, self.b, self.stages, self.enable, "product")
        m.d.comb += self.result.eq(product)
        return m


def corners(shape):
    low, high = (
        (-(1 << (shape.width - 1)), 1 << (shape.width - 1))
        if shape.signed
        else (
            0,
            1 << shape.width,
        )
    )
    inner = {-1, 0, 1, (1 << 17) - 1, 1 << 17, -(1 << 17)}
    return [low, low + 1, high - 1, *(v for v in inner if low <= v < high)]


@pytest.mark.parametrize(
    "a, b, stages",
    [
        (signed(32), signed(24), 4),  # operand by exponential, sum by reciprocal
        (signed(32), unsigned(23), 2),  # the combine
        (unsigned(31), unsigned(23), 2),  # the gate
        (unsigned(31), signed(19), 1),
        (signed(32), signed(25), 3),  # the layer norm
        (signed(35), signed(27), 2),  # the largest ones
        (signed(28), signed(19), 1),  # the smallest ones that are cut
        (signed(16), signed(24), 2),  # one slice
        (signed(32), signed(32), 4),  # too wide for two
    ],
)
def test_product(a, b, stages):
    rng = random.Random(7)

    def drawn(shape):
        value = rng.getrandbits(shape.width)
        return value - (1 << shape.width) if shape.signed and value >> (shape.width - 1) else value

    pairs = [(x, y) for x in corners(a) for y in corners(b)]
    pairs += [(drawn(a), drawn(b)) for _ in range(300)]
    pairs += [(0, 0)] * stages  # let the last ones out
    product = Product(a, b, stages)
    simulator = Simulator(product)
    simulator.add_clock(1e-6)
    got = []

    async def bench(context):
        for x, y in pairs:
            context.set(product.a, x)
            context.set(product.b, y)
            while rng.randrange(3) == 0:
                context.set(product.enable, 0)
                await context.tick()
            context.set(product.enable, 1)
            got.append(context.get(product.result))
            await context.tick()

    simulator.add_testbench(bench)
    simulator.run()
    assert got[stages:] == [x * y for x, y in pairs[:-stages]]
