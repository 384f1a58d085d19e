"""Power of V-Rex: its cores by what they do, DRAM by its traffic, link and drive by their use."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.arch.calibration import constant
from headrace.arch.memories import Dram, Pcie, Ssd
from headrace.arch.vrex.machine import CoreSizes

__all__ = ["Activity", "PowerModel"]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What a stage keeps busy.

    Attributes
    ----------
    seconds : float
    macs : int
        Of the matrix units.
    units_s : mapping of str to float
        Busy seconds of ``vpe``, ``hcu`` and ``wtu``.
    link_s : float
        In which the link moves data.
    waiting_s : float
        In which the processor waits for it.
    memory_bytes : int
        From and to device memory.
    """

    seconds: float
    macs: int
    units_s: Mapping[str, float]
    link_s: float
    waiting_s: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class PowerModel:
    """Average watts of a stage by consumer.

    Whatever it is, it draws ``vrex.idle_share`` of its power at work always, a GPU
    ``vrex.gpu_idle_share``, the rest while it is busy; a drive has an idle power of its own.

    Parameters
    ----------
    sizes : CoreSizes or None
        None: a GPU.
    device_w : float
        Published power of a GPU at work, with its memory.
    dram : Dram
    pcie : Pcie
    drive : Ssd or None
    """

    sizes: CoreSizes | None
    device_w: float
    dram: Dram
    pcie: Pcie
    drive: Ssd | None

    def watts(self, activity: Activity) -> dict[str, float]:
        """Return the average watts of processor, device memory, link and storage.

        The matrix units of V-Rex are busy as long as their products take at their peak; vector
        units and memory of the cores as long as they are. A GPU is busy unless it waits for the
        link, and is one consumer with its memory.
        """
        t = activity.seconds
        use = min(1.0, activity.link_s / t)
        storage = 0.0
        if self.drive is not None:
            storage = self.drive.idle_w + use * (self.drive.active_w - self.drive.idle_w)
        link = self.pcie.lanes * self.pcie.watt_per_lane * _share(use)
        if self.sizes is None:
            device = self.device_w * _share(1 - activity.waiting_s / t, "gpu_idle_share")
            return {"device": device, "link": link, "storage": storage}
        return {
            "cores": self._cores(activity, self.sizes),
            "memory": activity.memory_bytes / t * 8e-12 * self.dram.energy_pj_per_bit,
            "link": link,
            "storage": storage,
        }

    def _cores(self, activity: Activity, sizes: CoreSizes) -> float:
        t = activity.seconds
        matrix = activity.macs / sizes.macs_per_s / t
        busy = {"dpe": matrix, "vpe": matrix, "lxe_memory": matrix, "kvmu": activity.link_s / t}
        for unit, seconds in activity.units_s.items():
            busy[unit] = busy.get(unit, 0.0) + seconds / t
        return sum(watts * _share(busy.get(m, 0.0)) for m, watts in sizes.power_w().items())


def _share(busy: float, idle_share: str = "idle_share") -> float:
    """Return the share of the power at work that something busy for a share of time draws."""
    idle = constant(f"vrex.{idle_share}")
    return idle + (1 - idle) * min(1.0, busy)
