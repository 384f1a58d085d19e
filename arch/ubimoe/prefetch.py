"""Sizes of UbiMoE's weight prefetch (docs/ubimoe-kernels.md, "prefetch")."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.errors import InputError

__all__ = ["PrefetchSizes"]

_BOUNDARY = 4096  # bytes; no AXI burst crosses a multiple
_LARGEST_PORT = 1024
_LARGEST_BEAT = 4096  # of `LinearSizes`


@dataclass(frozen=True, kw_only=True)
class PrefetchSizes:
    """Sizes of the reader of weight images in memory, and its cycles.

    Parameters
    ----------
    ports : int
        AXI ports, or HBM channels, over which the images are striped: word p of every beat comes
        through port p. 1 to 32.
    port_bits : int
        Width of each, a power of two from 32 to 1024; a beat is at most 4096 bits.
    burst_beats : int
        Words of a burst, a power of two up to 256; a burst is at most 4096 bytes. HBM and AXI3
        take at most 16.
    outstanding : int
        Bursts under way per port, 1 to 64.
    buffer_beats : int
        Words of the FIFO behind each port, a power of two from 2 to 64 (LUT RAM).

    Raises
    ------
    InputError
        A size is out of range.
    """

    ports: int = 1
    port_bits: int = 256
    burst_beats: int = 16
    outstanding: int = 16
    buffer_beats: int = 32

    def __post_init__(self) -> None:
        """Check the ranges."""
        most_ports = min(32, _LARGEST_BEAT // max(32, self.port_bits))
        most_beats = min(256, 8 * _BOUNDARY // max(32, self.port_bits))
        for name, least, most, power in (
            ("port_bits", 32, _LARGEST_PORT, True),
            ("ports", 1, most_ports, False),
            ("burst_beats", 1, most_beats, True),
            ("outstanding", 1, 64, False),
            ("buffer_beats", 2, 64, True),
        ):
            value = getattr(self, name)
            if not least <= value <= most or (power and value & (value - 1)):
                kind = "a power of two, " if power else ""
                raise InputError(f"{name} = {value} is not allowed: {kind}{least} to {most}")

    @property
    def beat_bits(self) -> int:
        """Bits of a beat, `beat_bits` of the linear."""
        return self.ports * self.port_bits

    @property
    def burst_bytes(self) -> int:
        """Bytes of a burst; bases and strides are multiples."""
        return self.burst_beats * self.port_bits // 8

    def bursts(self, beats: Any) -> Any:
        """Return the bursts of an image on every port. Integers or integer arrays."""
        return -(-beats // self.burst_beats)

    def stride(self, beats: Any) -> Any:
        """Return the bytes from one image of so many beats to the next one on every port."""
        return self.bursts(beats) * self.burst_bytes

    def stripes(self, image: ArrayLike) -> list[NDArray[np.uint8]]:
        """Return what the memory behind each port holds of an image.

        Parameters
        ----------
        image : uint8 array, shape (beats, beat_bits / 8)
            The beats, low bytes first.

        Returns
        -------
        list of uint8 array, shape (stride(beats),)
            Filled with zeros up to a whole burst.
        """
        beats = np.asarray(image, np.uint8)
        found = []
        for part in np.split(beats, self.ports, axis=1):
            stripe = np.zeros(self.stride(len(beats)), np.uint8)
            stripe[: part.size] = part.ravel()
            found.append(stripe)
        return found

    def cycles(self, beats: Any, latency: Any) -> Any:
        """Return the cycles of a job in an idle prefetch, from the job to its last beat.

        Both included, nothing stalling. With B words per burst, O bursts under way and
        q = (bursts - 1) // O::

            4 + latency + beats + q max(0, latency + B - O B)

        A word per cycle as long as the bursts under way cover the latency; otherwise O bursts per
        latency + B cycles.

        Parameters
        ----------
        beats : int or int array
            Of the image, at least 1.
        latency : int or int array
            Cycles from an address to the first word of its burst, at least 1.
        """
        rounds = (self.bursts(beats) - 1) // self.outstanding
        uncovered = latency + self.burst_beats - self.outstanding * self.burst_beats
        return 4 + latency + beats + rounds * np.maximum(0, uncovered)
