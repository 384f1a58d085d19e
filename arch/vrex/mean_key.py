"""Sizes of V-Rex's mean-key unit (docs/vrex-units.md, "mean_key")."""

from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["COUNT_BITS", "QUOTIENT_BITS", "MeanKeySizes"]

COUNT_BITS = 16
"""Bits of a cluster's count of keys."""

QUOTIENT_BITS = 10
"""Bits of a quotient from 1/2 to 2: a mantissa of 8, the bit that rounds it, one around them."""

_STAGES_BEFORE, _STAGES_BEHIND = 5, 2  # of the division


@dataclass(frozen=True, kw_only=True)
class MeanKeySizes:
    """Sizes of the unit that moves mean keys, and its cycles.

    Parameters
    ----------
    lanes : int
        Coordinates per beat, 1 to 64.
    coordinates : int
        Of a key, all KV heads together; a multiple of `lanes`, up to 65536.
    bits_per_stage : int
        Bits of a quotient between two registers, 1 to `QUOTIENT_BITS`.

    Raises
    ------
    InputError
        A size is out of range.
    """

    lanes: int = 16
    coordinates: int = 1024
    bits_per_stage: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {
            "lanes": (1, 64),
            "coordinates": (self.lanes, 2**16),
            "bits_per_stage": (1, QUOTIENT_BITS),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(f"{name} = {value} is not allowed: {least} to {most}")
        if self.coordinates % self.lanes:
            raise InputError(
                f"coordinates = {self.coordinates} is not allowed: a multiple of {self.lanes}"
            )

    @property
    def beats(self) -> int:
        """Beats of a key."""
        return self.coordinates // self.lanes

    @property
    def division_stages(self) -> int:
        """Registers in the division."""
        return -(-QUOTIENT_BITS // self.bits_per_stage)

    @property
    def latency(self) -> int:
        """Cycles from a beat to the moved one.

        Unpack, multiply, align, add, normalise; divide; place, round.
        """
        return _STAGES_BEFORE + self.division_stages + _STAGES_BEHIND

    def cycles(self, tokens: int) -> int:
        """Return the cycles from a count to the last moved beat of `tokens` tokens, both included.

        Nothing stalls. The count of a token is taken with the last beat of the one before.
        """
        return 1 + tokens * self.beats + self.latency
