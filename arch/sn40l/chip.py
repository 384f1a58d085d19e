"""Sizes of one SN40L socket: its compute and memory units (arXiv 2405.07518, table 2)."""

from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["ChipSizes"]

_LIMIT = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ChipSizes:
    """Units of a socket, and what each of them does per cycle; the defaults are the SN40L's.

    Units and bytes per memory unit are published. Lanes, stages, clock and port width are not:
    32 x 6 multipliers at 1.6 GHz give the published 638 TFLOPS exactly.

    Parameters
    ----------
    pcus, pmus : int
        Pattern compute units and pattern memory units.
    lanes, stages : int
        Lanes of a compute unit and its pipeline stages. As a systolic array it makes
        ``lanes * stages`` multiply-accumulates per cycle, as a SIMD pipeline up to `stages`
        operations on each of `lanes` values.
    clock_hz : int
    pmu_bytes : int
        Bytes of a memory unit.
    port_bytes : int
        Bytes per cycle of a memory unit's read port, and of its write port.

    Raises
    ------
    InputError
        A size is not an integer in its range.
    """

    pcus: int = 1040
    pmus: int = 1040
    lanes: int = 32
    stages: int = 6
    clock_hz: int = 1_600_000_000
    pmu_bytes: int = 512 * 1024
    port_bytes: int = 64

    def __post_init__(self) -> None:
        most = {"clock_hz": 10**10, "pmu_bytes": 1 << 30, "lanes": 4096, "stages": 64}
        for name in self.__dataclass_fields__:
            value, limit = getattr(self, name), most.get(name, _LIMIT)
            if type(value) is not int or not 1 <= value <= limit:
                raise InputError(f"SN40L: {name} = {value!r} is not allowed: 1 to {limit}")

    @property
    def macs_per_pcu(self) -> int:
        """Multiply-accumulates of a compute unit per cycle."""
        return self.lanes * self.stages

    @property
    def peak_flop_per_s(self) -> int:
        """Peak of the socket: two operations per multiply-accumulate."""
        return 2 * self.pcus * self.macs_per_pcu * self.clock_hz

    @property
    def sram_bytes(self) -> int:
        """Bytes of all memory units."""
        return self.pmus * self.pmu_bytes

    @property
    def sram_bytes_per_s(self) -> int:
        """Bytes per second of all memory units in one direction."""
        return self.pmus * self.port_bytes * self.clock_hz

    def pcu_cycles(self, macs: int, values: int, steps: int) -> int:
        """Return the cycles of a stage's work on one compute unit.

        Parameters
        ----------
        macs : int
            Multiply-accumulates, in the systolic array.
        values, steps : int
            Values of the SIMD pipeline and operations on each, `stages` of them per pass.
        """
        passes = -(-steps // self.stages)
        return -(-macs // self.macs_per_pcu) + -(-values // self.lanes) * passes
