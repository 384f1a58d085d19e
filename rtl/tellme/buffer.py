"""The banked weight buffer."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from headrace.arch.tellme.engine import EngineSizes

__all__ = ["WeightBuffer", "ram_style"]

_BLOCK_WORDS = 512  # words of a block RAM 72 bits wide
_DISTRIBUTED_WORDS = 64  # words of one LUT RAM cell


def ram_style(words: int) -> str:
    """Return the memory primitive for a memory of `words` words.

    ``distributed`` up to 64 words, ``block`` up to 512 and ``ultra`` beyond.
    """
    if words <= _DISTRIBUTED_WORDS:
        return "distributed"
    return "block" if words <= _BLOCK_WORDS else "ultra"


class WeightBuffer(wiring.Component):
    """Hold index vectors in banks with two ports.

    Port B of every bank reads. Port A, there if ``words_per_group`` >= 2, reads or writes at one
    address; with one word per group port A only writes. A vector that is read in cycle t is at
    `data_a` / `data_b` in cycle t + 1 and stays there until the next read.

    Resources: per bank ceil(words / 4096) x ceil(vector_bits / 72) URAM if words > 512, or fewer
    where synthesis puts several words side by side (`headrace.arch.tellme.engine_resources`).

    Parameters
    ----------
    sizes : EngineSizes

    Attributes
    ----------
    write, enable, write_address, write_data : In
        A write cycle; the banks written in it, their words and vectors. No read on port A then.
    read, address_a, address_b : In
        Read both ports of all banks.
    data_a, data_b : Out
        The vectors read, one per bank.
    """

    def __init__(self, sizes: EngineSizes) -> None:
        self.sizes = sizes
        address = unsigned(ceil_log2(sizes.words))
        vectors = data.ArrayLayout(unsigned(sizes.vector_bits), sizes.banks)
        super().__init__(
            {
                "write": In(1),
                "enable": In(sizes.banks),
                "write_address": In(data.ArrayLayout(address, sizes.banks)),
                "write_data": In(vectors),
                "read": In(1),
                "address_a": In(address),
                "address_b": In(address),
                "data_a": Out(vectors),
                "data_b": Out(vectors),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        for bank in range(sizes.banks):
            memory = Memory(
                shape=unsigned(sizes.vector_bits),
                depth=sizes.words,
                init=[],
                attrs={"ram_style": ram_style(sizes.words)},
            )
            m.submodules[f"bank_{bank}"] = memory
            writer, port_b = memory.write_port(), memory.read_port()
            m.d.comb += [
                writer.en.eq(self.enable[bank]),
                writer.addr.eq(self.write_address[bank]),
                writer.data.eq(self.write_data[bank]),
                port_b.en.eq(self.read),
                port_b.addr.eq(self.address_b),
                self.data_b[bank].eq(port_b.data),
            ]
            if sizes.words_per_group > 1:
                port_a = memory.read_port()
                with m.If(~self.write):
                    m.d.comb += writer.addr.eq(self.address_a)
                m.d.comb += [
                    port_a.addr.eq(writer.addr),
                    port_a.en.eq(self.read & ~self.enable[bank]),
                    self.data_a[bank].eq(port_a.data),
                ]
        return m
