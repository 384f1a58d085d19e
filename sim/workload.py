"""What a machine is asked to do."""

from dataclasses import dataclass, fields

from headrace.errors import InputError

__all__ = ["Workload"]

_LIMIT = 1 << 20


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
    """

    prompt_tokens: int = 128
    context_tokens: int = 64
    output_tokens: int = 1
    batch: int = 1
    frames: int = 1

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if type(value) is not int or not 1 <= value <= _LIMIT:
                raise InputError(f"{f.name} = {value!r} is not allowed: 1 to {_LIMIT}")
