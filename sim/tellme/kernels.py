"""Times of TeLLMe's units in closed form."""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

from headrace.arch.calibration import constant
from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.sim.tellme.formulas import (
    FP16_LANES,
    decode_key_cycles,
    engine_cycles,
    load_cycles,
    norm_cycles,
    prefill_score_cycles,
    prefill_steps,
    prefill_update_cycles,
)
from headrace.sim.tellme.mapping import MemoryRates, Shape

__all__ = ["ClosedForm", "Kernels", "Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Cycles that a unit needs once its inputs are there: fill + steady + drain + stall."""

    fill: int
    steady: int
    drain: int = 0
    stall: int = 0

    @property
    def cycles(self) -> int:
        """Sum of the terms."""
        return self.fill + self.steady + self.drain + self.stall


class Kernels(Protocol):
    """Times of the units of one point on one network."""

    def load(self, rows: int, groups: int) -> int:
        """Cycles to bring `rows` row blocks of `groups` output groups into the weight buffer."""
        ...

    def linear(self, rows: int, groups: int, tokens: int) -> Work:
        """Ternary matmul of `tokens` tokens on one resident tile."""
        ...

    def norm(self, tokens: int, width: int) -> Work:
        """RMS-MAX of `tokens` rows of `width` values."""
        ...

    def prefill_attention(self, tokens: int) -> Work:
        """Causal attention of `tokens` tokens among themselves."""
        ...

    def decode_attention(self, tokens: int) -> Work:
        """Attention of one query over `tokens` keys."""
        ...

    def attention_bytes(self, tokens: int, context: int) -> int:
        """Bytes of keys and values read from memory and written to it."""
        ...


class ClosedForm:
    """The analytic fidelity of `Kernels`."""

    def __init__(self, point: Point, shape: Shape, rates: MemoryRates):
        self.point, self.shape, self.rates = point, shape, rates
        self.sizes = engine_sizes(point)

    def load(self, rows: int, groups: int) -> int:
        """Cycles to bring `rows` row blocks of `groups` output groups into the weight buffer."""
        sizes, rates = self.sizes, self.rates
        return load_cycles(
            rows * sizes.row_beats(groups) * sizes.beat_bits // 8,
            rates.weight_bytes_per_cycle,
            rates.port.read_latency_cycles,
            sizes.load_cycles(rows, groups),
        )

    def linear(self, rows: int, groups: int, tokens: int) -> Work:
        """Ternary matmul of `tokens` tokens on one resident tile."""
        sizes = self.sizes
        total = engine_cycles(
            rows,
            sizes.front_cycles,
            groups * sizes.lookup_cycles,
            sizes.drain_cycles(groups),
            tokens,
            sizes.table_buffers,
        )
        return engine_work(sizes, total, rows, groups, tokens)

    def norm(self, tokens: int, width: int) -> Work:
        """RMS-MAX of `tokens` rows of `width` values."""
        total = norm_cycles(tokens, width)
        steady = norm_cycles(tokens - 2, width)
        return Work(fill=total - steady, steady=steady)

    def step_cycles(self) -> tuple[int, int]:
        """Cycles of the score loop and of the update loop of one key step."""
        point, shape = self.point, self.shape
        lanes = point.integer("prefill_lanes")
        scores = prefill_score_cycles(
            shape.heads,
            shape.head_vectors,
            shape.kv_vectors,
            lanes,
            point.integer("prefill_adders"),
            self.rates.vector_interval,
        )
        updates = prefill_update_cycles(
            shape.heads,
            shape.head_vectors,
            shape.kv_vectors,
            lanes,
            point.integer("prefill_pv_units"),
            self.rates.vector_interval,
            constant("tellme.softmax_cycles"),
        )
        return scores, updates

    def key_steps(self, tokens: int) -> int:
        """Key steps of prefill attention."""
        is_reversed = self.point.text("prefill_order") == "reversed"
        return prefill_steps(tokens, self.point.integer("prefill_lanes"), is_reversed)

    def prefill_attention(self, tokens: int) -> Work:
        """Causal attention of `tokens` tokens among themselves."""
        return Work(fill=0, steady=self.key_steps(tokens) * sum(self.step_cycles()))

    def key_cycles(self) -> float:
        """Cycles per key, and again per value, of decode attention."""
        return decode_key_cycles(
            self.shape.heads * self.shape.head_vectors,
            self.shape.kv_vectors,
            self.point.integer("decode_lanes"),
            self.point.integer("kv_ports"),
            self.rates.vector_interval,
        )

    def decode_attention(self, tokens: int) -> Work:
        """Attention of one query over `tokens` keys."""
        return Work(fill=0, steady=2 * ceil(tokens * self.key_cycles()))

    def attention_bytes(self, tokens: int, context: int) -> int:
        """Bytes of keys and values read from memory and written to it."""
        vector_bytes = 2 * FP16_LANES
        reads = context + tokens if context else self.key_steps(tokens)
        return 2 * (reads + tokens) * self.shape.kv_vectors * vector_bytes


def engine_work(sizes: EngineSizes, total: int, rows: int, groups: int, tokens: int) -> Work:
    """Split the engine's cycles: lookups are steady, results drain, exposed gaps stall."""
    steady = tokens * rows * groups * sizes.lookup_cycles
    drain = tokens * groups
    stall = tokens * rows * sizes.block_gap if sizes.table_buffers == 1 else 0
    return Work(fill=total - steady - drain - stall, steady=steady, drain=drain, stall=stall)
