"""External memories and links: DRAM, PCIe and SSDs, each figure with its source."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from math import ceil
from types import MappingProxyType
from typing import Any

from headrace.arch.device import Figure
from headrace.errors import InputError

__all__ = ["Dram", "Pcie", "Ssd", "load_dram", "load_pcie", "load_ssd", "memory_names"]


@dataclass(frozen=True, kw_only=True)
class Dram:
    """A DRAM system of equal channels; times in ns, from command to command, as JEDEC names them.

    Parameters
    ----------
    name : str
    channels, width_bits : int
        Independent channels (pseudo-channels of HBM) and data bits of each.
    rate_mt_per_s : float
        Transfers per second and pin, in 10^6.
    clock_ns : float
        Command clock; times are rounded up to it.
    burst_length : int
        Transfers of one column command.
    bank_groups, banks_per_group, page_bytes : int
        Of one channel.
    interleave_bytes : int
        Contiguous bytes of one channel before the next, and of one bank before the next.
    t_rcd_ns, t_rp_ns, t_ras_ns, t_rtp_ns, t_wr_ns, t_cl_ns, t_cwl_ns : float
        Within a bank.
    t_ccd_s_ns, t_ccd_l_ns, t_rrd_s_ns, t_rrd_l_ns, t_faw_ns : float
        Between banks of other groups (s) or the same group (l).
    t_rtw_ns : float
        Read command to write command; t_wtr_s_ns, t_wtr_l_ns : end of write data to read command.
    t_refi_ns, t_rfc_ab_ns, t_rfc_pb_ns : float
        Refresh interval, and how long all banks, or one set of banks, are away; a `t_rfc_pb_ns`
        of 0 says that there is no refresh per bank.
    refresh_banks : int
        Banks that one refresh per bank takes.
    energy_pj_per_bit : float
        Access and interface, long streams.
    figures : mapping of str to Figure
        Every figure by its key, with source and alternatives.
    """

    name: str
    channels: int
    width_bits: int
    rate_mt_per_s: float
    clock_ns: float
    burst_length: int
    bank_groups: int
    banks_per_group: int
    page_bytes: int
    interleave_bytes: int
    t_rcd_ns: float
    t_rp_ns: float
    t_ras_ns: float
    t_rtp_ns: float
    t_wr_ns: float
    t_cl_ns: float
    t_cwl_ns: float
    t_ccd_s_ns: float
    t_ccd_l_ns: float
    t_rrd_s_ns: float
    t_rrd_l_ns: float
    t_faw_ns: float
    t_rtw_ns: float
    t_wtr_s_ns: float
    t_wtr_l_ns: float
    t_refi_ns: float
    t_rfc_ab_ns: float
    t_rfc_pb_ns: float
    refresh_banks: int
    energy_pj_per_bit: float
    figures: Mapping[str, Figure]

    @property
    def banks(self) -> int:
        """Banks of one channel."""
        return self.bank_groups * self.banks_per_group

    @property
    def burst_bytes(self) -> int:
        """Bytes of one column command."""
        return self.burst_length * self.width_bits // 8

    @property
    def bytes_per_s(self) -> float:
        """Peak of all channels."""
        return self.channels * self.width_bits / 8 * self.rate_mt_per_s * 1e6

    def cycles(self, name: str) -> int:
        """Return the time ``t_{name}_ns`` in command clocks, rounded up."""
        time: float = getattr(self, f"t_{name}_ns")
        return ceil(time / self.clock_ns - 1e-6)

    @property
    def burst_cycles(self) -> int:
        """Command clocks for which a burst holds the data bus."""
        return ceil(1e3 * self.burst_length / self.rate_mt_per_s / self.clock_ns - 1e-3)


@dataclass(frozen=True, kw_only=True)
class Pcie:
    """A PCI Express link, one direction of it.

    Parameters
    ----------
    name : str
    lanes : int
    rate_gt_per_s : float
        Per lane.
    code_share : float
        Data bits per bit on the wire.
    max_payload_bytes, max_read_request_bytes : int
        Of a packet with data; of one read request.
    data_header_bytes, request_header_bytes : int
        Framing, sequence number, header and check of a packet: a completion; a write or read
        request (64-bit address).
    dllp_share : float
        Share of the wire that acknowledgements, flow control and skips take.
    round_trip_ns : float
        From a read request to its first completion, unloaded, with the memory behind the link.
    tags : int
        Read requests outstanding.
    measured_gb_per_s : float or None
        Rate of a long copy, measured; None where no source gives it.
    watt_per_lane : float
        At full load.
    figures : mapping of str to Figure
    """

    name: str
    lanes: int
    rate_gt_per_s: float
    code_share: float
    max_payload_bytes: int
    max_read_request_bytes: int
    data_header_bytes: int
    request_header_bytes: int
    dllp_share: float
    round_trip_ns: float
    tags: int
    measured_gb_per_s: float | None = None
    watt_per_lane: float
    figures: Mapping[str, Figure]

    @property
    def bytes_per_s(self) -> float:
        """Bytes per second on the wire, after the line code."""
        return self.lanes * self.rate_gt_per_s * 1e9 / 8 * self.code_share


@dataclass(frozen=True, kw_only=True)
class Ssd:
    """A flash drive.

    Parameters
    ----------
    name : str
    channels, dies_per_channel, planes_per_die : int
        Planes read on their own.
    page_bytes : int
        Of one plane.
    t_read_us, t_program_us : float
        Of a page.
    channel_mb_per_s : float
        Transfer rate of one flash channel.
    command_us : float
        Controller time per request: the reciprocal of its limit of requests per second.
    fixed_us : float
        Part of a request's latency outside the flash, pipelined.
    queue_depth : int
        Requests outstanding.
    read_gb_per_s, write_gb_per_s : float
        Sequential ceilings of controller and interface; writes into the buffer.
    buffer_bytes : int
        Write buffer.
    active_w, idle_w : float
    figures : mapping of str to Figure
    """

    name: str
    channels: int
    dies_per_channel: int
    planes_per_die: int
    page_bytes: int
    t_read_us: float
    t_program_us: float
    channel_mb_per_s: float
    command_us: float
    fixed_us: float
    queue_depth: int
    read_gb_per_s: float
    write_gb_per_s: float
    buffer_bytes: int
    active_w: float
    idle_w: float
    figures: Mapping[str, Figure]

    @property
    def planes(self) -> int:
        """Planes of the drive."""
        return self.channels * self.dies_per_channel * self.planes_per_die


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(files("headrace.arch").joinpath("memories.toml").read_text("utf-8"))


def memory_names(kind: str) -> tuple[str, ...]:
    """Return the names of all memories of a kind: ``dram``, ``pcie`` or ``ssd``."""
    if kind not in _table():
        raise InputError(f"unknown kind of memory {kind!r}: one of {', '.join(_table())}")
    return tuple(_table()[kind])


def _load(kind: str, build: Callable[..., Any], name: str) -> Any:
    base, colon, alternative = name.partition(":")
    if base not in memory_names(kind):
        raise InputError(f"unknown {kind} {base!r}: one of {', '.join(memory_names(kind))}")
    figures = {
        key: Figure(entry["value"], entry["source"], MappingProxyType(entry.get("others", {})))
        for key, entry in _table()[kind][base].items()
    }
    known = sorted({other for f in figures.values() for other in f.alternatives})
    if colon and alternative not in known:
        raise InputError(
            f"{kind} {base!r} has no alternative {alternative!r}: one of {', '.join(known)}"
        )
    figures = {
        key: Figure(f.alternatives.get(alternative, f.value), f.source, f.alternatives)
        for key, f in figures.items()
    }
    values = {key: figure.value for key, figure in figures.items()}
    assert set(values) <= {field.name for field in fields(build)}  # type: ignore[arg-type]
    return build(name=name, figures=MappingProxyType(figures), **values)


def load_dram(name: str) -> Dram:
    """Return the DRAM called `name`, or ``name:alternative``; `InputError` if there is none."""
    return _load("dram", Dram, name)  # type: ignore[no-any-return]


def load_pcie(name: str) -> Pcie:
    """Return the link called `name`, or ``name:alternative``; `InputError` if there is none."""
    return _load("pcie", Pcie, name)  # type: ignore[no-any-return]


def load_ssd(name: str) -> Ssd:
    """Return the drive called `name`, or ``name:alternative``; `InputError` if there is none."""
    return _load("ssd", Ssd, name)  # type: ignore[no-any-return]
