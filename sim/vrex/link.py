"""The store behind the link: a drive at the edge, the CPU's memory in a server."""

from dataclasses import dataclass
from functools import cached_property

from headrace.arch.calibration import constant
from headrace.arch.memories import Pcie, Ssd
from headrace.sim import pcie, ssd

__all__ = ["Offload"]

_LONG = 1 << 20  # bytes of a request whose headers do not matter any more


@dataclass(frozen=True)
class Offload:
    """Fetches and evictions of keys and values.

    Parameters
    ----------
    link : Pcie
    drive : Ssd or None
        None: tokens go to the CPU's memory.
    by_token : bool
        Whether a layer waits for every evicted token to be written (drives only).
    """

    link: Pcie
    drive: Ssd | None
    by_token: bool

    @cached_property
    def bytes_per_s(self) -> float:
        """What the link sustains for long requests; a drive writes what is read from it."""
        is_write = self.drive is not None
        return float(pcie.effective_bandwidth(self.link, _LONG, write=is_write))

    def fetch_s(self, size: int, requests: int) -> float:
        """Return the seconds of a batch of reads of equal size, from the first one on.

        Parameters
        ----------
        size : int
            Bytes in all.
        requests : int
            Runs of contiguous bytes; 0 if nothing is fetched.
        """
        if not requests:
            return 0.0
        if self.drive is None:
            return float(pcie.transfer_seconds(self.link, size / requests, requests))
        return float(
            ssd.read_seconds(
                self.drive,
                size / requests,
                requests,
                link_bytes_per_s=self.bytes_per_s,
                link_seconds=self.link.round_trip_ns / 1e9,
            )
        )

    def evict_s(self, tokens: int) -> float:
        """Return the seconds for which a layer waits until evicted tokens are written."""
        if self.drive is None or not self.by_token:
            return 0.0
        return tokens * constant("vrex.evict_s")
