"""Times of TeLLMe's units by firing their timed stream graphs."""

from functools import lru_cache
from math import ceil

import numpy as np

from headrace.arch.point import Point
from headrace.arch.tellme.engine import EngineSizes, write_cycles
from headrace.sim.cycle import simulate
from headrace.sim.graph import IntArray, StreamGraph, pulse
from headrace.sim.memory import beat_arrivals
from headrace.sim.tellme.formulas import FP16_LANES
from headrace.sim.tellme.kernels import ClosedForm, Work, engine_work
from headrace.sim.tellme.mapping import MemoryRates, Shape
from headrace.sim.tellme.tokens import token_graph

__all__ = [
    "Simulated",
    "decode_attention_graph",
    "load_graph",
    "norm_graph",
    "prefill_attention_graph",
]


def prefill_attention_graph(scores: int, updates: int) -> StreamGraph:
    """Build the graph of prefill attention; one iteration is a key step (section 3.3).

    One set of score registers joins the two loops, so they take turns.
    """
    graph = StreamGraph("prefill_attention")
    graph.add_node("scores", ii=scores, latency=scores)
    graph.add_node("updates", ii=updates, latency=updates)
    graph.add_edge("scores", "updates", depth=1, release=updates)
    return graph


def decode_attention_graph(service: IntArray) -> StreamGraph:
    """Build the graph of decode attention over ``len(service)`` keys (section 3.3).

    Parameters
    ----------
    service : int64 array, shape (tokens,), cycles
        Time of each key, and again of each value; the values start after the last key.
    """
    tokens = len(service)
    graph = StreamGraph("decode_attention")
    graph.add_node("keys", service=service)
    graph.add_node("values", phases=tokens, service=service)
    graph.add_edge("keys", "values", consume=pulse(tokens, 0, tokens))
    return graph


def load_graph(sizes: EngineSizes, arrivals: IntArray) -> StreamGraph:
    """Build the graph of a load whose beats arrive at `arrivals`; a beat fires when it is taken.

    The next beat waits until this one's words are in the banks (docs/engine.md).
    """
    graph = StreamGraph("load")
    graph.add_node(
        "beats", ii=[max(1, cycles) for cycles in write_cycles(sizes)], arrivals=arrivals
    )
    return graph


def norm_graph(vectors: int) -> StreamGraph:
    """Build the graph of RMS-MAX; one iteration is a row of `vectors` vectors (section 3.4).

    Reading with the sum of squares, scaling with the maximum, and writing are joined by two-row
    buffers.
    """
    graph = StreamGraph("rms_norm")
    for name in ("read", "scale", "write"):
        graph.add_node(name, ii=vectors, latency=vectors)
    graph.add_edge("read", "scale", depth=2, release=vectors)
    graph.add_edge("scale", "write", depth=2, release=vectors)
    return graph


class Simulated(ClosedForm):
    """The cycle fidelity of `Kernels`: every unit's graph is fired.

    Calls that repeat over the layers are simulated once.
    """

    def __init__(self, point: Point, shape: Shape, rates: MemoryRates):
        super().__init__(point, shape, rates)
        self._linear = lru_cache(maxsize=None)(self._simulate_linear)
        self._load = lru_cache(maxsize=None)(self._simulate_load)
        self._norm = lru_cache(maxsize=None)(self._simulate_norm)
        self._prefill = lru_cache(maxsize=None)(self._simulate_prefill)
        self._decode = lru_cache(maxsize=None)(self._simulate_decode)

    def load(self, rows: int, groups: int) -> int:
        """Cycles to bring `rows` row blocks of `groups` output groups into the weight buffer."""
        return self._load(rows, groups)

    def linear(self, rows: int, groups: int, tokens: int) -> Work:
        """Ternary matmul of `tokens` tokens on one resident tile."""
        return self._linear(rows, groups, tokens)

    def norm(self, tokens: int, width: int) -> Work:
        """RMS-MAX of `tokens` rows of `width` values."""
        return self._norm(tokens, width)

    def prefill_attention(self, tokens: int) -> Work:
        """Causal attention of `tokens` tokens among themselves."""
        return self._prefill(tokens)

    def decode_attention(self, tokens: int) -> Work:
        """Attention of one query over `tokens` keys."""
        return self._decode(tokens)

    def _simulate_load(self, rows: int, groups: int) -> int:
        port, ports = self.rates.port, self.rates.ports
        beats = rows * self.sizes.row_beats(groups)
        port_beats = self.sizes.beat_bits // (8 * port.bytes_per_beat * ports)
        arrivals = beat_arrivals(port, beats * port_beats, ports=ports)
        graph = load_graph(self.sizes, arrivals[port_beats - 1 :: port_beats])
        return simulate(graph, firings={"beats": beats}).cycles

    def _simulate_linear(self, rows: int, groups: int, tokens: int) -> Work:
        total = simulate(token_graph(self.sizes, rows, groups), iterations=tokens).cycles
        return engine_work(self.sizes, total, rows, groups, tokens)

    def _simulate_norm(self, tokens: int, width: int) -> Work:
        vectors = ceil(width / FP16_LANES)
        total = simulate(norm_graph(vectors), iterations=tokens).cycles
        return Work(fill=2 * vectors, steady=total - 2 * vectors)

    def _simulate_prefill(self, tokens: int) -> Work:
        graph = prefill_attention_graph(*self.step_cycles())
        return Work(fill=0, steady=simulate(graph, iterations=self.key_steps(tokens)).cycles)

    def _simulate_decode(self, tokens: int) -> Work:
        times = np.ceil(np.arange(tokens + 1) * self.key_cycles()).astype(np.int64)
        graph = decode_attention_graph(np.diff(times))
        return Work(fill=0, steady=simulate(graph, iterations=1).cycles)
