"""Sizes of V-Rex's KV management unit (docs/vrex-units.md, "kv_management")."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.errors import InputError

__all__ = ["LAYER_BITS", "NUMBER_BITS", "KvManagementSizes"]

NUMBER_BITS = 16
"""Bits of a number of tokens and of the number of a cluster."""

LAYER_BITS = 8
"""Bits of the number of a layer."""

_FILL = 4  # cycles: the command, and a token's or an extent's way to its descriptor


@dataclass(frozen=True, kw_only=True)
class KvManagementSizes:
    """Sizes of the KV management unit, and its cycles; none of them is published.

    Parameters
    ----------
    layers : int
        Layers whose tokens have places, 1 to 256.
    resident : int
        Tokens of a layer that stay in device memory, 1 to 65535.
    clusters : int
        Clusters of a layer, 2 to 65535.
    extent_tokens : int
        Token slots of an extent of offload memory, a power of two up to 1024.
    extents : int
        Extents of a layer, 2 to 65535.

    Raises
    ------
    InputError
        A size is out of range.
    """

    layers: int = 2
    resident: int = 1024
    clusters: int = 1024
    extent_tokens: int = 32
    extents: int = 2048

    def __post_init__(self) -> None:
        """Check the ranges."""
        largest = 2**NUMBER_BITS - 1
        ranges = {
            "layers": (1, 2**LAYER_BITS),
            "resident": (1, largest),
            "clusters": (2, largest),
            "extent_tokens": (1, 1024),
            "extents": (2, largest),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.extent_tokens & (self.extent_tokens - 1):
            raise InputError(
                f"extent_tokens = {self.extent_tokens} is not allowed: a power of two is needed"
            )

    @property
    def cluster_bits(self) -> int:
        """Bits of the number of a cluster."""
        return (self.clusters - 1).bit_length()

    @property
    def row_bits(self) -> int:
        """Bits of the number of a cluster among those of all layers."""
        return (self.layers * self.clusters - 1).bit_length()

    @property
    def slot_bits(self) -> int:
        """Bits of a token slot of device memory, at least 1."""
        return max(1, (self.layers * self.resident - 1).bit_length())

    @property
    def extent_bits(self) -> int:
        """Bits of the number of an extent among those of all layers."""
        return (self.layers * self.extents - 1).bit_length()

    @property
    def used_bits(self) -> int:
        """Bits of a number of extents of one layer."""
        return self.extents.bit_length()

    @property
    def offset_bits(self) -> int:
        """Bits of a token slot in its extent; 0 if an extent has one."""
        return self.extent_tokens.bit_length() - 1

    @property
    def place_bits(self) -> int:
        """Bits of a token slot of offload memory."""
        return self.extent_bits + self.offset_bits

    @property
    def memory_bits(self) -> dict[str, int]:
        """Bits of each memory by name."""
        layer_bits = max(1, (self.resident - 1).bit_length()) + 1 + self.used_bits
        return {
            "ring": self.layers * self.resident * self.cluster_bits,
            "clusters": self.layers * self.clusters * (NUMBER_BITS + 2 * self.extent_bits),
            "next": self.layers * self.extents * self.extent_bits,
            "layers": self.layers * layer_bits,
        }

    def append_cycles(self, tokens: int, *, clear: bool = False) -> int:
        """Return the cycles from an append command to its last write, both included.

        No stream stalls. The next command is taken in the cycle after.

        Parameters
        ----------
        tokens : int
            At least 1.
        clear : bool
            Whether the command clears the layer, one cluster per cycle.

        Raises
        ------
        InputError
            No tokens.
        """
        if tokens < 1:
            raise InputError(f"{tokens} tokens are not allowed: at least 1")
        return _FILL + tokens + (self.clusters if clear else 0)

    def fetch_cycles(self, offloaded: Sequence[int]) -> int:
        """Return the cycles from a fetch command to its last read, both included.

        No stream stalls. An extent takes one cycle, and so does a cluster without any. The next
        command is taken in the cycle of the last read.

        Parameters
        ----------
        offloaded : sequence of int
            Offloaded tokens of each chosen cluster, of which there is at least one.

        Raises
        ------
        InputError
            No clusters.
        """
        tokens = np.asarray(offloaded, np.int64)
        if not tokens.size:
            raise InputError("0 chosen clusters are not allowed: at least 1")
        return _FILL + int(np.maximum(1, -(-tokens // self.extent_tokens)).sum())
