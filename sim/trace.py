"""Traces for Perfetto and chrome://tracing (the Trace Event Format, JSON object form)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from headrace.errors import InputError
from headrace.files import write_atomic
from headrace.sim.budget import TERMS, Phase
from headrace.sim.graph import StreamGraph
from headrace.sim.rates import IntArray

__all__ = ["Trace"]


class Trace:
    """Events on named tracks; a process groups tracks.

    Parameters
    ----------
    clock_hz : float
        Turns cycles into the microseconds of the format.
    """

    def __init__(self, clock_hz: float) -> None:
        if not clock_hz > 0:
            raise InputError(f"trace: the clock must be above 0 Hz, not {clock_hz}")
        self._us_per_cycle = 1e6 / clock_hz
        self._tracks: dict[tuple[str, str], tuple[int, int]] = {}
        self._processes: dict[str, int] = {}
        self._events: list[str] = []

    def add(
        self,
        process: str,
        track: str,
        name: str,
        start_cycles: int,
        length_cycles: int,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Add one complete event.

        Parameters
        ----------
        process, track : str
            Where it is drawn; made when first named.
        name : str
        start_cycles, length_cycles : int
        arguments : mapping, optional
            Shown when the event is selected; JSON values.
        """
        pid, tid = self._place(process, track)
        event = {
            "ph": "X",
            "name": name,
            "pid": pid,
            "tid": tid,
            "ts": start_cycles * self._us_per_cycle,
            "dur": length_cycles * self._us_per_cycle,
            "args": {"start_cycles": start_cycles, "cycles": length_cycles, **(arguments or {})},
        }
        self._events.append(json.dumps(event, separators=(",", ":")))

    def add_phases(self, phases: Sequence[Phase], *, process: str = "phases") -> int:
        """Add phases that run one after the other, each on the track of its kernel.

        Parameters
        ----------
        phases : sequence of Phase
        process : str

        Returns
        -------
        int, cycles
            Where the last one ends.
        """
        now = 0
        for phase in phases:
            details = {term: getattr(phase, term) for term in TERMS}
            arguments = {**details, "bound": phase.bound, "bytes": dict(phase.bytes)}
            self.add(process, phase.kernel, phase.name, now, phase.cycles, arguments)
            now += phase.cycles
        return now

    def add_firings(
        self, graph: StreamGraph, starts: Mapping[str, IntArray], *, begin_cycles: int = 0
    ) -> None:
        """Add one event per firing, of the length of its initiation interval.

        Parameters
        ----------
        graph : StreamGraph
            Its name is the process; each node is a track.
        starts : mapping of node name to int64 array
            From `headrace.sim.cycle.simulate` with ``starts=True``.
        begin_cycles : int
            Cycle 0 of the graph on the trace.
        """
        for name, times in starts.items():
            node = graph.nodes[name]
            for k, start in enumerate(times.tolist()):
                row = k if node.service_per_firing else k % node.phases
                length = int(node.ii[row])
                self.add(graph.name, name, f"{name}[{k}]", begin_cycles + start, length)

    def write(self, path: Path) -> None:
        """Write the trace as JSON.

        Parameters
        ----------
        path : Path

        Raises
        ------
        InputError
            The file cannot be written; nothing is left half-written.
        """
        events = ",\n".join((*self._names(), *self._events))
        write_atomic(path, f'{{"displayTimeUnit":"ns","traceEvents":[\n{events}\n]}}\n')

    def _place(self, process: str, track: str) -> tuple[int, int]:
        pid = self._processes.setdefault(process, len(self._processes) + 1)
        return self._tracks.setdefault((process, track), (pid, len(self._tracks) + 1))

    def _names(self) -> Iterator[str]:
        """Yield the metadata events that name processes and tracks."""
        for process, pid in self._processes.items():
            yield _metadata("process_name", pid, 0, process)
        for (_, track), (pid, tid) in self._tracks.items():
            yield _metadata("thread_name", pid, tid, track)


def _metadata(kind: str, pid: int, tid: int, name: str) -> str:
    event = {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}
    return json.dumps(event, separators=(",", ":"))
