"""Times of kernels and passes on the sockets of a node."""

from dataclasses import dataclass
from functools import cached_property

from headrace.arch.calibration import constant
from headrace.arch.device import Device
from headrace.arch.point import Point
from headrace.arch.sn40l.chip import ChipSizes
from headrace.errors import InputError
from headrace.sim.sn40l.buffers import Tiling
from headrace.sim.sn40l.placement import place
from headrace.sim.sn40l.sections import Kernel, Program

__all__ = ["KernelTime", "Node", "chip_of", "node_of"]


@dataclass(frozen=True, kw_only=True)
class KernelTime:
    """Seconds of one call of a kernel; its launch is not in it.

    Attributes
    ----------
    compute_s, hbm_s, link_s : float
        Compute and memory units in steady state; bytes over HBM; bytes over the sockets' links.
    fill_s : float
        Until the last stage of the pipeline works.
    reduce_s : float
        Latency of its all-reduces.
    """

    compute_s: float
    hbm_s: float
    link_s: float
    fill_s: float
    reduce_s: float

    @property
    def seconds(self) -> float:
        """The slowest of units, HBM and links, behind the fill, then the all-reduces."""
        return max(self.compute_s, self.hbm_s, self.link_s) + self.fill_s + self.reduce_s

    @property
    def bound(self) -> str:
        """What sets the steady state: ``units``, ``hbm`` or ``link``."""
        steady = {"units": self.compute_s, "hbm": self.hbm_s, "link": self.link_s}
        return max(steady, key=lambda name: steady[name])


@dataclass(frozen=True)
class Node:
    """Sockets of a node, each of which runs the same program on its share.

    Parameters
    ----------
    chip : ChipSizes
    sockets : int
    hbm_bytes_per_s : float
        Peak of one socket.
    hbm_bytes, ddr_bytes : float
        Capacity of all sockets.
    copy_bytes_per_s : float
        From DDR to HBM, all sockets.
    launch : str
        ``software`` or ``hardware``.
    looping : bool
    """

    chip: ChipSizes
    sockets: int
    hbm_bytes_per_s: float
    hbm_bytes: float
    ddr_bytes: float
    copy_bytes_per_s: float
    launch: str
    looping: bool

    @cached_property
    def launch_s(self) -> float:
        """Seconds of a launch: program load, argument load, execute."""
        return constant(f"sn40l.{self.launch}_launch_s")

    def kernel_time(self, kernel: Kernel, tiling: Tiling) -> KernelTime:
        """Return the times of one call.

        Parameters
        ----------
        kernel : Kernel
        tiling : Tiling
            How the rows pass through its stages.
        """
        placed = place(kernel, self.chip)
        hertz = self.chip.clock_hz
        stages = [
            self.chip.pcu_cycles(task.macs, task.values, task.steps) / units
            for task, units in zip(kernel.tasks, placed.pcus, strict=True)
        ]
        # While the first tile goes through all other stages, the slowest one waits for it.
        fill = (sum(stages) - max(stages)) / tiling.tiles / hertz
        reduces = sum(task.kind == "all_reduce" for task in kernel.tasks)
        return KernelTime(
            compute_s=float(placed.cycles) / hertz,
            hbm_s=kernel.hbm_bytes / (self.hbm_bytes_per_s * constant("sn40l.hbm_efficiency")),
            link_s=kernel.link_bytes / (constant("sn40l.link_gb_per_s") * 1e9),
            fill_s=fill,
            reduce_s=reduces * constant("sn40l.all_reduce_s"),
        )

    def launches(self, program: Program) -> int:
        """Return the launches of a program."""
        return program.launches(looping=self.looping)


def chip_of(point: Point) -> ChipSizes:
    """Return the sizes of a socket of a point; 6 stages, the lanes by the multipliers."""
    macs = point.integer("macs")
    if macs % _STAGES:
        raise InputError(f"macs = {macs} is not allowed: a multiple of {_STAGES} stages is needed")
    return ChipSizes(
        pcus=point.integer("pcus"),
        pmus=point.integer("pmus"),
        lanes=macs // _STAGES,
        stages=_STAGES,
        clock_hz=point.integer("clock_mhz") * 1_000_000,
        pmu_bytes=point.integer("pmu_kib") * 1024,
    )


_STAGES = 6


def node_of(point: Point, device: Device) -> Node:
    """Return the node of a point.

    Raises
    ------
    InputError
        The device is no SN40L.
    """
    base = device.name.partition(":")[0]
    if base not in ("sn40l", "sn40l-node"):
        raise InputError(f"sn40l cannot run on {device.name!r}: one of sn40l, sn40l-node needed")
    sockets = 1 if base == "sn40l" else 8
    wanted = point.integer("sockets")
    hbm, ddr = device.tiers["hbm"], device.tiers["ddr"]
    assert hbm.bandwidth_bytes_per_s is not None
    share = wanted / sockets
    return Node(
        chip=chip_of(point),
        sockets=wanted,
        hbm_bytes_per_s=hbm.bandwidth_bytes_per_s / sockets,
        hbm_bytes=hbm.capacity_bytes * share,
        ddr_bytes=ddr.capacity_bytes * share,
        copy_bytes_per_s=constant("sn40l.copy_gb_per_s") * 1e9 * wanted / 8,
        launch=point.text("launch"),
        looping=point.switch("looping"),
    )
