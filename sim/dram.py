"""DRAM: the share of its peak that a stream reaches, and one channel command by command.

Addresses are spread over the channels in blocks of `interleave_bytes`, and in a channel over the
bank groups, then the banks, in blocks of the same size. `serve` takes the bursts of one channel
in order into a window of the controller; of all that are in it, the command that can be given
first is given first (ties: column before row commands, older before younger), rows stay open
until a burst needs another and none in the window hits them, and refresh comes when it is due.
The bus turns when at most a quarter of the window has its direction and more has the other.
`stream_efficiency` is the closed form of the same machine for requests at random places; how
close the two are is in docs/memory.md.
"""

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.memories import Dram
from headrace.errors import InputError
from headrace.sim.rates import IntArray

__all__ = ["serve", "stream_efficiency", "stream_joules", "stream_seconds"]

FloatArray: TypeAlias = NDArray[np.float64]

# The timing vector of the kernel.
(
    RCD, RP, RAS, RTP, WR, CL, CWL, CCD_S, CCD_L, RRD_S, RRD_L, FAW, RTW, WTR_S, WTR_L,
    REFI, RFC, BURST, GROUPS, BANKS, SET,
) = range(21)  # fmt: skip
_NAMES = (
    "rcd", "rp", "ras", "rtp", "wr", "cl", "cwl", "ccd_s", "ccd_l", "rrd_s", "rrd_l", "faw",
    "rtw", "wtr_s", "wtr_l", "refi",
)  # fmt: skip
_LONG_AGO = -(2**40)


def serve(
    dram: Dram,
    addresses: ArrayLike,
    sizes: ArrayLike,
    writes: ArrayLike = False,
    *,
    window: int = 64,
    refresh: str | None = None,
) -> IntArray:
    """Return when each request of one channel has moved its last byte, command by command.

    Parameters
    ----------
    dram : Dram
    addresses, sizes, writes : array_like, shape (requests,)
        Byte addresses within the channel, bytes, and whether each is a write. Requests are cut
        into whole bursts; all wait from cycle 0 on.
    window : int, bursts
        Bursts that the controller may reorder.
    refresh : {"per-bank", "all-bank", "none"}, optional
        By default per bank where the DRAM has it.

    Returns
    -------
    int64 array, shape (requests,), command clocks

    Raises
    ------
    InputError
        A size is below 1, an address or the window out of range, or an unknown `refresh`.
    """
    address, size = np.asarray(addresses, np.int64), np.asarray(sizes, np.int64)
    write = np.broadcast_to(np.asarray(writes, np.bool_), address.shape)
    size = np.broadcast_to(size, address.shape)
    if address.size == 0:
        return np.zeros(0, np.int64)
    if size.min() < 1 or address.min() < 0 or window < 1:
        raise InputError("serve: sizes and window must be at least 1, addresses at least 0")
    first = address // dram.burst_bytes
    bursts = (address + size - 1) // dram.burst_bytes - first + 1
    owner = np.repeat(np.arange(address.size), bursts)
    starts = bursts.cumsum() - bursts
    at = np.repeat(first - starts, bursts) + np.arange(owner.size)
    block = at * dram.burst_bytes // dram.interleave_bytes
    bank = block % dram.banks
    row = block // dram.banks // (dram.page_bytes // dram.interleave_bytes)
    timing, _ = _timing(dram, refresh)
    done = _serve(timing, bank, bank % dram.bank_groups, row, write[owner], window)
    return np.maximum.reduceat(done, starts)


def _timing(dram: Dram, refresh: str | None) -> tuple[IntArray, bool]:
    per_bank = _per_bank(dram, refresh)
    times = [dram.cycles(name) for name in _NAMES]
    count = dram.refresh_banks if per_bank else dram.banks
    interval = times[REFI] * count // dram.banks
    if refresh == "none":
        interval = 2**60
    recovery = dram.cycles("rfc_pb" if per_bank else "rfc_ab")
    times[REFI] = interval
    times += [recovery, dram.burst_cycles, dram.bank_groups, dram.banks, count]
    return np.array(times, np.int64), per_bank


def _per_bank(dram: Dram, refresh: str | None) -> bool:
    if refresh not in (None, "per-bank", "all-bank", "none"):
        raise InputError(f"refresh {refresh!r}: must be per-bank, all-bank or none")
    if refresh == "per-bank" and not dram.t_rfc_pb_ns:
        raise InputError(f"{dram.name} has no refresh per bank")
    return dram.t_rfc_pb_ns > 0 and refresh in (None, "per-bank")


def stream_efficiency(
    dram: Dram,
    request_bytes: ArrayLike,
    reads_share: ArrayLike = 1.0,
    *,
    window: int = 64,
    refresh: str | None = None,
) -> FloatArray:
    """Return the share of the peak that requests of a size, each at a random place, reach.

    Parameters
    ----------
    dram : Dram
    request_bytes : array_like of positive numbers
        Contiguous bytes of a request, of all channels together; less than a burst costs one.
    reads_share : array_like, 0 to 1
        Share of the requests that read.
    window, refresh
        As of `serve`.

    Returns
    -------
    float64 array, the shape to which sizes and shares broadcast

    Raises
    ------
    InputError
        A size is not above 0, a share is not 0 to 1, or `window` or `refresh` is wrong.
    """
    size, reads = np.broadcast_arrays(
        np.asarray(request_bytes, np.float64), np.asarray(reads_share, np.float64)
    )
    if (size <= 0).any() or (reads < 0).any() or (reads > 1).any() or window < 1:
        raise InputError("stream: sizes must be above 0, shares 0 to 1, the window at least 1")
    t, per_bank = _timing(dram, refresh)
    # What one channel sees of a request: a part of it, contiguous there.
    blocks = np.ceil(size / dram.interleave_bytes)
    parts = np.minimum(blocks, dram.channels)
    bursts, blocks = np.ceil(size / dram.burst_bytes) / parts, blocks / parts
    reopened = np.maximum(blocks - dram.banks, 0) * dram.interleave_bytes / dram.page_bytes
    rows = np.minimum(blocks, dram.banks) + reopened
    bus = bursts * max(t[CCD_S], t[BURST])
    activation = rows * max(t[RRD_S], t[FAW] / 4)
    held = _bank_cycles(t, np.ceil(bursts / blocks), reads)
    # Of the parts in the window some wait for the same bank; the blocks of one part do not.
    r = window / bursts * np.minimum(blocks, dram.banks) / dram.banks
    share = (1 + r - np.sqrt(1 + r * r)) / blocks + np.minimum(r, 1) * (1 - 1 / blocks)
    bank = np.minimum(blocks, dram.banks) * held / dram.banks / share
    if per_bank:
        cycle = t[REFI] * dram.banks / t[SET]
        bank /= 1 - (t[RFC] + t[RP]) / cycle
    cycles = np.maximum(np.maximum(bus, activation), bank)
    idle = t[RTW] + t[CWL] + t[WTR_S] - t[BURST]  # one turn to writes and back
    cycles += idle * bursts * reads * (1 - reads) / np.maximum(window / 2, bursts)
    if not per_bank and refresh != "none":
        cycles /= 1 - (t[RFC] + t[RP] + t[RCD] + t[RTP]) / t[REFI]
    return np.asarray(size / parts / dram.burst_bytes * t[BURST] / cycles)


def _bank_cycles(t: IntArray, bursts: FloatArray, reads: FloatArray) -> FloatArray:
    """Return how long a bank is held by an activation with so many bursts."""
    last = t[RCD] + (bursts - 1) * t[CCD_L]
    read = np.maximum(t[RAS], last + t[RTP]) + t[RP]
    write = np.maximum(t[RAS], last + t[CWL] + t[BURST] + t[WR]) + t[RP]
    return np.asarray(reads * read + (1 - reads) * write)


def stream_seconds(
    dram: Dram,
    request_bytes: ArrayLike,
    counts: ArrayLike = 1,
    reads_share: ArrayLike = 1.0,
    *,
    window: int = 64,
    refresh: str | None = None,
) -> FloatArray:
    """Return the seconds of so many requests: the first access, then the stream at its rate.

    Arguments broadcast; nothing takes no time. The rest is as of `stream_efficiency`.
    """
    counts, size = np.asarray(counts, np.float64), np.asarray(request_bytes, np.float64)
    if (counts < 0).any() or (size < 0).any():
        raise InputError("stream: sizes and counts must be at least 0")
    rate = dram.bytes_per_s * stream_efficiency(
        dram, np.where(size > 0, size, 1.0), reads_share, window=window, refresh=refresh
    )
    first = (dram.t_rcd_ns + dram.t_cl_ns) / 1e9
    moved = counts * size
    return np.where(moved > 0, first + moved / rate, 0.0)


def stream_joules(dram: Dram, bytes_: ArrayLike) -> FloatArray:
    """Return the energy of moving so many bytes, access and interface."""
    return np.asarray(np.asarray(bytes_, np.float64) * 8 * dram.energy_pj_per_bit * 1e-12)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _serve(t: IntArray, bank: IntArray, group: IntArray, row: IntArray, write: NDArray[np.bool_],
           window: int) -> IntArray:  # fmt: skip
    """Return the clock after the last data of each burst."""
    total, sets = len(bank), t[BANKS] // t[SET]
    done = np.zeros(total, np.int64)
    slots = np.zeros(window, np.int64)
    held, newest, now, due, turn, way = 0, 0, 0, t[REFI], 0, False
    opened = np.full(t[BANKS], -1)
    activate = np.zeros(t[BANKS], np.int64)  # earliest next command of the kind, per bank
    column = np.zeros(t[BANKS], np.int64)
    precharge = np.zeros(t[BANKS], np.int64)
    activated = np.full(t[GROUPS] + 1, _LONG_AGO)  # last activation: of each group, of all
    last = np.full((2, t[GROUPS] + 1), _LONG_AGO)  # last read and write: of each group, of all
    four, oldest = np.full(4, _LONG_AGO), 0
    hits, wanted = np.zeros((2, t[BANKS]), np.int64), np.zeros(t[BANKS], np.int64)
    while held or newest < total:
        while held < window and newest < total:
            slots[held] = newest
            held += 1
            newest += 1
        same = 0
        for i in range(held):
            same += write[slots[i]] == way
        if 4 * same <= window and held > 2 * same:
            way = not way
        hits[:], wanted[:] = 0, 0
        for i in range(held):
            k = slots[i]
            hit = row[k] == opened[bank[k]]
            hits[0, bank[k]] += hit
            if write[k] == way:
                wanted[bank[k]] += 1
                hits[1, bank[k]] += hit
        best, best_time, best_kind = -1, 2**61, 3
        for i in range(held):
            k = slots[i]
            b, g = bank[k], group[k]
            if write[k] != way and (wanted[b] or opened[b] == row[k]):
                continue
            if opened[b] == row[k]:
                kind, at = 0, column[b]
                if write[k]:
                    at = max(at, last[1, -1] + t[CCD_S], last[1, g] + t[CCD_L])
                    at = max(at, last[0, -1] + t[RTW])
                else:
                    at = max(at, last[0, -1] + t[CCD_S], last[0, g] + t[CCD_L])
                    end = t[CWL] + t[BURST]
                    at = max(at, last[1, -1] + end + t[WTR_S], last[1, g] + end + t[WTR_L])
            elif opened[b] < 0:
                kind, at = 1, max(activate[b], four[oldest] + t[FAW])
                at = max(at, activated[-1] + t[RRD_S], activated[g] + t[RRD_L])
            else:
                kind, at = 2, precharge[b]
                if hits[int(write[k] == way), b]:
                    continue
            at = max(at, now)
            if at < best_time or (at == best_time and kind < best_kind):
                best, best_time, best_kind = i, at, kind
        if best_time >= due:
            for b in range(t[BANKS]):
                # Sets are spread over the banks: b, b + BANKS / SET, and so on.
                if b % sets == turn:
                    if opened[b] >= 0:
                        activate[b] = max(due, precharge[b]) + t[RP]
                        opened[b] = -1
                    activate[b] = max(activate[b], due)
            # The set goes away when the last of its banks is closed.
            activate[turn::sets] = activate[turn::sets].max() + t[RFC]
            turn = (turn + 1) % sets
            due += t[REFI]
            continue
        k = slots[best]
        b, g = bank[k], group[k]
        now = best_time + 1
        if best_kind == 0:
            w = int(write[k])
            last[w, -1] = last[w, g] = best_time
            done[k] = best_time + (t[CWL] if w else t[CL]) + t[BURST]
            precharge[b] = max(precharge[b], done[k] + t[WR] if w else best_time + t[RTP])
            held -= 1
            for i in range(best, held):
                slots[i] = slots[i + 1]
        elif best_kind == 1:
            opened[b] = row[k]
            activated[-1] = activated[g] = four[oldest] = best_time
            oldest = (oldest + 1) % 4
            column[b] = best_time + t[RCD]
            precharge[b] = best_time + t[RAS]
        else:
            opened[b] = -1
            activate[b] = best_time + t[RP]
    return done
