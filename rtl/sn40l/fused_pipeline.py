"""A fused pipeline of SN40L's units: product, factors, transpose, product."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring

from headrace.arch.sn40l.fused_pipeline import COMPUTE, MEMORIES, FusedPipelineSizes
from headrace.rtl.sn40l.compute_unit import ComputeUnit
from headrace.rtl.sn40l.memory_unit import MemoryUnit
from headrace.rtl.sn40l.multicast import Multicast

__all__ = ["FusedPipeline"]


class FusedPipeline(wiring.Component):
    """``second @ transpose((first @ x) * factors)`` of tiles x in turn, in chains of rows.

    Tiles go to the array of `first` in every chain; its sums times the factors are written by
    rows into the memory `scaled`, and read by columns into the array of `second`: the transpose
    is how it is read. All memories have two buffers, so that the chain works on several tiles.

    Parameters
    ----------
    sizes : FusedPipelineSizes

    Attributes
    ----------
    M_write, M_read : In stream
        Programs of the memory unit M: ``inputs``, ``second``, and ``first_c``, ``factors_c``,
        ``scaled_c`` of chain c.
    M_packets : In stream
        What is written into it; ``scaled_c`` has none.
    C_commands : In stream
        Commands of the compute unit C: ``gemm0_c``, ``multiply_c``, ``gemm1_c``.
    results_c : Out stream
        A bfloat16 per lane.
    """

    def __init__(self, sizes: FusedPipelineSizes) -> None:
        self.sizes = sizes
        chains = range(sizes.chains)
        self._memories = {
            name + end: MemoryUnit(sizes.memories[name])
            for name, own in MEMORIES.items()
            for end in ([f"_{chain}" for chain in chains] if own else [""])
        }
        self._compute = {
            f"{name}_{chain}": ComputeUnit(sizes.unit) for name in COMPUTE for chain in chains
        }
        members: dict[str, Any] = {}
        for name, memory in self._memories.items():
            ports = ("write", "read") if name.startswith("scaled") else ("write", "read", "packets")
            members |= {f"{name}_{port}": memory.signature.members[port] for port in ports}
        for name, unit in self._compute.items():
            members[f"{name}_commands"] = unit.signature.members["commands"]
        for chain in chains:
            end = self._compute[f"gemm1_{chain}"]
            members[f"results_{chain}"] = end.signature.members["results"]
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        for name, memory in self._memories.items():
            m.submodules[name] = memory
            m.d.comb += [memory.written.ready.eq(1), memory.drained.ready.eq(1)]
            for port in memory.signature.members:
                outer = getattr(self, f"{name}_{port}", None)
                if outer is not None:
                    wiring.connect(m, wiring.flipped(outer), getattr(memory, port))
        for name, unit in self._compute.items():
            m.submodules[name] = unit
            outer = getattr(self, f"{name}_commands")
            wiring.connect(m, wiring.flipped(outer), unit.commands)
        inputs, second = (self._multicast(m, name) for name in ("inputs", "second"))
        for chain in range(self.sizes.chains):
            sinks = [getattr(cast, f"sink_{chain}") for cast in (inputs, second)]
            self._chain(m, chain, *sinks)
        return m

    def _multicast(self, m: Module, name: str) -> Multicast:
        """Hand the vectors of a memory to all chains."""
        memory = self._memories[name]
        cast = Multicast(memory.results.payload.shape(), self.sizes.chains)
        m.submodules[f"{name}_multicast"] = cast
        wiring.connect(m, memory.results, cast.source)
        return cast

    def _chain(self, m: Module, chain: int, inputs: Any, second: Any) -> None:
        """Join the units of a chain."""
        gemm0, multiply, gemm1 = (self._compute[f"{name}_{chain}"] for name in COMPUTE)
        first, factors, scaled = (
            self._memories[f"{name}_{chain}"] for name in ("first", "factors", "scaled")
        )
        _join(m, inputs, gemm0.left)
        _join(m, first.results, gemm0.right)
        _join(m, gemm0.results, multiply.left)
        _join(m, factors.results, multiply.right)
        _join(m, multiply.results, scaled.packets)
        _join(m, scaled.results, gemm1.left)
        _join(m, second, gemm1.right)
        wiring.connect(m, gemm1.results, wiring.flipped(getattr(self, f"results_{chain}")))


def _join(m: Module, source: Any, sink: Any) -> None:
    """Join two streams of vectors, with sequence ids or without; spare words have no sink."""
    vector, numbers = (getattr(port.payload, "words", port.payload) for port in (source, sink))
    m.d.comb += [
        sink.valid.eq(source.valid),
        source.ready.eq(sink.ready),
        *[number.eq(vector[lane]) for lane, number in enumerate(numbers)],
    ]
