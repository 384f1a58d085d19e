"""A memory behind an AXI4 read port, for simulations; needs nothing but Python."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["ReadMemory", "ReadPlan"]

_BOUNDARY = 4096
_INCREMENTING = 1
_SLAVE_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class ReadPlan:
    """What a memory holds, and when it answers.

    Parameters
    ----------
    word_bytes : int
    regions : mapping of int to str
        Contents as hexadecimal bytes, lowest address first, by the address of the first one. A
        read elsewhere is an error.
    latency : sequence of int
        Cycles from an address to the first word of its burst, at least 1, for each burst; from
        the start again after the last one.
    addresses, words : sequence of int, optional
        Earliest cycle in which each address is accepted and each word offered; without limit
        after the last one.
    stall : float
        Chance, per cycle, that an address or a word which could go does not.
    seed : int
        Of the stalls.
    faults : sequence of int
        Addresses of words that come with SLVERR.
    """

    word_bytes: int
    regions: Mapping[int, str]
    latency: Sequence[int] = (1,)
    addresses: Sequence[int] = ()
    words: Sequence[int] = ()
    stall: float = 0.0
    seed: int = 0
    faults: Sequence[int] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Return the plan as what JSON can hold."""
        lists = ("latency", "addresses", "words", "faults")
        return asdict(self) | {name: [int(n) for n in getattr(self, name)] for name in lists}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "ReadPlan":
        """Return the plan that `plain` gave."""
        regions = {int(address): text for address, text in plain["regions"].items()}
        return cls(**{**plain, "regions": regions})


class ReadMemory:
    """Answers bursts in order, one word per cycle at most, and checks what it is asked.

    Each cycle has two steps: `drive` gives the levels of the memory's outputs, `sample` is told
    those of its inputs when they have settled.

    Parameters
    ----------
    plan : ReadPlan

    Attributes
    ----------
    address_times, word_times : list of int
        Cycles of the transfers so far.
    """

    OUTPUTS = ("arready", "rvalid", "rdata", "rresp", "rlast")
    INPUTS = ("arvalid", "araddr", "arlen", "arsize", "arburst", "rready")

    def __init__(self, plan: ReadPlan) -> None:
        self.plan = plan
        self.address_times: list[int] = []
        self.word_times: list[int] = []
        self._random = random.Random(plan.seed)
        self._waiting: list[tuple[int, int, bool]] = []  # earliest cycle, address, last
        self._asked: tuple[int, ...] | None = None  # an address that was offered, not taken
        self._accepts = False
        self._offers = False
        self._words = {}
        for base, text in plan.regions.items():
            raw = bytes.fromhex(text)
            for low in range(0, len(raw), plan.word_bytes):
                word = raw[low : low + plan.word_bytes]
                self._words[base + low] = int.from_bytes(word, "little")

    def drive(self, cycle: int) -> tuple[int, ...]:
        """Return the levels of `OUTPUTS` in a cycle."""
        plan = self.plan
        self._accepts = self._may(len(self.address_times), plan.addresses, cycle)
        if not self._offers and self._waiting and self._waiting[0][0] <= cycle:
            self._offers = self._may(len(self.word_times), plan.words, cycle)
        if not self._offers:
            return int(self._accepts), 0, 0, 0, 0
        _, address, last = self._waiting[0]
        response = _SLAVE_ERROR if address in plan.faults else 0
        return int(self._accepts), 1, self._words[address], response, int(last)

    def _may(self, done: int, arrivals: Sequence[int], cycle: int) -> bool:
        if done < len(arrivals) and arrivals[done] > cycle:
            return False
        return self.plan.stall == 0.0 or self._random.random() >= self.plan.stall

    def sample(self, cycle: int, *levels: int) -> bool:
        """Take the levels of `INPUTS` in a cycle; tell whether anything was transferred.

        Raises
        ------
        AssertionError
            The master breaks a rule of AXI, or reads what is not there.
        """
        valid, *request, ready = (int(level) for level in levels)
        if self._asked is not None:
            assert (bool(valid), tuple(request)) == (True, self._asked), "address withdrawn"
        taken = bool(valid and self._accepts)
        self._asked = tuple(request) if valid and not taken else None
        went = bool(self._offers and ready)
        if went:
            self._waiting.pop(0)
            self.word_times.append(cycle)
            self._offers = False
        if taken:
            self._accept(cycle, *request)
        return taken or went

    def _accept(self, cycle: int, address: int, length: int, size: int, burst: int) -> None:
        width = self.plan.word_bytes
        assert burst == _INCREMENTING, f"burst type {burst}"
        assert 1 << size == width, f"size {size} on a port of {width} bytes"
        last = address + length * width
        assert address % width == 0, f"address {address:x} is within a word"
        assert address // _BOUNDARY == last // _BOUNDARY, f"burst at {address:x} crosses 4 KB"
        latency = self.plan.latency[len(self.address_times) % len(self.plan.latency)]
        for word in range(address, last + 1, width):
            assert word in self._words, f"nothing is at {word:x}"
            self._waiting.append((cycle + latency, word, word == last))
        self.address_times.append(cycle)
