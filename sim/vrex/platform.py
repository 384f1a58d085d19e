"""A device as the machine model needs it: processor, memory, link, store and power."""

from dataclasses import dataclass, replace

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.memories import Dram, Pcie, Ssd, load_dram, load_pcie, load_ssd
from headrace.arch.point import Point
from headrace.arch.vrex.machine import core_sizes
from headrace.errors import InputError
from headrace.sim.dram import stream_efficiency
from headrace.sim.vrex.link import Offload
from headrace.sim.vrex.processor import Cores, Gpu, Processor

__all__ = ["Platform", "memory_tier", "platform_of"]

_EDGE = ("lpddr5", "lpddr5-6400", "gen3-x4", "bg6")
_SERVER = ("hbm", "hbm2e-1935", "gen4-x16", "")
_PARTS = {"vrex8": _EDGE, "agx-orin": _EDGE, "vrex48": _SERVER, "a100": _SERVER}
"""Tier of the device memory, DRAM, link, and drive behind it ("": the CPU's memory)."""

_LONG = 1 << 22  # bytes of a read of weights


@dataclass(frozen=True, kw_only=True)
class Platform:
    """Parts of a device.

    Attributes
    ----------
    processor : Processor
    is_asic : bool
        V-Rex; else a GPU.
    tier : str
        Name of the device memory.
    memory_bytes_per_s : float
        What it sustains: that of long reads between refreshes of all banks, as in the memory
        simulator that the paper used; of a GPU, the share fitted to it.
    offload : Offload
    dram, pcie : Dram, Pcie
    drive : Ssd or None
        None: tokens go to the CPU's memory.
    device_w : float
        Published power.
    """

    processor: Processor
    is_asic: bool
    tier: str
    memory_bytes_per_s: float
    offload: Offload
    dram: Dram
    pcie: Pcie
    drive: Ssd | None
    device_w: float


def memory_tier(device: Device) -> str:
    """Return the name of the device memory; raise `InputError` as `platform_of`."""
    return _parts(device)[0]


def _parts(device: Device) -> tuple[str, str, str, str]:
    base = device.name.partition(":")[0]
    if base not in _PARTS:
        raise InputError(f"vrex cannot run on {device.name!r}: one of {', '.join(_PARTS)} needed")
    return _PARTS[base]


def platform_of(point: Point, device: Device) -> Platform:
    """Return the parts of a device for a point.

    Raises
    ------
    InputError
        The device is not one of those that the paper compares.
    """
    tier, dram_name, pcie_name, drive_name = _parts(device)
    dram, pcie = load_dram(dram_name), load_pcie(pcie_name)
    drive = load_ssd(drive_name) if drive_name else None
    is_asic = device.kind == "asic"
    peak_bytes = device.tiers[tier].bandwidth_bytes_per_s
    assert peak_bytes is not None
    if is_asic:
        processor: Processor = Cores(core_sizes(point), point.text("prediction") == "units")
        share = float(stream_efficiency(dram, _LONG, refresh="all-bank"))
    else:
        assert device.peak_flop_per_s is not None
        processor, share = Gpu(device.peak_flop_per_s), constant("vrex.gpu_memory_efficiency")
    if raw := point.integer("link_mb_per_s"):
        pcie = replace(pcie, rate_gt_per_s=8e-3 * raw / pcie.lanes)
    return Platform(
        processor=processor,
        is_asic=is_asic,
        tier=tier,
        memory_bytes_per_s=peak_bytes * share,
        offload=Offload(pcie, drive, is_asic and point.text("evict") == "token"),
        dram=dram,
        pcie=pcie,
        drive=drive,
        device_w=device.power_w or 0.0,
    )
