"""ReKV (arXiv 2503.00540): whole frames, chosen by the inner product of mean key and query."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import Step

__all__ = ["ReKv"]


class ReKv(KvPolicy):
    """Fetch the best frames at every step; text and the first tokens stay in device memory.

    A block is one frame. Its key is the mean of its keys, the query the mean over the step's
    tokens; the score is their inner product, summed over query heads, and shared by all heads.
    Of equal scores the older frame comes first. The window of recent tokens with which ReKV
    itself encodes frames has no place here: as in V-Rex's comparison, frames retrieve, too.

    Parameters
    ----------
    frames : int
        Frames to fetch, at least 0.
    initial : int
        First tokens, attended to always.
    """

    uses = ()

    def __init__(self, *, frames: int = 64, initial: int = 0) -> None:
        if frames < 0 or initial < 0:
            raise InputError(f"frames = {frames}, initial = {initial}; at least 0 is needed")
        self.frames, self.initial = frames, initial
        self._block_of = np.zeros(0, np.int64)  # block of every token, -1 for text
        self._means: list[NDArray[np.float32]] = []

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose the same frames for all heads; see `KvPolicy.choose`."""
        kv_heads, head_dim = step.k.shape[1:]
        resident = (self._block_of < 0) | (np.arange(len(keys)) < self.initial)
        chosen = np.zeros(len(self._means), np.bool_)
        if self._means:
            query = step.q.mean(axis=0).reshape(kv_heads, -1, head_dim).sum(axis=1)
            scores = np.tensordot(np.stack(self._means), query, 2)
            chosen[np.argsort(-scores, kind="stable")[: self.frames]] = True
        wanted = np.isin(self._block_of, np.flatnonzero(chosen))
        blocks = len(self._means)
        return Choice(
            kept=np.tile(resident | wanted, (kv_heads, 1)),
            fetched=np.tile(wanted & ~resident, (kv_heads, 1)),
            table_bytes=2 * blocks * kv_heads * head_dim,
            work=Work(macs=blocks * step.q.shape[1] * head_dim, comparisons=blocks),
        )

    def append(self, step: Step) -> None:
        """Add a frame as a block, or text."""
        block = len(self._means) if step.stage == "frame" else -1
        self._block_of = np.append(self._block_of, np.full(len(step.k), block))
        if block >= 0:
            self._means.append(step.k.mean(axis=0))
