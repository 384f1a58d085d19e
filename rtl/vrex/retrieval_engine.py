"""V-Rex's retrieval engine: hash clusters, threshold and KV management as one unit."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.hash_cluster import COUNT_BITS
from headrace.arch.vrex.kv_management import LAYER_BITS
from headrace.arch.vrex.retrieval_engine import RetrievalEngineSizes
from headrace.rtl.vrex.count_memory import CountMemory
from headrace.rtl.vrex.hash_cluster import HashCluster, assignment_layout, row_layout
from headrace.rtl.vrex.kv_management import KvManagement
from headrace.rtl.vrex.kv_management_append import write_layout
from headrace.rtl.vrex.kv_management_fetch import read_layout
from headrace.rtl.vrex.stream_fork import StreamFork
from headrace.rtl.vrex.threshold import ThresholdUnit
from headrace.rtl.vrex.threshold_lanes import score_layout

__all__ = ["RetrievalEngine"]


class RetrievalEngine(wiring.Component):
    """Sort a layer's new tokens into clusters, choose clusters by scores, say what has to move.

    Parameters
    ----------
    sizes : RetrievalEngineSizes

    Attributes
    ----------
    command : In stream
        `tokens` (16), `rows` (16), `layer` (8), `clear` (1), `score_rows` (16), `share`
        (`ratio_bits` + 1). First, replace the table of clusters by `rows` rows of `table` if
        `clear`, or add them; without rows, `clear` begins the layer anew. Then append `tokens`
        tokens. Then choose clusters by `score_rows` rows of scores, and read them. Each of the
        three numbers may be 0; choosing needs a cluster.
    table, codes, assignments
        As those of `HashCluster`.
    scores : In stream
        As that of `ThresholdUnit`; of all clusters, those of the command's tokens included.
    writes, reads
        As those of `KvManagement`.
    """

    def __init__(self, sizes: RetrievalEngineSizes) -> None:
        self.sizes = sizes
        number = unsigned(COUNT_BITS)
        command = data.StructLayout(
            {
                "tokens": number,
                "rows": number,
                "layer": unsigned(LAYER_BITS),
                "clear": unsigned(1),
                "score_rows": number,
                "share": unsigned(sizes.threshold.ratio_bits + 1),
            }
        )
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "table": In(stream.Signature(row_layout(sizes.hash_cluster))),
                "codes": In(stream.Signature(unsigned(sizes.hash_cluster.code_bits))),
                "scores": In(stream.Signature(score_layout(sizes.threshold))),
                "assignments": Out(stream.Signature(assignment_layout())),
                "writes": Out(stream.Signature(write_layout(sizes.kv_management))),
                "reads": Out(stream.Signature(read_layout(sizes.kv_management))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.sort = sort = HashCluster(sizes.hash_cluster)
        m.submodules.choose = choose = ThresholdUnit(sizes.threshold)
        m.submodules.places = places = KvManagement(sizes.kv_management)
        m.submodules.fork = fork = StreamFork(assignment_layout())
        m.submodules.counts = counts = CountMemory(sizes)
        for port, part in (
            ("table", sort),
            ("codes", sort),
            ("scores", choose),
            ("writes", places),
            ("reads", places),
        ):
            wiring.connect(m, wiring.flipped(getattr(self, port)), getattr(part, port))
        wiring.connect(m, sort.assignments, fork.source)
        wiring.connect(m, fork.one, wiring.flipped(self.assignments))
        wiring.connect(m, counts.counts, choose.counts)
        wiring.connect(m, choose.results, places.chosen)
        self._wait(m, fork.other, places)
        loaded, assigned = self._count(m, sort, counts)
        self._sequence(m, sort, choose, places, counts, loaded, assigned)
        return m

    def _wait(self, m: Module, assigned: Any, places: KvManagement) -> None:
        """Keep the clusters of a frame until the KV management has ended the fetch before."""
        depth = self.sizes.hash_cluster.frame_tokens
        m.submodules.waiting = waiting = fifo.SyncFIFO(width=COUNT_BITS, depth=depth)
        m.d.comb += [
            waiting.w_en.eq(assigned.valid),
            waiting.w_data.eq(assigned.payload.cluster),
            assigned.ready.eq(waiting.w_rdy),
        ]
        wiring.connect(m, waiting.r_stream, places.clusters)

    def _count(self, m: Module, sort: HashCluster, counts: CountMemory) -> tuple[Value, Value]:
        """Keep the counts of loaded rows and of assignments; return whether there is one."""
        loaded, assigned, given = Signal(), Signal(), sort.assignments.payload
        m.d.comb += [
            loaded.eq(self.table.valid & self.table.ready),
            assigned.eq(sort.assignments.valid & sort.assignments.ready),
            counts.write.eq(loaded | assigned),
            counts.opens.eq(loaded | given.new),
            counts.cluster.eq(Mux(loaded, counts.clusters, given.cluster)),
            counts.count.eq(Mux(loaded, self.table.payload.count, given.count)),
        ]
        return loaded, assigned

    def _sequence(
        self,
        m: Module,
        sort: HashCluster,
        choose: ThresholdUnit,
        places: KvManagement,
        counts: CountMemory,
        loaded: Value,
        assigned: Value,
    ) -> None:
        """Give the units their commands: sort and append, then choose and fetch."""
        command, held = self.command.payload, Signal.like(self.command.payload)
        rows, tokens = Signal(COUNT_BITS), Signal(COUNT_BITS)
        unit_told, places_told = Signal(), Signal()  # the state's other unit, the KV management
        m.d.comb += [
            sort.command.payload.tokens.eq(held.tokens),
            sort.command.payload.rows.eq(held.rows),
            sort.command.payload.clear.eq(held.clear),
            choose.command.payload.clusters.eq(counts.clusters),
            choose.command.payload.rows.eq(held.score_rows),
            choose.command.payload.share.eq(held.share),
            places.command.payload.tokens.eq(held.tokens),
            places.command.payload.layer.eq(held.layer),
            places.command.payload.clear.eq(held.clear & (held.rows == 0)),
        ]
        with m.If(loaded):
            m.d.sync += rows.eq(rows - 1)
        with m.If(assigned):
            m.d.sync += tokens.eq(tokens - 1)
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += self.command.ready.eq(1)
                with m.If(self.command.valid):
                    m.d.comb += counts.clear.eq(command.clear)
                    m.d.sync += [
                        held.eq(command),
                        rows.eq(command.rows),
                        tokens.eq(command.tokens),
                    ]
                    m.next = "APPEND"
            with m.State("APPEND"):
                told = self._tell(m, sort.command, places.command, unit_told, places_told)
                with m.If(told & (rows == 0) & (tokens == 0)):
                    m.d.sync += [unit_told.eq(0), places_told.eq(0)]
                    m.next = "COMMAND"
                    with m.If(held.score_rows != 0):
                        m.next = "SELECT"
            with m.State("SELECT"):
                m.d.comb += [places.command.payload.fetch.eq(1), counts.give.eq(1)]
                told = self._tell(m, choose.command, places.command, unit_told, places_told)
                with m.If(told & counts.given):
                    m.d.sync += [unit_told.eq(0), places_told.eq(0)]
                    m.next = "COMMAND"

    @staticmethod
    def _tell(m: Module, unit: Any, places: Any, unit_told: Signal, places_told: Signal) -> Value:
        """Offer each of two commands until it is taken; return whether both have been."""
        for port, told in ((unit, unit_told), (places, places_told)):
            m.d.comb += port.valid.eq(~told)
            with m.If(port.ready):
                m.d.sync += told.eq(1)
        return unit_told & places_told
