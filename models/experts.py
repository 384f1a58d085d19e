"""A composition of experts: whole networks behind a router, and traces of what is asked of them.

The router names the expert of every prompt. Prompts come in batches: the router runs once for the
batch, then the pairs of prompt and expert run one after another, in order of arrival. A trace is
the sequence of those experts. Source: SN40L (arXiv 2405.07518), Samba-CoE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.files import read_text
from headrace.models.network import Network
from headrace.models.routing import skewed_loads

__all__ = [
    "MAX_EXPERTS",
    "MAX_REQUESTS",
    "CompositionOfExperts",
    "Requests",
    "all_miss_trace",
    "check_requests",
    "read_trace",
    "uniform_trace",
    "zipf_trace",
]

MAX_EXPERTS = 4096
MAX_REQUESTS = 1 << 22
_DIGITS = len(str(MAX_EXPERTS - 1))

Requests: TypeAlias = NDArray[np.int64]
"""Experts in the order of the requests for them, counted from 0, shape (requests,)."""


@dataclass(frozen=True, kw_only=True)
class CompositionOfExperts:
    """Experts of one shape, and the network that chooses among them.

    Parameters
    ----------
    expert, router : Network
    experts : int
        1 to `MAX_EXPERTS`.
    """

    expert: Network
    router: Network
    experts: int

    def __post_init__(self) -> None:
        _check_count("experts", self.experts, MAX_EXPERTS)

    @property
    def expert_bytes(self) -> int:
        """Bytes of the weights of one expert, which is what a copy moves."""
        return self.expert.weight_bytes()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, the router's with them."""
        return self.router.weight_bytes() + self.experts * self.expert_bytes

    def kv_bytes(self, prompts: int, tokens: int) -> int:
        """Return the bytes of the KV cache of `prompts` of `tokens` each in an expert."""
        return prompts * tokens * self.expert.kv_bytes_per_token

    def resident_experts(self, memory_bytes: int, kv_bytes: int = 0) -> int:
        """Return how many experts a memory holds beside the router and `kv_bytes`.

        Raises
        ------
        InputError
            It holds none.
        """
        room = memory_bytes - self.router.weight_bytes() - kv_bytes
        if room < self.expert_bytes:
            raise InputError(
                f"a memory of {memory_bytes} bytes holds no expert: router, KV cache and one "
                f"expert take {memory_bytes - room + self.expert_bytes}"
            )
        return room // self.expert_bytes


def zipf_trace(experts: int, requests: int, exponent: float, seed: int) -> Requests:
    """Draw requests, expert e with a probability in proportion to (e + 1)^-`exponent`.

    Parameters
    ----------
    experts, requests : int
        1 to `MAX_EXPERTS`; 1 to `MAX_REQUESTS`.
    exponent : float
        From 0, which is uniform, to 16.
    seed : int
        At least 0; the same seed draws the same requests.

    Returns
    -------
    ndarray of int64, shape (requests,)
    """
    _check_count("requests", requests, MAX_REQUESTS)
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed = {seed!r}; an integer from 0 is needed")
    ends = np.cumsum(skewed_loads(_check_count("experts", experts, MAX_EXPERTS), exponent))
    marks = np.random.default_rng(seed).random(requests) * ends[-1]
    # A mark that rounds up to the last end belongs to the last expert.
    drawn = np.searchsorted(ends, marks, side="right")
    return np.asarray(np.minimum(drawn, experts - 1), np.int64)


def uniform_trace(experts: int, requests: int, seed: int) -> Requests:
    """Draw requests, all experts alike; parameters are those of `zipf_trace`."""
    return zipf_trace(experts, requests, 0.0, seed)


def all_miss_trace(experts: int, requests: int) -> Requests:
    """Return the experts in turn, over and over: with more than fit in, LRU always misses."""
    _check_count("experts", experts, MAX_EXPERTS)
    return np.arange(_check_count("requests", requests, MAX_REQUESTS), dtype=np.int64) % experts


def read_trace(path: Path, experts: int = MAX_EXPERTS) -> Requests:
    """Read a trace from a file that nobody has vouched for.

    Parameters
    ----------
    path : Path
        Text, one expert a line in order of arrival, in decimal digits.
    experts : int
        How many there are; a line is 0 to `experts` - 1.

    Raises
    ------
    InputError
        The file cannot be read or is larger than any trace, a line is no such number, or there
        are none or more than `MAX_REQUESTS`.
    """
    _check_count("experts", experts, MAX_EXPERTS)
    lines = read_text(path, MAX_REQUESTS * (_DIGITS + 1)).removesuffix("\n").split("\n")
    if lines == [""] or len(lines) > MAX_REQUESTS:
        found = "none" if lines == [""] else len(lines)
        raise InputError(f"{path}: 1 to {MAX_REQUESTS} lines with an expert are needed: {found}")
    for number, line in enumerate(lines, 1):
        plain = len(line) <= _DIGITS and line.isascii() and line.isdecimal()
        if not (plain and int(line) < experts):
            raise InputError(
                f"{path}: line {number} is {line[:20]!r}; an expert from 0 to {experts - 1} "
                "in decimal digits is needed"
            )
    return np.array(lines, dtype=np.int64)


def check_requests(requests: Sequence[int] | NDArray[np.integer]) -> Requests:
    """Return a trace as the array that it is meant to be.

    Raises
    ------
    InputError
        It is not one axis of 1 to `MAX_REQUESTS` integers from 0 to `MAX_EXPERTS` - 1.
    """
    trace = np.asarray(requests)
    if not (trace.ndim == 1 and 1 <= len(trace) <= MAX_REQUESTS and trace.dtype.kind in "iu"):
        raise InputError(
            f"requests: one axis of 1 to {MAX_REQUESTS} integers is needed, not "
            f"{trace.dtype} of shape {trace.shape}"
        )
    if trace.min() < 0 or trace.max() >= MAX_EXPERTS:
        raise InputError(
            f"requests: experts from {trace.min()} to {trace.max()}; 0 to {MAX_EXPERTS - 1} "
            "are allowed"
        )
    return trace.astype(np.int64)


def _check_count(name: str, value: int, limit: int) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        raise InputError(f"{name} = {value!r}; an integer from 1 to {limit} is needed")
    return value
