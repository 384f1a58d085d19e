"""Which memory port each AXI master of a design has on a board: ``memory_ports.toml``."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from headrace.errors import InputError

__all__ = ["MemoryPorts", "load_memory_ports"]

_MASTER = re.compile(r"m_axi_([a-z]+)(\d*)")


@dataclass(frozen=True, kw_only=True)
class MemoryPorts:
    """The memory ports of one emission.

    Parameters
    ----------
    host : str
        ``zynq``: a processing system with HP ports. ``alveo``: PCIe and HBM.
    masters : mapping of str to str
        Port of each AXI master, by its prefix.
    dma : str
        Port of the DMA of the streams.
    loader : str or None
        Port through which a host without memory of its own reaches the HBM.
    """

    host: str
    masters: Mapping[str, str] = field(default_factory=dict)
    dma: str
    loader: str | None = None

    @property
    def used(self) -> list[str]:
        """All ports, each once, sorted."""
        own = [] if self.loader is None else [self.loader]
        return sorted({*self.masters.values(), self.dma, *own})

    @property
    def shared(self) -> list[str]:
        """Ports of more than one user, sorted."""
        users = [*self.masters.values(), self.dma]
        return sorted({port for port in users if users.count(port) > 1})


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("headrace.rtl").joinpath("memory_ports.toml").read_text("utf-8"))


def load_memory_ports(design: str, device: str, masters: Iterable[str]) -> MemoryPorts:
    """Return the ports of a design's AXI masters on a device.

    Parameters
    ----------
    design, device : str
    masters : iterable of str
        Prefixes ``m_axi_NAME`` or ``m_axi_NAMEnumber``.

    Raises
    ------
    InputError
        The design has no ports on the device, or fewer than there are masters.
    """
    boards = _table()[design]
    base = device.partition(":")[0]
    if base not in boards:
        raise InputError(
            f"{design} has no memory ports on device {device!r}: one of {', '.join(boards)}"
        )
    board = boards[base]
    found = {}
    for master in masters:
        match = _MASTER.fullmatch(master)
        assert match is not None, master
        name, number = match[1], int(match[2] or 0)
        if number >= len(board[name]):
            raise InputError(
                f"{number + 1} AXI masters {name!r} are not allowed on {base}: "
                f"1 to {len(board[name])}"
            )
        found[master] = board[name][number]
    return MemoryPorts(
        host=board["host"], masters=found, dma=board["dma"], loader=board.get("loader")
    )
