"""One comparison of two witnesses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.arch.point import Point

__all__ = ["SIMULATORS", "WITNESSES", "Check", "Verify"]

SIMULATORS = ("icarus", "verilator", "both")
WITNESSES = ("bits", "cycles", "hls", "resources")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison.

    Parameters
    ----------
    kernel, witness : str
        Kernel's name; what is compared, one of `WITNESSES`.
    what : str
        The quantity, such as ``accumulators`` or ``lut``.
    simulator : str
        Tool that gave `measured`.
    point : Point
        The instance that was checked.
    expected : float or None
        From the reference or model; None where there is neither, and what the hardware gave is
        stated as a fact.
    measured : float
        From the hardware.
    tolerance : float
        Largest error that passes, as a share of `measured`.
    note : str
        What a reader must know to read the line.
    """

    kernel: str
    witness: str
    what: str
    simulator: str
    point: Point
    expected: float | None
    measured: float
    tolerance: float = 0.0
    note: str = ""

    @property
    def error(self) -> float:
        """Difference as a share of what the hardware gave; 0 for a fact."""
        if self.expected is None or self.expected == self.measured:
            return 0.0
        return (self.expected - self.measured) / self.measured if self.measured else float("inf")

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; a fact passes."""
        return abs(self.error) <= self.tolerance


class Verify(Protocol):
    """The ``verify`` face of a design."""

    kernels: tuple[str, ...]

    def __call__(
        self,
        point: Point,
        *,
        kernel: str,
        witnesses: Sequence[str],
        vectors: int,
        seed: int,
        full_size: bool,
        simulators: Sequence[str],
        say: Callable[[str], None],
    ) -> list[Check]:
        """Check a small instance of `point`, or the point itself.

        Parameters
        ----------
        point : Point
        kernel : str
            One of `kernels`.
        witnesses : sequence of str
            Of `WITNESSES`, in the order in which to check them.
        vectors : int
            Random input vectors.
        seed : int
            Of these vectors, weights and stalls.
        full_size : bool
            Check `point` as it is, however long that takes.
        simulators : sequence of str
            ``icarus``, ``verilator``.
        say : callable
            Takes a line about what is being done.

        Raises
        ------
        InputError
            A tool is missing, or the point cannot be built.
        """
        ...
