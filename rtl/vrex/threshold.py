"""V-Rex's threshold unit: which clusters hold a share of the weight of a row's scores."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from headrace.arch.vrex.threshold import CLUSTER_BITS, ThresholdSizes
from headrace.rtl.vrex.threshold_lanes import ThresholdLanes, count_layout, score_layout
from headrace.rtl.vrex.threshold_union import ClusterUnion, cluster_layout

__all__ = ["ThresholdUnit"]


class ThresholdUnit(wiring.Component):
    """Choose clusters for the rows of a KV head: bucketed selection, and the union over the rows.

    A row's scores go into the score memory and through the preprocess pass: weight, lowest and
    highest score. Then its buckets are walked, the highest first, one pass over the memories each,
    until a whole bucket has brought the running weight over the threshold. `ThresholdSizes.cycles`
    from the command to the last cluster, if nothing stalls. The next command is taken in the cycle
    after that.

    Parameters
    ----------
    sizes : ThresholdSizes

    Attributes
    ----------
    command : stream
        `clusters` (16 bits), 1 to `max_clusters`; `rows` (16), at least 1; `share`
        (`ratio_bits` + 1), the ratio times 2^ratio_bits, at most 2^ratio_bits.
    counts : stream
        `lanes` counts of tokens; `beats(clusters)` beats per command, before the first scores.
    scores : stream
        `lanes` aligned scores; `rows` rows of `beats(clusters)` beats. Lanes of clusters that do
        not exist may hold anything.
    results : stream
        `cluster` (16), `last` (1): numbers of the chosen clusters, ascending, at least one.
    """

    def __init__(self, sizes: ThresholdSizes) -> None:
        self.sizes = sizes
        command = data.StructLayout(
            {
                "clusters": unsigned(CLUSTER_BITS),
                "rows": unsigned(CLUSTER_BITS),
                "share": unsigned(sizes.ratio_bits + 1),
            }
        )
        super().__init__(
            {
                "command": In(stream.Signature(command)),
                "counts": In(stream.Signature(count_layout(sizes))),
                "scores": In(stream.Signature(score_layout(sizes))),
                "results": Out(stream.Signature(cluster_layout())),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        sizes = self.sizes
        m.submodules.lanes = lanes = ThresholdLanes(sizes)
        m.submodules.union = union = ClusterUnion(sizes)
        wiring.connect(m, wiring.flipped(self.results), union.results)
        last_word, word = Signal(sizes.word_bits), Signal(sizes.word_bits)
        highest = (self.command.payload.clusters - 1)[: sizes.lane_bits + sizes.word_bits]
        with m.If(self.command.valid & self.command.ready):
            m.d.sync += [
                last_word.eq(highest[sizes.lane_bits :]),
                lanes.last_lane.eq(highest[: sizes.lane_bits]),
                lanes.share.eq(self.command.payload.share),
            ]

        last = Signal()
        filling, walking = lanes.beat.filling, self._sequence(m, lanes, union, last)
        m.d.comb += last.eq(word == last_word)
        with m.If(lanes.done):
            m.d.sync += word.eq(0)
        with m.Elif(union.clear | filling | walking):
            m.d.sync += word.eq(Mux(last, 0, word + 1))
        bucket = Signal(range(max(2, sizes.buckets)))
        with m.If(~walking | lanes.done):
            m.d.sync += bucket.eq(sizes.buckets - 1)
        with m.Elif(last):
            m.d.sync += bucket.eq(bucket - 1)

        m.d.comb += [
            lanes.beat.valid.eq(filling | walking),
            lanes.beat.first.eq((word == 0) & (bucket == sizes.buckets - 1)),
            lanes.beat.last.eq(last),
            lanes.beat.final.eq(bucket == 0),
            lanes.beat.place.eq(word),
            union.chosen.eq(lanes.chosen),
            union.place.eq(Mux(union.clear, word, lanes.place)),
        ]
        self._memory(m, "scores", word, filling, lanes.scores)
        self._memory(m, "counts", word, union.clear, lanes.counts)
        return m

    def _sequence(
        self, m: Module, lanes: ThresholdLanes, union: ClusterUnion, last: Value
    ) -> Value:
        """Go through the counts, the rows and the results; return whether buckets are walked."""
        rows = Signal(CLUSTER_BITS)
        with m.FSM() as states:
            with m.State("COMMAND"):
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += rows.eq(self.command.payload.rows)
                with m.If(self.command.valid):
                    m.next = "COUNTS"
            with m.State("COUNTS"):
                m.d.comb += [self.counts.ready.eq(1), union.clear.eq(self.counts.valid)]
                with m.If(self.counts.valid & last):
                    m.next = "PREPROCESS"
            with m.State("PREPROCESS"):
                m.d.comb += [self.scores.ready.eq(1), lanes.beat.filling.eq(self.scores.valid)]
                with m.If(self.scores.valid & last):
                    m.next = "BOUNDS"
            with m.State("BOUNDS"), m.If(lanes.bounded):
                m.next = "WALK"
            with m.State("WALK"), m.If(lanes.done):
                m.d.sync += rows.eq(rows - 1)
                m.next = "PREPROCESS"
                with m.If(rows == 1):
                    m.next = "RESULTS"
            with m.State("RESULTS"):
                m.d.comb += union.give.eq(1)
                with m.If(union.ended):
                    m.next = "COMMAND"
        return states.ongoing("WALK")

    def _memory(self, m: Module, name: str, word: Value, taken: Value, held: Value) -> None:
        """Keep a stream's beats; give the word of the cycle before, also if it is being written."""
        port = getattr(self, name)
        m.submodules[f"{name}_memory"] = kept = memory.Memory(
            shape=port.payload.shape(), depth=self.sizes.words, init=[]
        )
        write = kept.write_port()
        read = kept.read_port(transparent_for=[write])
        m.d.comb += [
            write.en.eq(taken),
            write.addr.eq(word),
            write.data.eq(port.payload),
            read.en.eq(1),
            read.addr.eq(word),
            held.eq(read.data),
        ]
