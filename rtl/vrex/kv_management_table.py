"""Where the offloaded tokens of every cluster are: its extents, one after another."""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.kv_management import NUMBER_BITS, KvManagementSizes

__all__ = ["ExtentTable", "entry_layout"]


def entry_layout(sizes: KvManagementSizes) -> data.StructLayout:
    """Return the layout of a cluster's entry: `tokens` (16), `first` and `last` extent."""
    extent = unsigned(sizes.extent_bits)
    return data.StructLayout({"tokens": unsigned(NUMBER_BITS), "first": extent, "last": extent})


class ExtentTable(wiring.Component):
    """An entry for each cluster and the successor of each extent, of all layers.

    Parameters
    ----------
    sizes : KvManagementSizes

    Attributes
    ----------
    read, row : In
        Read the entry of a cluster.
    entry : Out
        That of the read before this cycle, even if it was being written.
    write, written, new : In
        Set the entry of cluster `written`.
    follow, extent : In
        Read the successor of an extent.
    following : Out
        That of the read before this cycle.
    link, linked, successor : In
        Set the successor of extent `linked`.
    """

    def __init__(self, sizes: KvManagementSizes) -> None:
        self.sizes = sizes
        entry = entry_layout(sizes)
        super().__init__(
            {
                "read": In(1),
                "row": In(sizes.row_bits),
                "entry": Out(entry),
                "write": In(1),
                "written": In(sizes.row_bits),
                "new": In(entry),
                "follow": In(1),
                "extent": In(sizes.extent_bits),
                "following": Out(sizes.extent_bits),
                "link": In(1),
                "linked": In(sizes.extent_bits),
                "successor": In(sizes.extent_bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.entries = entries = Memory(
            shape=entry_layout(sizes), depth=sizes.layers * sizes.clusters, init=[]
        )
        write = entries.write_port()
        read = entries.read_port(transparent_for=[write])
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(self.written),
            write.data.eq(self.new),
            read.en.eq(self.read),
            read.addr.eq(self.row),
            self.entry.eq(read.data),
        ]
        m.submodules.successors = successors = Memory(
            shape=unsigned(sizes.extent_bits), depth=sizes.layers * sizes.extents, init=[]
        )
        link, follow = successors.write_port(), successors.read_port()
        m.d.comb += [
            link.en.eq(self.link),
            link.addr.eq(self.linked),
            link.data.eq(self.successor),
            follow.en.eq(self.follow),
            follow.addr.eq(self.extent),
            self.following.eq(follow.data),
        ]
        return m
