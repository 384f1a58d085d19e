"""StreamingLLM (arXiv 2309.17453): attention sinks and a window of recent tokens."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy
from headrace.models.kv_policies.step import Step

__all__ = ["StreamingLlm", "sink_and_recent"]


def sink_and_recent(cached: int, sink: int, recent: int) -> NDArray[np.bool_]:
    """Return a mask of the first `sink` and the last `recent` of `cached` tokens."""
    position = np.arange(cached)
    return np.asarray((position < sink) | (position >= cached - recent))


class StreamingLlm(KvPolicy):
    """Keep the first and the last tokens in device memory, drop the others for good.

    Before n tokens come to a cache that they would overfill, what stays of L tokens is
    [0, sink) and [L - recent + n, L).

    Parameters
    ----------
    sink, recent : int
        Tokens, at least 0.
    """

    offloads = False
    uses = ()

    def __init__(self, *, sink: int = 4, recent: int = 512) -> None:
        if sink < 0 or recent < 0:
            raise InputError(f"sink = {sink}, recent = {recent}; at least 0 is needed")
        self.sink, self.recent = sink, recent

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose the same tokens for all heads; see `KvPolicy.choose`."""
        new, cached = len(step.k), len(keys)
        kept = np.ones(cached, np.bool_)
        if cached + new > self.sink + self.recent:
            kept = sink_and_recent(cached, self.sink, max(self.recent - new, 0))
        kept = np.tile(kept, (step.k.shape[1], 1))
        return Choice(kept=kept, fetched=np.zeros_like(kept))

    def held_tokens(self, cached: int) -> int:
        """Return sinks and window; see `KvPolicy.held_tokens`."""
        return min(cached, self.sink + self.recent)
