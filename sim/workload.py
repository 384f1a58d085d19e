"""What a machine is asked to do."""

import math
from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["Workload"]

_LIMIT = 1 << 20
_COUNTS = ("prompt_tokens", "context_tokens", "output_tokens", "batch", "frames")
_STEEPEST = 16


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Sizes of one request.

    Parameters
    ----------
    prompt_tokens : int
        Tokens read at once before the first output token.
    context_tokens : int
        Tokens already in the KV cache when a decode step runs.
    output_tokens : int
        Tokens decoded after the first.
    batch, frames : int
        Requests side by side; video frames (only where a design has them).
    expert_skew : float
        Expert e of a layer gets rows in proportion to (e + 1)^-expert_skew; 0 is uniform.
    expert_shares : tuple of tuple of float
        Measured shares of the rows instead, for every layer with experts; by default none.
    """

    prompt_tokens: int = 128
    context_tokens: int = 64
    output_tokens: int = 1
    batch: int = 1
    frames: int = 1
    expert_skew: float = 0.0
    expert_shares: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _LIMIT:
                raise InputError(f"{name} = {value!r} is not allowed: 1 to {_LIMIT}")
        skew = self.expert_skew
        if type(skew) not in (int, float) or not 0 <= skew <= _STEEPEST:
            raise InputError(f"expert_skew = {skew!r} is not allowed: 0 to {_STEEPEST}")
        try:
            shares = tuple(tuple(map(float, layer)) for layer in self.expert_shares)
        except (TypeError, ValueError) as error:
            raise InputError("expert_shares: a list of numbers per layer is needed") from error
        if not all(math.isfinite(share) and share >= 0 for layer in shares for share in layer):
            raise InputError("expert_shares: numbers from 0 are needed")
        object.__setattr__(self, "expert_skew", float(skew))
        object.__setattr__(self, "expert_shares", shares)
