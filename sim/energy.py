"""Energy: a static part and a price per operation, in terms that add up exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from headrace.errors import InputError

__all__ = ["ASSUMED_PRICES", "EnergyBudget", "EnergyModel", "Price"]

_FJ_PER_PJ = 1000
_FJ_PER_J = 10**15


@dataclass(frozen=True)
class Price:
    """What one operation costs.

    Parameters
    ----------
    energy_pj : float
        Picojoules, counted in steps of a femtojoule.
    source : str
        Where the figure is from.
    assumed : bool
        The figure is an assumption for the class of device, not measured on it.
    """

    energy_pj: float
    source: str
    assumed: bool = True


_HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014, fig. 1.1.9 (45 nm)"

ASSUMED_PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "lut_add": Price(0.5, "assumption: 10-24 bit add in LUTs and carry, routing included"),
        "dsp_mac_fp16": Price(6.0, f"assumption: 1.5 pJ logic [{_HOROWITZ}], 4 times for an FPGA"),
        "bram_access": Price(8.0, f"assumption: 10 pJ per 64 bit of 8 KB cache [{_HOROWITZ}]"),
        "uram_access": Price(16.0, f"assumption: 20 pJ per 64 bit of 32 KB cache [{_HOROWITZ}]"),
        "ddr_byte": Price(162.5, f"assumption: 1.3 nJ per 64 bit of DRAM [{_HOROWITZ}]"),
    }
)
"""Prices in use where nothing was calibrated; every one of them is an assumption."""


@dataclass(frozen=True)
class EnergyBudget:
    """Energy of a run by class, in femtojoules, so that it adds up exactly.

    Attributes
    ----------
    energy_fj : mapping of str to int
        ``"static"`` and one entry per class of operation.
    seconds : float
        Length of the run.
    """

    energy_fj: Mapping[str, int]
    seconds: float

    @property
    def total_fj(self) -> int:
        """Sum of all terms."""
        return sum(self.energy_fj.values())

    @property
    def energy_j(self) -> float:
        """Sum of all terms in joules."""
        return self.total_fj / _FJ_PER_J

    @property
    def power_w(self) -> float:
        """Average power."""
        return self.energy_j / self.seconds

    def power_by_class_w(self) -> dict[str, float]:
        """Return the average power of every term."""
        return {name: fj / _FJ_PER_J / self.seconds for name, fj in self.energy_fj.items()}


@dataclass(frozen=True)
class EnergyModel:
    """Static power, and a price for each class of operation.

    Parameters
    ----------
    static_w : float
        Power drawn whatever the design does.
    prices : mapping of str to Price

    Raises
    ------
    InputError
        A figure is negative.
    """

    static_w: float
    prices: Mapping[str, Price]

    def __post_init__(self) -> None:
        if not self.static_w >= 0:
            raise InputError(f"static power must be at least 0 W, not {self.static_w}")
        for name, price in self.prices.items():
            if not price.energy_pj >= 0 or name == "static":
                raise InputError(f"price of {name!r} must be at least 0 pJ, not {price.energy_pj}")

    def energy(self, counts: Mapping[str, int], seconds: float) -> EnergyBudget:
        """Return the energy of a run.

        Parameters
        ----------
        counts : mapping of str to int
            Operations by class.
        seconds : float
            Length of the run; above 0.

        Returns
        -------
        EnergyBudget

        Raises
        ------
        InputError
            A class has no price, a count is negative, or the run has no length.
        """
        if not seconds > 0:
            raise InputError(f"the run must take more than 0 s, not {seconds}")
        terms = {"static": round(self.static_w * seconds * _FJ_PER_J)}
        for name, count in counts.items():
            if name not in self.prices:
                known = ", ".join(sorted(self.prices))
                raise InputError(f"no energy price for {name!r}; there are {known}")
            if count < 0:
                raise InputError(f"count of {name!r} must not be negative, is {count}")
            terms[name] = int(count) * round(self.prices[name].energy_pj * _FJ_PER_PJ)
        return EnergyBudget(MappingProxyType(terms), seconds)
