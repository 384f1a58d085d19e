"""PCI Express: what a link moves, packet by packet, and how long a batch of requests takes.

A read is cut into requests of at most the maximum read request, each answered by completions of
at most the maximum payload; a write into packets of that payload. Every packet carries a header
beside its data. At most `tags` read requests are unanswered at a time, and the first completion
comes a round trip after its request, so a link of many small requests waits for its tags.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.arch.memories import Pcie
from headrace.errors import InputError

__all__ = ["batches", "effective_bandwidth", "transfer_joules", "transfer_seconds"]

FloatArray: TypeAlias = NDArray[np.float64]


def transfer_seconds(
    link: Pcie,
    sizes: ArrayLike,
    counts: ArrayLike = 1,
    *,
    write: bool = False,
    measured: bool = False,
) -> FloatArray:
    """Return the seconds from the first request to the last byte of each batch.

    Parameters
    ----------
    link : Pcie
    sizes, counts : array_like, shapes that broadcast to (..., n)
        Bytes of a request, and how many there are of it. The last axis is one batch, pipelined
        in order; a scalar is a batch of one kind.
    write : bool
        Posted writes towards the memory instead of reads from it.
    measured : bool
        Data at the measured rate of long copies instead of the rate that packets leave.

    Returns
    -------
    float64 array, shape (...), seconds
        Exact where the requests of a batch have one size of packets; else the wait for tags is
        that of their mean. 0 for an empty batch.

    Raises
    ------
    InputError
        A size or count is negative, or the link has no measured rate.
    """
    sizes, counts = batches(sizes, counts)
    wire = (_wire_seconds(link, sizes, write, measured) * counts).sum(-1)
    if write:
        return np.where(wire > 0, wire + link.round_trip_ns / 2e9, 0.0)
    requests = (np.ceil(sizes / link.max_read_request_bytes) * counts).sum(-1)
    each = wire / np.maximum(requests, 1)
    trip = link.round_trip_ns / 1e9
    windows = np.maximum(np.ceil(requests / link.tags) - 1, 0)
    waits = windows * np.maximum(trip - (link.tags - 1) * each, 0)
    return np.where(requests > 0, trip + wire + waits, 0.0)


def effective_bandwidth(
    link: Pcie, sizes: ArrayLike, *, write: bool = False, measured: bool = False
) -> FloatArray:
    """Return the bytes per second of an endless stream of requests of each size.

    Parameters
    ----------
    link : Pcie
    sizes : array_like of positive numbers, bytes
    write, measured : bool
        As of `transfer_seconds`.
    """
    sizes = np.asarray(sizes, np.float64)
    if (sizes <= 0).any():
        raise InputError(f"request of {sizes.min():g} bytes: must be above 0")
    wire = _wire_seconds(link, sizes, write, measured)
    if not write:
        requests = np.ceil(sizes / link.max_read_request_bytes)
        trip = link.round_trip_ns / 1e9
        wire = np.maximum(wire, (wire + requests * trip) / link.tags)
    return np.asarray(sizes / wire)


def transfer_joules(link: Pcie, seconds: ArrayLike) -> FloatArray:
    """Return the energy of a link that is busy for so many seconds, at its full-load power."""
    return np.asarray(np.asarray(seconds, np.float64) * link.lanes * link.watt_per_lane)


def _wire_seconds(link: Pcie, sizes: FloatArray, write: bool, measured: bool) -> FloatArray:
    """Return how long each request holds the direction of the link that is busier with it."""
    if measured:
        if link.measured_gb_per_s is None:
            raise InputError(f"link {link.name!r} has no measured rate")
        return np.asarray(sizes / (link.measured_gb_per_s * 1e9))
    header = link.request_header_bytes if write else link.data_header_bytes
    payload = link.max_payload_bytes
    if not write:
        payload = min(payload, link.max_read_request_bytes)
    bytes_ = sizes + np.ceil(sizes / payload) * header
    if not write:
        requests = np.ceil(sizes / link.max_read_request_bytes)
        bytes_ = np.maximum(bytes_, requests * link.request_header_bytes)
    return np.asarray(bytes_ / (link.bytes_per_s * (1 - link.dllp_share)))


def batches(sizes: ArrayLike, counts: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return sizes and counts as arrays of at least one axis, or refuse negative ones."""
    sizes = np.atleast_1d(np.asarray(sizes, np.float64))
    counts = np.atleast_1d(np.asarray(counts, np.float64))
    if (sizes < 0).any() or (counts < 0).any():
        raise InputError("transfer: sizes and counts must be at least 0")
    return sizes, counts
