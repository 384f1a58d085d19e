"""A flash drive: how long a batch of requests takes, in closed form and page by page.

A request is cut into pages, which lie over the channels first, then over the dies, then over the
planes. A command takes the controller `command_us`, then each page is read into its plane's
register (`t_read_us`) and moved over its channel; a drive as a whole moves no more than its
sequential ceiling or the link behind it. At most `queue_depth` requests are open at a time.
Writes go into a buffer and from there to the planes; a read that finds its plane programming
waits. `serve` simulates this event by event, `read_seconds` is its closed form.
"""

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.memories import Ssd
from headrace.errors import InputError
from headrace.sim.pcie import batches
from headrace.sim.rates import IntArray

__all__ = ["active_joules", "read_seconds", "serve", "write_seconds"]

FloatArray: TypeAlias = NDArray[np.float64]

_MANY = 24


def read_seconds(
    ssd: Ssd,
    sizes: ArrayLike,
    counts: ArrayLike = 1,
    *,
    link_bytes_per_s: float | None = None,
    link_seconds: float = 0.0,
    write_bytes_per_s: float = 0.0,
    contiguous: bool = False,
) -> FloatArray:
    """Return the seconds of each batch of reads, from the first command to the last byte.

    Parameters
    ----------
    ssd : Ssd
    sizes, counts : array_like, shapes that broadcast to (..., n)
        Bytes of a request, and how many there are of it. The last axis is one batch; a scalar is
        a batch of one kind.
    link_bytes_per_s : float, optional
        What the link to the drive sustains, if it may be the limit.
    link_seconds : float
        Latency of the link, added once.
    write_bytes_per_s : float
        Writes that reach the flash meanwhile: reads wait behind their programs.
    contiguous : bool
        The batch is one run of pages, so that its pages meet no plane by chance; else each
        request lies at a random page.

    Returns
    -------
    float64 array, shape (...), seconds; 0 for an empty batch

    Raises
    ------
    InputError
        A size, count or rate is out of range, or the programs alone fill the planes.
    """
    sizes, counts = batches(sizes, counts)
    busy = write_bytes_per_s * ssd.t_program_us * 1e-6 / (ssd.page_bytes * ssd.planes)
    if not 0 <= busy < 1:
        raise InputError(f"writes at {write_bytes_per_s:g} bytes/s: must be 0 to what planes take")
    rate = min(ssd.read_gb_per_s * 1e9, link_bytes_per_s or np.inf)
    bytes_, requests = (sizes * counts).sum(-1), (counts * (sizes > 0)).sum(-1)
    pages = (np.ceil(sizes / ssd.page_bytes) * counts).sum(-1)
    one = np.maximum(requests, 1)
    each, size = pages / one, bytes_ / one  # of the mean request
    chunk = size / np.maximum(each, 1)
    read, command = ssd.t_read_us * 1e-6, ssd.command_us * 1e-6
    page = chunk / (ssd.channel_mb_per_s * 1e6)
    turns, over = np.ceil(each / ssd.planes) * read, np.ceil(each / ssd.channels) * page
    # The first request alone: its last pages leave a round of channels after the others.
    rest = (np.mod(each - 1, ssd.channels) + 1) * chunk / rate
    stages = [turns - read, over - page + rest, size / rate]
    alone = read + page + np.maximum.reduce(stages)
    first = command + (ssd.fixed_us + busy * ssd.t_program_us / 2) * 1e-6 + alone
    if contiguous:
        planes, buses = np.ceil(pages / ssd.planes), np.ceil(pages / ssd.channels)
    else:
        planes = _fullest(requests, each, ssd.planes)
        buses = _fullest(requests, each, ssd.channels)
        r = ssd.queue_depth * each / ssd.planes
        sustained = pages / ssd.planes / np.maximum(1 + r - np.sqrt(1 + r * r), 1e-9)
        planes = np.where(requests > ssd.queue_depth, np.maximum(planes, sustained), planes)
    later = np.maximum.reduce(
        [
            (requests - 1) * command,
            bytes_ / rate - size / rate,
            planes * read / (1 - busy) - turns,
            buses * page - over,
            (requests / ssd.queue_depth - 1) * first,
        ]
    )
    return np.where(requests > 0, first + np.maximum(later, 0) + link_seconds, 0.0)


def _fullest(requests: FloatArray, each: FloatArray, places: int) -> FloatArray:
    """Return the expected pages of the fullest place, the requests at random places.

    Whole rounds of a request load all places alike; the rest of it meets others by chance, in
    Poisson numbers if they are few, which a normal distribution follows if they are many.
    """
    whole, rest = np.divmod(each, places)
    mean = requests * rest / places
    apart = places / np.maximum(rest, 1)
    few = np.minimum(mean, _MANY)
    term = np.exp(-few)
    below, most = term, 1 - term**apart
    for count in range(1, 3 * _MANY):
        term = term * few / count
        below = np.minimum(below + term, 1.0)
        most = most + 1 - below**apart
    most = np.where(mean > _MANY, mean + np.sqrt(2 * np.log(apart) * mean), most)
    return np.asarray(np.maximum(requests * whole + most, np.ceil(each / places)))


def write_seconds(
    ssd: Ssd, sizes: ArrayLike, counts: ArrayLike = 1, *, link_bytes_per_s: float | None = None
) -> FloatArray:
    """Return the seconds until each batch of writes is in the drive's buffer.

    The buffer fills at the rate of the drive or the link and drains as the planes program, so
    that what it cannot hold comes at the planes' rate. Arguments and axes are as of
    `read_seconds`.
    """
    sizes, counts = batches(sizes, counts)
    bytes_, requests = (sizes * counts).sum(-1), (counts * (sizes > 0)).sum(-1)
    rate = min(ssd.write_gb_per_s * 1e9, link_bytes_per_s or np.inf)
    drain = min(ssd.planes * ssd.page_bytes / (ssd.t_program_us * 1e-6), rate)
    fill = np.maximum(bytes_ / rate, requests * ssd.command_us * 1e-6)
    drained = (bytes_ - ssd.buffer_bytes) / drain
    total = np.maximum(fill, drained) + (ssd.command_us + ssd.fixed_us) * 1e-6
    return np.where(requests > 0, total, 0.0)


def active_joules(ssd: Ssd, active_s: ArrayLike, idle_s: ArrayLike = 0.0) -> FloatArray:
    """Return the energy of a drive active and idle for so many seconds."""
    active, idle = np.asarray(active_s, np.float64), np.asarray(idle_s, np.float64)
    return np.asarray(active * ssd.active_w + idle * ssd.idle_w)


def serve(
    ssd: Ssd,
    pages: ArrayLike,
    sizes: ArrayLike,
    writes: ArrayLike = False,
    *,
    link_bytes_per_s: float | None = None,
) -> IntArray:
    """Return when each request has ended, page by page.

    Parameters
    ----------
    ssd : Ssd
    pages, sizes, writes : array_like, shape (requests,)
        First page of the drive (pages lie over channels, dies and planes in this order), bytes,
        and whether it is a write. A write ends when its last page is programmed.
    link_bytes_per_s : float, optional

    Returns
    -------
    int64 array, shape (requests,), nanoseconds
    """
    first, size = np.asarray(pages, np.int64), np.asarray(sizes, np.int64)
    size = np.broadcast_to(size, first.shape)
    write = np.broadcast_to(np.asarray(writes, np.bool_), first.shape)
    if first.size and (size.min() < 1 or first.min() < 0):
        raise InputError("serve: sizes must be at least 1 byte, pages at least 0")
    rate = min(ssd.read_gb_per_s * 1e9, link_bytes_per_s or np.inf)
    return np.asarray(
        _serve(
            first, size, write, ssd.page_bytes, ssd.channels, ssd.planes, ssd.queue_depth,
            ssd.t_read_us * 1e3, ssd.t_program_us * 1e3, 1e3 / ssd.channel_mb_per_s,
            1e9 / rate, ssd.command_us * 1e3, ssd.fixed_us * 1e3,
        )
    )  # fmt: skip


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _serve(first: IntArray, size: IntArray, write: NDArray[np.bool_], page: int, channels: int,
           planes: int, depth: int, read: float, program: float, channel: float, link: float,
           command: float, fixed: float) -> IntArray:  # fmt: skip
    """Return the end of each request in ns; rates in ns per byte.

    Each plane, channel and the link serve what reaches them in the order in which it does.
    """
    count = len(first)
    done = np.zeros(count, np.int64)
    plane, bus = np.zeros(planes), np.zeros(channels)
    pages = (size + page - 1) // page
    total = pages.sum()
    ready, owner, chunk = np.zeros(total), np.zeros(total, np.int64), np.zeros(total, np.int64)
    where = np.zeros(total, np.int64)
    free = 0.0
    # Requests enter in order, each when one of the `depth` before it has ended: in groups.
    start, used = 0, 0.0
    opened = np.zeros(count)
    while start < count:
        stop = min(start + depth, count)
        n = 0
        for k in range(start, stop):
            begin = max(used, opened[k])
            used = begin + command
            left = size[k]
            for i in range(pages[k]):
                at = (first[k] + i) % planes
                part = min(left, page)
                left -= part
                where[n], owner[n], chunk[n] = at, k, part
                if write[k]:
                    bus[at % channels] = max(bus[at % channels], used) + part * channel
                    plane[at] = max(plane[at], bus[at % channels]) + program
                    done[k] = max(done[k], int(plane[at] + fixed))
                else:
                    plane[at] = max(plane[at], used) + read
                    ready[n] = plane[at]
                    n += 1
        for i in np.argsort(ready[:n]):
            c = where[i] % channels
            bus[c] = max(bus[c], ready[i]) + chunk[i] * channel
            plane[where[i]] = max(plane[where[i]], bus[c])
            ready[i] = bus[c]
        for i in np.argsort(ready[:n]):
            free = max(free, ready[i]) + chunk[i] * link
            done[owner[i]] = max(done[owner[i]], int(free + fixed))
        ends = np.sort(done[start:stop])
        for k in range(stop, min(stop + depth, count)):
            opened[k] = ends[k - stop]
        start = stop
    return done
