"""Sizes of the ternary matmul engine that follow from a point.

RTL, HLS and timing graph are all built from these numbers; see docs/engine.md for the
machine they describe.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from headrace.arch.point import Point
from headrace.arch.tellme.axes import index_bits
from headrace.arch.tree import TREE_LEVELS_PER_STAGE

__all__ = ["NORM_BITS", "EngineSizes", "engine_sizes"]

NORM_BITS = 16  # one FP16 norm weight rides in every beat of the published packing


@dataclass(frozen=True, kw_only=True)
class EngineSizes:
    """Sizes of one ternary matmul engine (kernel ``ternary_matmul``).

    Parameters
    ----------
    group_size, tables, copies, method, table_buffers, activation_lanes, block_gap : int or str
        G, T, Q, ``naive | half | full``, and the axes of the same names.
    banks, words, slots : int
        Weight buffer: banks, words per bank over all slots, slots.
    packing : str
        ``beat`` or ``group``.
    beat_bits, accumulator_bits, max_groups : int
        Bits of a weight beat; bits of an accumulator; output groups of Q that the accumulator
        memory holds.
    """

    group_size: int
    tables: int
    copies: int
    method: str
    table_buffers: int
    activation_lanes: int
    block_gap: int
    banks: int
    words: int
    slots: int
    packing: str
    beat_bits: int
    accumulator_bits: int
    max_groups: int

    @property
    def index_bits(self) -> int:
        """Bits of one weight index, ceil(log2 3^G)."""
        return int(index_bits(self.group_size))

    @property
    def vector_bits(self) -> int:
        """Bits of one index vector, the T indices of one output in one row block."""
        return self.tables * self.index_bits

    @property
    def block_inputs(self) -> int:
        """Inputs of one row block, G x T."""
        return self.group_size * self.tables

    @property
    def entry_bits(self) -> int:
        """Bits of a signed table entry, 8 + ceil(log2 G): 8, 9, 10, 10, 11."""
        return 8 + (self.group_size - 1).bit_length()

    @property
    def build_cycles(self) -> int:
        """Entries written per table and row block, one per cycle; entry 0 is always 0."""
        states: int = 3**self.group_size
        return {"naive": 0, "half": (states - 1) // 2, "full": states - 1}[self.method]

    @property
    def read_cycles(self) -> int:
        """Activation transfers per row block."""
        return ceil(self.block_inputs / self.activation_lanes)

    @property
    def words_per_group(self) -> int:
        """Words of each bank that hold the Q vectors of one output group."""
        return self.copies // self.banks

    @property
    def lookup_cycles(self) -> int:
        """Cycles per output group: both ports of every bank read one word each."""
        return max(1, ceil(self.words_per_group / 2))

    @property
    def slot_words(self) -> int:
        """Words of each bank in one slot."""
        return self.words // self.slots

    @property
    def vectors_per_beat(self) -> int:
        """Index vectors in one beat of the ``beat`` packing, 5 in the paper (with floor)."""
        return (self.beat_bits - NORM_BITS) // self.vector_bits

    @property
    def beats_per_group(self) -> int:
        """Beats that hold one output group in the ``group`` packing."""
        return ceil(self.copies * self.vector_bits / self.beat_bits)

    @property
    def tree_stages(self) -> int:
        """Registers of the adder tree, one after every second level and one after the last."""
        return ceil((self.tables - 1).bit_length() / TREE_LEVELS_PER_STAGE)

    @property
    def pipeline_cycles(self) -> int:
        """Cycles from the issue of a group to its accumulation, 3 + tree_stages."""
        return 3 + self.tree_stages

    @property
    def front_cycles(self) -> int:
        """Cycles of the front end per row block: gap, read and build."""
        return self.block_gap + self.read_cycles + self.build_cycles

    def drain_cycles(self, groups: int) -> int:
        """Cycles from the last issued lookup of a token to the cycle after its last result."""
        return self.pipeline_cycles + 1 + groups

    def row_beats(self, groups: int) -> int:
        """Beats of one row block of `groups` output groups; rows start at a new beat."""
        if self.packing == "group":
            return groups * self.beats_per_group
        return ceil(groups * self.copies / self.vectors_per_beat)

    def load_cycles(self, rows: int, groups: int) -> int:
        """Cycles from an accepted load to the first cycle in which its compute can be accepted.

        All beats are there in time and no lookup needs port A: a beat takes max(1, c) cycles for
        its c `write_cycles`, and acceptance and the last write one each.
        """
        interval = [max(1, cycles) for cycles in write_cycles(self)]
        beats = rows * self.row_beats(groups)
        return beats // len(interval) * sum(interval) + 2

    def row_blocks(self, inputs: int) -> int:
        """Row blocks that cover `inputs` inputs."""
        return ceil(inputs / self.block_inputs)


def write_cycles(sizes: EngineSizes) -> tuple[int, ...]:
    """Return the write cycles of each beat; the pattern repeats over the beats of a load.

    A beat of the ``beat`` packing fills each bank ceil(V / B) times. With ``group`` packing a
    word of all banks is written once its last bit has arrived, so that beat b of a group
    completes floor((b + 1) beat_bits / word bits) words less those of the beats before it.
    """
    if sizes.packing == "beat":
        return (ceil(sizes.vectors_per_beat / sizes.banks),)
    word_bits = sizes.banks * sizes.vector_bits
    done = [
        min(sizes.words_per_group, beats * sizes.beat_bits // word_bits)
        for beats in range(sizes.beats_per_group + 1)
    ]
    return tuple(after - before for before, after in pairwise(done))


def engine_sizes(point: Point) -> EngineSizes:
    """Return the engine's sizes at `point`."""
    copies = point.integer("copies")
    return EngineSizes(
        group_size=point.integer("group_size"),
        tables=point.integer("tables"),
        copies=copies,
        method=point.text("lookup_method"),
        table_buffers=point.integer("table_buffers"),
        activation_lanes=point.integer("activation_lanes"),
        block_gap=point.integer("block_gap_cycles"),
        banks=point.integer("weight_banks"),
        words=point.integer("weight_words"),
        slots=point.integer("weight_slots"),
        packing=point.text("weight_packing"),
        beat_bits=point.integer("weight_ports") * point.integer("port_bits"),
        accumulator_bits=point.integer("accumulator_bits"),
        max_groups=ceil(point.integer("max_outputs") / copies),
    )
