"""Resources of the row memories between UbiMoE's kernels, and of what fits beats to each other."""

from functools import lru_cache

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.fabric import Terms, fitted, log_bits, multiplexer
from headrace.arch.ubimoe.formats import WIDE_BITS, Formats
from headrace.arch.ubimoe.memory_blocks import memory_blocks
from headrace.arch.ubimoe.row_memory import RowMemorySizes

__all__ = [
    "commands_resources",
    "group_walker_resources",
    "group_walker_terms",
    "narrowing_resources",
    "repack_resources",
    "repack_terms",
    "row_memory_blocks",
    "row_reader_resources",
    "row_reader_terms",
]

_COUNT_BITS = 16  # of rows
_HANDSHAKE = 4  # LUTs of a count up to eight and of valid and ready


def row_memory_blocks(sizes: RowMemorySizes) -> Resources:
    """Return what the memory takes: LUT RAM or block RAM, as the mapper likes."""
    return memory_blocks(sizes.word_bits, max(2, sizes.words), "auto")


def row_reader_terms(sizes: RowMemorySizes, lanes: int | None = None) -> Terms:
    """Return LUTs and flip-flops of a `RowReader` beside its memory."""
    address, tile = log_bits(max(2, sizes.words)), log_bits(sizes.tiles)
    terms = {
        "reader": Resources(lut=2 * address + tile, ff=3 + _COUNT_BITS + address + tile),
        "reader_control": Resources(lut=1),
    }
    if lanes is not None:
        steps = log_bits(lanes) + 2 * _COUNT_BITS
        terms["steps"] = Resources(lut=1, ff=steps)
        # With one lane the last row is the last of a pass: no other lane's end is looked for.
        terms["other_lanes"] = Resources(lut=float(lanes > 1))
    return terms


@lru_cache(maxsize=4096)
def row_reader_resources(sizes: RowMemorySizes, lanes: int | None = None) -> Resources:
    """Return the resources of a memory of rows and its reader, for an attention of `lanes`."""
    return row_memory_blocks(sizes) + fitted("rows", row_reader_terms(sizes, lanes))


def group_walker_terms(sizes: RowMemorySizes, parts: int = 1) -> Terms:
    """Return LUTs and flip-flops of a `GroupWalker`."""
    address = log_bits(max(2, sizes.words))
    places = log_bits(sizes.tiles) + log_bits(max(2, sizes.lanes)) + log_bits(parts)
    # A lane of one bit is the carry of the other two parts of an address.
    sums = 2 + (sizes.lanes > 2)
    return {
        "walker": Resources(lut=2 * _COUNT_BITS + sums * address, ff=2 * _COUNT_BITS + address),
        "walker_control": Resources(lut=1, ff=places + 1),
    }


@lru_cache(maxsize=4096)
def group_walker_resources(sizes: RowMemorySizes, parts: int = 1) -> Resources:
    """Return the resources of a `GroupWalker` over so many memories."""
    return fitted("rows", group_walker_terms(sizes, parts))


def narrowing_resources(formats: Formats, values: int) -> Resources:
    """Return what narrows wide values to operands: nothing, or their saturation."""
    if not formats.saturates:
        return Resources()
    tests = -(-(WIDE_BITS - formats.operand_shift - formats.operand_bits) // 5)
    return Resources(lut=values * (formats.operand_bits + tests))


def repack_terms(source_bits: int, sink_bits: int) -> Terms:
    """Return LUTs and flip-flops of a `Repack`."""
    narrow, wide = sorted((source_bits, sink_bits))
    parts = wide // narrow
    count = log_bits(parts)
    choice, held = 0.0, 0
    if source_bits > sink_bits:
        choice = narrow * multiplexer(parts)
    else:
        held = wide - narrow
    return {
        "repack_choice": Resources(lut=choice),
        "repack": Resources(lut=_HANDSHAKE, ff=count + held),
    }


@lru_cache(maxsize=4096)
def repack_resources(source_bits: int, sink_bits: int) -> Resources:
    """Return the resources of beats of one width as beats of another, none if they are equal."""
    if source_bits == sink_bits:
        return Resources()
    return fitted("rows", repack_terms(source_bits, sink_bits))


def commands_resources(sinks: int, payload_bits: int) -> Resources:
    """Return what hands a command on to so many kernels (`issue_to_all`)."""
    return Resources(lut=2 * sinks, ff=sinks + payload_bits)
