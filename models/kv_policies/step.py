"""What enters one layer in one step, and the keys and values that it has cached."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.bfloat.elementary import round_to_bfloat16

__all__ = ["STAGES", "KvCache", "Step", "split_step"]

STAGES = ("frame", "question", "answer")
"""Prefill of a frame, prefill of a question, generation."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The new tokens of one layer.

    Attributes
    ----------
    stage : str
        One of `STAGES`.
    q : ndarray of float32, shape (tokens, heads, head_dim)
        After RoPE.
    k, v : ndarray of float32, shape (tokens, kv_heads, head_dim)
        Keys after RoPE; neighbouring query heads share a KV head.
    guess : ndarray of float32, shape of q, or None
        The queries as the layer before guesses them, for policies that prefetch (InfiniGen);
        None: the guess is right.
    surprise : ndarray of float, shape (tokens,), or None
        ``-log p(token | prefix)``, for SirLLM.
    """

    stage: str
    q: NDArray[np.float32]
    k: NDArray[np.float32]
    v: NDArray[np.float32]
    guess: NDArray[np.float32] | None = None
    surprise: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        q, k = self.q, self.k
        if self.stage not in STAGES:
            raise InputError(f"stage {self.stage!r}; one of {', '.join(STAGES)} is needed")
        fits = q.ndim == k.ndim == 3 and k.shape == self.v.shape and k.size > 0
        if not fits or len(q) != len(k) or q.shape[2] != k.shape[2] or q.shape[1] % k.shape[1]:
            raise InputError(
                f"step: q {q.shape}, k {k.shape}, v {self.v.shape}; (tokens, heads, head_dim) "
                "and twice (tokens, kv_heads, head_dim) are needed, kv_heads a divisor of heads"
            )
        if self.guess is not None and self.guess.shape != q.shape:
            raise InputError(f"step: guess {self.guess.shape}, q {q.shape}; equal ones are needed")
        if self.surprise is not None and self.surprise.shape != q.shape[:1]:
            raise InputError(
                f"step: surprise {self.surprise.shape}; one number for each of {len(q)} tokens "
                "is needed"
            )


def split_step(step: Step, tokens: int) -> Iterator[Step]:
    """Yield the parts of a step, of `tokens` tokens each but for the rest at the end."""
    if tokens < 1:
        raise InputError(f"parts of {tokens} tokens; at least 1 is needed")
    for first in range(0, len(step.k), tokens):
        part = slice(first, first + tokens)
        yield Step(
            stage=step.stage, q=step.q[part], k=step.k[part], v=step.v[part],
            guess=None if step.guess is None else step.guess[part],
            surprise=None if step.surprise is None else step.surprise[part],
        )  # fmt: skip


class KvCache:
    """All keys and values of one layer, as bfloat16 values; grows with every step."""

    def __init__(self) -> None:
        self.tokens = 0
        self._store = np.empty((2, 0, 0, 0), np.float32)

    @property
    def keys(self) -> NDArray[np.float32]:
        """Shape (tokens, kv_heads, head_dim)."""
        return self._store[0, : self.tokens]

    @property
    def values(self) -> NDArray[np.float32]:
        """Shape (tokens, kv_heads, head_dim)."""
        return self._store[1, : self.tokens]

    def append(self, step: Step) -> None:
        """Add the keys and values of a step, rounded to bfloat16."""
        if self.tokens == 0:
            self._store = np.empty((2, len(step.k), *step.k.shape[1:]), np.float32)
        if step.k.shape[1:] != self._store.shape[2:]:
            raise InputError(f"cache: keys {step.k.shape}; (tokens, *{self._store.shape[2:]})")
        last = self.tokens + len(step.k)
        if last > self._store.shape[1]:
            larger = np.empty((2, 2 * last, *self._store.shape[2:]), np.float32)
            larger[:, : self.tokens] = self._store[:, : self.tokens]
            self._store = larger
        self._store[0, self.tokens : last] = round_to_bfloat16(step.k)
        self._store[1, self.tokens : last] = round_to_bfloat16(step.v)
        self.tokens = last
