"""Which memory primitives synthesis picks for the engine's memories."""

from dataclasses import replace

import pytest

from headrace.arch.tellme.engine import EngineSizes
from headrace.rtl.netlist import map_netlist
from headrace.rtl.tellme.accumulator import Accumulator
from headrace.rtl.tellme.buffer import WeightBuffer
from headrace.rtl.verilog import to_verilog

SIZES = EngineSizes(
    group_size=3,
    tables=15,
    copies=4,
    method="full",
    table_buffers=1,
    activation_lanes=1,
    block_gap=0,
    banks=2,
    words=4100,
    slots=1,
    packing="group",
    beat_bits=64,
    accumulator_bits=24,
    max_groups=100,
)


@pytest.mark.parametrize(
    ("banks", "tables", "words", "uram"),
    [
        # Two words per group: both ports read, one of them also writes. Banks as published.
        (2, 28, 10944, 2 * 3 * 2),
        # One word per group: a port reads, the other writes.
        (4, 15, 600, 4 * 1 * 2),
    ],
)
def test_a_bank_is_as_many_urams_as_hold_it(banks, tables, words, uram):
    """ceil(words / 4096) x ceil(5 tables / 72) each: no copy for the second read port."""
    sizes = replace(SIZES, banks=banks, tables=tables, words=words)
    counts = map_netlist(to_verilog(WeightBuffer(sizes), "weights"), "weights")
    assert (counts.uram, counts.bram36, counts.lutram) == (uram, 0, 0)


def test_accumulators_go_to_block_ram():
    """Four sums of 24 bits by 100 groups: ceil(96 / 36) halves of a block RAM."""
    counts = map_netlist(to_verilog(Accumulator(SIZES), "sums"), "sums")
    assert (counts.bram36, counts.lutram, counts.uram) == (1.5, 0, 0)


def test_few_accumulators_go_to_lut_ram():
    counts = map_netlist(to_verilog(Accumulator(replace(SIZES, max_groups=64)), "sums"), "sums")
    assert (counts.bram36, counts.uram) == (0, 0)
    assert counts.lutram > 0
