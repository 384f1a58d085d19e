"""Sizes and cycles of SN40L's expert cache (docs/sn40l-expert-cache.md)."""

from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["ExpertCacheSizes"]

_STEPS = 3  # cycles of a request or clear: taken, looked up, placed


@dataclass(frozen=True, kw_only=True)
class ExpertCacheSizes:
    """Sizes of the controller that keeps experts of one size in HBM; none of them is published.

    Parameters
    ----------
    slots : int
        Places in HBM, 1 to 1024.
    experts : int
        Experts in DDR, 1 to 65536.
    lookahead : int
        Requests that are looked up, and whose experts are copied, while an earlier one has not
        finished, 0 to 15. With 0 no copy goes on beside a run, as in the paper.

    Raises
    ------
    InputError
        A size is out of range.
    """

    slots: int = 38
    experts: int = 150
    lookahead: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        ranges = {"slots": (1, 1024), "experts": (1, 65536), "lookahead": (0, 15)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise InputError(f"{name} = {value!r} is not allowed: {least} to {most}")

    @property
    def slot_bits(self) -> int:
        """Bits of the number of a slot."""
        return max(1, (self.slots - 1).bit_length())

    @property
    def expert_bits(self) -> int:
        """Bits of the number of an expert."""
        return max(1, (self.experts - 1).bit_length())

    @property
    def in_flight(self) -> int:
        """Requests that are looked up and have not finished, at most."""
        return self.lookahead + 1

    def cycles(
        self, hits: int, misses: int, clears: int = 0, *, copy: int = 1, run: int = 1
    ) -> int:
        """Return the cycles of requests without overlap: `lookahead` is 0.

        From the first request or clear to the cycle before the next one could be taken; without
        stalls, so if the last one is a run, to its end, both included.

        Parameters
        ----------
        hits, misses, clears : int
        copy, run : int, cycles
            From a command to its copy's token, from a run to its token; at least 1.

        Raises
        ------
        InputError
            `lookahead` is not 0, or a time is less than 1.
        """
        self._check_times(copy, run, exposed=True)
        return (hits + misses) * (_STEPS + 1 + run) + misses * copy + _STEPS * clears

    def overlapped_cycles(self, misses: int, *, copy: int = 1, run: int = 1) -> int:
        """Return the cycles of requests that all miss, copies beside runs: `lookahead` is 2 to 15.

        From the first request to the end of the last run, both included; without stalls, runs one
        after another, and no slot that a copy waits for: more than `in_flight` of them.

        Parameters
        ----------
        misses : int
            At least 1.
        copy, run : int, cycles
            From a command to its copy's token, from a run to its token; at least 1.

        Raises
        ------
        InputError
            `lookahead` or `slots` is too small, or a time or number is less than 1.
        """
        self._check_times(copy, run, exposed=False)
        if misses < 1:
            raise InputError(f"misses = {misses} is not allowed: at least 1")
        return _STEPS + 1 + copy + run + (misses - 1) * max(_STEPS, copy + 1, run + 1)

    def _check_times(self, copy: int, run: int, *, exposed: bool) -> None:
        for name, value in (("copy", copy), ("run", run)):
            if value < 1:
                raise InputError(f"{name} = {value} cycles is not allowed: at least 1")
        if exposed and self.lookahead:
            raise InputError(f"lookahead = {self.lookahead} is not allowed: 0, without overlap")
        if not exposed and (self.lookahead < 2 or self.slots <= self.in_flight):
            raise InputError(
                f"lookahead = {self.lookahead}, slots = {self.slots} is not allowed: at least 2,"
                " and slots beyond lookahead + 1"
            )
