"""V-Rex's hash-cluster unit: tokens join the nearest cluster, or open one."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.hash_cluster import COUNT_BITS, HashClusterSizes
from headrace.rtl.vrex.cluster_memory import ClusterMemory
from headrace.rtl.vrex.nearest_code import NearestCode

__all__ = ["HashCluster", "assignment_layout", "row_layout"]


def row_layout(sizes: HashClusterSizes) -> Any:
    """Return the layout of a row of the table: `code`, `count` (16)."""
    return data.StructLayout({"code": unsigned(sizes.code_bits), "count": unsigned(COUNT_BITS)})


def assignment_layout() -> Any:
    """Return the layout of an assignment.

    `token` (16), `cluster` (16), `new` (1), `forced` (1), `count` (16).
    """
    number = unsigned(COUNT_BITS)
    return data.StructLayout(
        {
            "token": number,
            "cluster": number,
            "new": unsigned(1),
            "forced": unsigned(1),
            "count": number,
        }
    )


class HashCluster(wiring.Component):
    """Sort the tokens of a frame into the clusters of a layer by their hash codes.

    A token is compared with all clusters, `accumulators` of them in `beats` cycles. If the
    smallest distance is below the threshold it joins that cluster, the oldest of equals;
    otherwise it opens a cluster with its code. A full table opens none: the token is forced into
    the nearest.

    Parameters
    ----------
    sizes : HashClusterSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16), `rows` (16), `clear` (1): forget the clusters if `clear`, append `rows` rows
        of `table`, then sort so many tokens. Either number may be 0.
    table : In stream
        `row_layout`: the clusters of a layer, the oldest first.
    codes : In stream
        Hash code of every token; up to `frame_tokens` are taken ahead of their command.
    assignments : Out stream
        `assignment_layout`, for every token: its number within the command, its cluster, whether
        it opened it, whether it was forced into it, and the cluster's tokens with this one.
    """

    def __init__(self, sizes: HashClusterSizes) -> None:
        self.sizes = sizes
        command = data.StructLayout(
            {"tokens": unsigned(COUNT_BITS), "rows": unsigned(COUNT_BITS), "clear": unsigned(1)}
        )
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "table": In(stream.Signature(row_layout(sizes))),
                "codes": In(stream.Signature(unsigned(sizes.code_bits))),
                "assignments": Out(stream.Signature(assignment_layout())),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.nearest = nearest = NearestCode(sizes)
        m.submodules.memory = memory = ClusterMemory(sizes)
        decide, far, opens = Signal(), Signal(), Signal()
        code = self._sequence(m, nearest, memory, decide)
        m.d.comb += [
            far.eq(nearest.distance >= sizes.threshold),
            opens.eq(far & ~memory.full),
            memory.append.eq((decide & opens) | (self.table.valid & self.table.ready)),
            memory.code.eq(Mux(decide, code, self.table.payload.code)),
        ]
        self._assign(m, nearest, memory, decide, far, opens)
        return m

    def _sequence(
        self, m: Module, nearest: NearestCode, memory: ClusterMemory, decide: Signal
    ) -> Signal:
        """Load rows, then scan the groups for one token after another; return its code."""
        sizes = self.sizes
        code = Signal(sizes.code_bits)
        group, following = Signal(sizes.cluster_bits), Signal(sizes.cluster_bits)
        beat = Signal.like(nearest.beat)
        m.d.comb += [
            nearest.code.eq(code),
            nearest.codes.eq(memory.codes),
            nearest.clusters.eq(memory.clusters),
            nearest.group.eq(group),
            nearest.beat.eq(beat),
            memory.group.eq(following),
        ]
        with m.If(memory.read):
            m.d.sync += group.eq(following)
        idle = Signal()
        taken = self._take(m, memory, idle, code)
        with m.FSM():
            with m.State("NEXT"):
                m.d.comb += [idle.eq(1), nearest.start.eq(1), memory.read.eq(1)]
                with m.If(taken):
                    m.next = "SCAN"
                    with m.If(memory.clusters == 0):
                        m.next = "COMPARE"
            with m.State("SCAN"):
                m.d.comb += nearest.active.eq(1)
                m.d.sync += beat.eq(beat + 1)
                with m.If(beat == sizes.beats - 1):
                    m.d.sync += beat.eq(0)
                    m.d.comb += [memory.read.eq(1), following.eq(group + 1)]
                    with m.If((following << sizes.lane_bits) >= memory.clusters):
                        m.next = "COMPARE"
            with m.State("COMPARE"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.d.comb += decide.eq(~self.assignments.valid | self.assignments.ready)
                with m.If(decide):
                    m.next = "NEXT"
        return code

    def _take(self, m: Module, memory: ClusterMemory, idle: Signal, code: Signal) -> Signal:
        """Take a command, its rows, and its tokens' codes while `idle`; return whether a code."""
        buffer = fifo.SyncFIFO(width=self.sizes.code_bits, depth=self.sizes.frame_tokens)
        m.submodules.buffer = buffer
        wiring.connect(m, wiring.flipped(self.codes), buffer.w_stream)
        rows, tokens = Signal(COUNT_BITS), Signal(COUNT_BITS)
        command, taken = self.command.payload, Signal()
        loading, sorting = rows != 0, tokens != 0
        m.d.comb += [
            self.command.ready.eq(idle & ~loading & ~sorting),
            self.table.ready.eq(loading),
            buffer.r_en.eq(idle & ~loading & sorting),
            taken.eq(buffer.r_en & buffer.r_rdy),
            memory.clear.eq(self.command.valid & self.command.ready & command.clear),
        ]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [rows.eq(command.rows), tokens.eq(command.tokens)]
        with m.If(self.table.valid & self.table.ready):
            m.d.sync += rows.eq(rows - 1)
        with m.If(taken):
            m.d.sync += [tokens.eq(tokens - 1), code.eq(buffer.r_data)]
        return taken

    def _assign(
        self,
        m: Module,
        nearest: NearestCode,
        memory: ClusterMemory,
        decide: Signal,
        far: Signal,
        opens: Signal,
    ) -> None:
        """Give an assignment and count the token, in the cycle after it was decided."""
        given = self.assignments
        number, token, cluster = (
            Signal(COUNT_BITS, name=name) for name in ("number", "token", "cluster")
        )
        new, forced, counted = Signal(), Signal(), Signal()
        count = Mux(new, 1, memory.count + 1)
        m.d.comb += [
            memory.read_count.eq(decide),
            memory.cluster.eq(nearest.nearest),
            memory.write_count.eq(counted | (self.table.valid & self.table.ready)),
            memory.written.eq(Mux(counted, cluster, memory.clusters)),
            memory.new_count.eq(Mux(counted, count, self.table.payload.count)),
            given.payload.token.eq(token),
            given.payload.cluster.eq(cluster),
            given.payload.new.eq(new),
            given.payload.forced.eq(forced),
            given.payload.count.eq(count),
        ]
        m.d.sync += counted.eq(decide)
        with m.If(given.ready):
            m.d.sync += given.valid.eq(0)
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += number.eq(0)
        with m.If(decide):
            m.d.sync += [
                given.valid.eq(1),
                number.eq(number + 1),
                token.eq(number),
                cluster.eq(Mux(opens, memory.clusters, nearest.nearest)),
                new.eq(opens),
                forced.eq(far & ~opens),
            ]
