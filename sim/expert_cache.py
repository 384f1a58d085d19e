"""Experts that come and go in fast memory: who is evicted, what is copied, and when.

A batch of requests goes through the router, then one expert after another runs, in order of
arrival; one that is absent is copied in first. One copy engine moves one expert at a time, and
the expert it brings occupies its place from the beginning of the copy. Replacement is one rule: of
two experts, that stays which is known to be needed sooner; one that is not known to be needed goes
before all that are, the least recently or least frequently used first. What is known are the
experts of the batches that the router has seen, so nothing is LRU (or LFU), everything is Belady.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.experts import MAX_REQUESTS, check_requests
from headrace.sim.rates import IntArray

__all__ = ["BELADY", "EAGER", "LFU", "LRU", "ExpertTimes", "ReplacementPolicy", "Service", "serve"]

_LONGEST = 1e6
# Keys of the experts in fast memory; the one with the lowest goes first: an empty place, then what
# was used (up to the square of `MAX_REQUESTS`), then what is known to be needed, then what runs.
_EMPTY, _KNOWN, _RUNNING = -1, 1 << 62, (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class ReplacementPolicy:
    """How the expert is chosen that makes room for another.

    Parameters
    ----------
    lookahead : int, optional
        Batches beyond the running one whose experts are known, since the router has seen them
        before the running batch begins; 0 is the running batch alone, None not even that.
    frequency : bool
        Of the experts that are not known to be needed, the one with the fewest runs so far goes
        first (the least recently used of several), instead of the least recently used.
    """

    lookahead: int | None = None
    frequency: bool = False

    def __post_init__(self) -> None:
        ahead = self.lookahead
        if ahead is not None and not (type(ahead) is int and 0 <= ahead <= MAX_REQUESTS):
            raise InputError(f"lookahead = {ahead!r}; None or 0 to {MAX_REQUESTS} is needed")


LRU = ReplacementPolicy()
LFU = ReplacementPolicy(frequency=True)
BELADY = ReplacementPolicy(lookahead=MAX_REQUESTS)
"""The whole trace is known: the fewest copies that any policy can do with, if none is early."""
EAGER = MAX_REQUESTS
"""A `prefetch` of all that is known."""


@dataclass(frozen=True, kw_only=True)
class ExpertTimes:
    """Seconds of the three things that take time.

    Parameters
    ----------
    router_s : float
        The router, for a whole batch.
    copy_s : float
        The copy of one expert into fast memory.
    run_s : float
        The run of one expert for one prompt.
    """

    router_s: float = 0.0
    copy_s: float = 0.0
    run_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("router_s", "copy_s", "run_s"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 <= value <= _LONGEST):
                raise InputError(f"{name} = {value!r}; 0 to {_LONGEST:g} s is needed")


@dataclass(frozen=True, kw_only=True, eq=False)
class Service:
    """What became of a trace.

    Attributes
    ----------
    requests : int
    switches : int
        Runs of another expert than the run before, whether it was copied or not.
    batch_misses : ndarray of int64, shape (batches,)
        Runs of every batch whose expert was copied for them.
    batch_end_s : ndarray of float64, shape (batches,)
        When the last run of every batch ended.
    run_s, router_s : float
        Seconds of all runs; of all routers.
    switching_s : float
        Seconds in which the machine waited for a copy and did nothing else.
    """

    requests: int
    switches: int
    batch_misses: IntArray = field(repr=False)
    batch_end_s: NDArray[np.float64] = field(repr=False)
    run_s: float
    router_s: float
    switching_s: float

    @property
    def misses(self) -> int:
        """Runs whose expert was copied for them, which is the number of copies."""
        return int(self.batch_misses.sum())

    @property
    def hits(self) -> int:
        """Runs whose expert was there already."""
        return self.requests - self.misses

    @property
    def seconds(self) -> float:
        """From the first router to the end of the last run."""
        return float(self.batch_end_s[-1])

    @property
    def switching_share(self) -> float:
        """Share of all seconds that is `switching_s`; 0 of no time."""
        return self.switching_s / self.seconds if self.seconds else 0.0

    @property
    def seconds_per_batch(self) -> float:
        """Mean seconds of a batch, the batches one after another."""
        return self.seconds / len(self.batch_end_s)


def serve(
    requests: Sequence[int] | IntArray,
    capacity: int,
    policy: ReplacementPolicy = LRU,
    *,
    batch: int = 1,
    times: ExpertTimes | None = None,
    prefetch: int = 0,
) -> Service:
    """Run a trace through a cache of experts of one size, empty at first.

    Parameters
    ----------
    requests : sequence or array of int, shape (requests,)
        Experts in order of arrival.
    capacity : int
        Experts that fit in, the one that is being copied and the one that runs among them.
    policy : ReplacementPolicy
    batch : int
        Requests that go through the router together; the last batch may be smaller.
    times : ExpertTimes, optional
        By default nothing takes any time.
    prefetch : int
        For how many of the next requests copies go on beside runs and routers: as soon as the copy
        engine is free, the first expert of these that is known to be needed and is absent is
        copied, unless it could only replace one that runs or is needed sooner. With 0 a copy
        begins when the run is due, as in the paper; `EAGER` is all that is known.

    Returns
    -------
    Service

    Raises
    ------
    InputError
        The trace or a number is out of range.

    Notes
    -----
    O(n log capacity) for n requests. The order of the runs is that of arrival in all cases. The
    router of batch b + lookahead runs just before the runs of batch b.
    """
    trace, times = check_requests(requests), times or ExpertTimes()
    for name, value, least in (
        ("capacity", capacity, 1), ("batch", batch, 1), ("prefetch", prefetch, 0),
    ):  # fmt: skip
        if type(value) is not int or not least <= value <= MAX_REQUESTS:
            raise InputError(
                f"{name} = {value!r}; an integer from {least} to {MAX_REQUESTS} is needed"
            )
    experts = int(trace.max()) + 1
    misses, ends, switching_s = _serve(
        trace,
        _following(trace, experts),
        experts,
        min(capacity, experts),
        batch,
        -1 if policy.lookahead is None else policy.lookahead,
        policy.frequency,
        prefetch,
        (float(times.router_s), float(times.copy_s), float(times.run_s)),
    )
    return Service(
        requests=len(trace),
        switches=1 + int(np.count_nonzero(np.diff(trace))),
        batch_misses=misses,
        batch_end_s=ends,
        run_s=len(trace) * times.run_s,
        router_s=len(ends) * times.router_s,
        switching_s=switching_s,
    )


@njit(cache=True)  # type: ignore[untyped-decorator]
def _following(requests: IntArray, experts: int) -> IntArray:
    """Return for each request the next one for the same expert, or their number if none is."""
    count = len(requests)
    last = np.full(experts, count)
    following = np.empty(count, np.int64)
    for i in range(count - 1, -1, -1):
        following[i] = last[requests[i]]
        last[requests[i]] = i
    return following


@njit(cache=True)  # type: ignore[untyped-decorator]
def _set(heap: IntArray, place: IntArray, key: IntArray, expert: int, value: int) -> None:
    """Give an expert in the heap a key, and it and others the places they deserve."""
    key[expert] = value
    at = place[expert]
    while at > 0 and key[heap[(at - 1) >> 1]] > value:
        heap[at] = heap[(at - 1) >> 1]
        place[heap[at]] = at
        at = (at - 1) >> 1
    while 2 * at + 1 < len(heap):
        below = 2 * at + 1
        if below + 1 < len(heap) and key[heap[below + 1]] < key[heap[below]]:
            below += 1
        if key[heap[below]] >= value:
            break
        heap[at] = heap[below]
        place[heap[at]] = at
        at = below
    heap[at] = expert
    place[expert] = at


@njit(cache=True)  # type: ignore[untyped-decorator]
def _replace(heap: IntArray, place: IntArray, key: IntArray, expert: int, value: int) -> None:
    """Put an expert in place of the one with the lowest key."""
    place[heap[0]] = -1
    place[expert] = 0
    heap[0] = expert
    _set(heap, place, key, expert, value)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _prefetch(requests: IntArray, missing: int, limit: int, batch: int, heap: IntArray,
              place: IntArray, key: IntArray, ready: NDArray[np.float64], misses: IntArray,
              free: float, begin: float, end: float, copy_s: float
              ) -> tuple[float, int]:  # fmt: skip
    """Copy from `begin` until `end` what the requests before `limit` need and is absent.

    `missing` counts the first requests whose experts are there until they run; `free` is when the
    copy engine is free. Both are returned as they are at `end`.
    """
    count = len(requests)
    free = max(free, begin)
    while free < end:
        while missing < limit and place[requests[missing]] >= 0:
            missing += 1
        if missing >= limit or key[heap[0]] > _KNOWN + count - missing:
            break
        expert = requests[missing]
        misses[missing // batch] += 1
        _replace(heap, place, key, expert, _KNOWN + count - missing)
        free += copy_s
        ready[expert] = free
    return free, missing


@njit(cache=True)  # type: ignore[untyped-decorator]
def _serve(requests: IntArray, following: IntArray, experts: int, capacity: int, batch: int,
           ahead: int, frequency: bool, prefetch: int, times: tuple[float, float, float]
           ) -> tuple[IntArray, NDArray[np.float64], float]:  # fmt: skip
    """Return misses and end of every batch, and the seconds of waiting for copies."""
    router_s, copy_s, run_s = times
    count = len(requests)
    batches = (count + batch - 1) // batch
    # Empty places are experts that nobody asks for, so that the heap is always full.
    heap = experts + np.arange(capacity)
    key = np.full(experts + capacity, _EMPTY)
    place = np.full(experts + capacity, -1)
    place[experts:] = np.arange(capacity)
    runs, misses = np.zeros(experts, np.int64), np.zeros(batches, np.int64)
    ready, ends = np.zeros(experts), np.zeros(batches)
    known = routed = missing = 0
    now = free = waited = 0.0
    for b in range(batches):
        while routed < min(batches, b + 1 + max(ahead, 0)):
            begin, now = now, now + router_s
            if prefetch:
                limit = min(known, b * batch + prefetch)
                free, missing = _prefetch(requests, missing, limit, batch, heap, place, key,
                                          ready, misses, free, begin, now, copy_s)  # fmt: skip
            routed += 1
            while ahead >= 0 and known < min(count, routed * batch):
                expert = requests[known]
                if place[expert] >= 0 and key[expert] < _KNOWN:
                    _set(heap, place, key, expert, _KNOWN + count - known)
                known += 1
        for i in range(b * batch, min(count, (b + 1) * batch)):
            expert = requests[i]
            if place[expert] < 0:
                misses[b] += 1
                _replace(heap, place, key, expert, _RUNNING)
                free = now + copy_s  # it is idle: else it would have begun with this one
                ready[expert] = free
            else:
                _set(heap, place, key, expert, _RUNNING)
            begin = max(now, ready[expert])
            waited += begin - now
            now = begin + run_s
            missing = max(missing, i + 1)
            if prefetch:
                limit = min(known, i + 1 + prefetch)
                free, missing = _prefetch(requests, missing, limit, batch, heap, place, key,
                                          ready, misses, free, begin, now, copy_s)  # fmt: skip
            runs[expert] += 1
            value = runs[expert] * count + i if frequency else i
            if following[i] < known:
                value = _KNOWN + count - following[i]
            _set(heap, place, key, expert, value)
        ends[b] = now
    return misses, ends, waited
