"""Streams of the fused pipeline, and what has to come out: by the models' kernels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.arch.sn40l.compute_unit import ComputeUnitSizes
from headrace.arch.sn40l.fused_pipeline import COMPUTE, MEMORIES, FusedPipelineSizes
from headrace.models.kernels.bfloat import gemm_mul_transpose_gemm
from headrace.rtl.sn40l.vector_walk import program_layout
from headrace.rtl.streams import StreamVectors, pack


def short(add: int, multiply: int, lanes: int, stages: int) -> ComputeUnitSizes:
    return ComputeUnitSizes(
        lanes=lanes, stages=stages, add_registers=add, multiply_registers=multiply
    )


GRIDS = {
    "2x1, two chains": FusedPipelineSizes(
        unit=short(1, 1, 2, 1), chains=2, depth=5, rows=8, columns=4, outputs=7
    ),
    "2x2": FusedPipelineSizes(unit=short(1, 2, 2, 2), depth=5, rows=8, columns=4, outputs=6),
    "2x2, deep registers": FusedPipelineSizes(
        unit=short(5, 4, 2, 2), depth=4, rows=12, columns=12, outputs=4
    ),
    "4x2": FusedPipelineSizes(unit=short(1, 2, 4, 2), depth=6, rows=8, columns=8, outputs=6),
    "2x3, two chains": FusedPipelineSizes(
        unit=short(2, 1, 2, 3), chains=2, depth=7, rows=12, columns=6, outputs=9
    ),
    "4x4": FusedPipelineSizes(unit=short(1, 1, 4, 4), depth=8, rows=8, columns=8, outputs=8),
}


def wide(bits: Any) -> Any:
    """Return float32 values of bfloat16 patterns."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def draw(rng: Any, shape: Any, wild: float, exponent: int = 0) -> Any:
    """Draw bfloat16 patterns near 2^exponent; a share `wild` anything, zeros and infinities too."""
    tame = rng.integers(122, 132, shape) + exponent << 7 | rng.integers(0, 128, shape)
    special = rng.choice([0, 1, 0x7F, 0x80, 0x7F7F, 0x7F80, 0x7FC0, 0x100], shape)
    other = np.where(rng.integers(2, size=shape), special, rng.integers(0, 0x7F80, shape))
    bits = np.where(rng.random(shape) < wild, other, tame)
    return bits | rng.integers(0, 2, shape) << 15


@dataclass
class Batches:
    """Batches of random tiles, and their streams."""

    sizes: FusedPipelineSizes
    tiles: tuple[int, ...]
    streams: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)

    def names(self, name: str) -> list[str]:
        own = MEMORIES.get(name, True)
        return [f"{name}_{chain}" for chain in range(self.sizes.chains)] if own else [name]

    def add(self, name: str, items: list[int]) -> None:
        self.streams.setdefault(name, []).extend(items)

    def add_programs(self) -> None:
        sizes = self.sizes
        for batch in sizes.programs(self.tiles):
            for name, memory in sizes.memories.items():
                for port, program in (("write", batch.write[name]), ("read", batch.read[name])):
                    fields = program.fields(memory)
                    if port == "read":
                        del fields["sequence_stride"]
                    layout = program_layout(memory, sequenced=port == "write")
                    for unit in self.names(name):
                        self.add(f"{unit}_{port}", [layout.const(fields).as_value().value])
            for name in COMPUTE:
                for unit in self.names(name):
                    word = batch.compute[name].word(sizes.unit.stages)
                    self.add(f"{unit}_commands", [word])

    def add_words(self, name: str, kind: str, words: Any) -> None:
        """Add a matrix as the vectors of its memory."""
        banks, flat = self.sizes.memories[kind].banks, words.ravel()
        flat = np.pad(flat, (0, -flat.size % banks))
        self.add(f"{name}_packets", pack(flat.reshape(-1, banks).tolist(), 16))

    def add_batch(self, rng: Any, tiles: int, wild: float, small: bool) -> None:
        """Add random operands and tiles; products and sums of small ones are subnormal."""
        sizes = self.sizes
        low = -70 if small else 0
        share = sizes.share
        first = draw(rng, (sizes.rows, sizes.depth), wild / sizes.depth, low)
        factors = draw(rng, (sizes.rows, sizes.columns), wild / sizes.columns)
        second = draw(rng, (sizes.outputs, sizes.columns), wild / sizes.columns)
        self.add_words("second", "second", second.T)
        for chain in range(sizes.chains):
            rows = slice(chain * share, (chain + 1) * share)
            self.add_words(f"first_{chain}", "first", first[rows].T)
            self.add_words(f"factors_{chain}", "factors", factors[rows])
        for _ in range(tiles):
            x = draw(rng, (sizes.depth, sizes.columns), wild / sizes.depth, low)
            self.add_words("inputs", "inputs", x)
            whole = gemm_mul_transpose_gemm(*map(wide, (x, first, factors, second)))
            self.add_results(whole.view(np.uint32) >> np.uint32(16))

    def add_results(self, whole: Any) -> None:
        """Add what is expected, (outputs, rows): by chains, and tiles of rows."""
        sizes = self.sizes
        unit = sizes.unit
        parts = whole.reshape(sizes.outputs, sizes.chains, -1, unit.interleave, unit.lanes)
        for chain, part in enumerate(parts.transpose(1, 2, 0, 3, 4)):
            beats = pack(part.reshape(-1, unit.lanes).tolist(), 16)
            self.results.setdefault(f"results_{chain}", []).extend(beats)

    def vectors(self, **more: Any) -> StreamVectors:
        return StreamVectors(self.streams, self.results, **more)


def made(sizes: FusedPipelineSizes, tiles: tuple[int, ...], seed: int, wild: float) -> Batches:
    """Return random batches of so many tiles each, every second one of small numbers."""
    rng = np.random.default_rng(seed)
    batches = Batches(sizes, tiles)
    batches.add_programs()
    for number, count in enumerate(tiles):
        batches.add_batch(rng, count, wild, number % 2 == 1)
    return batches
