"""DuoAttention (arXiv 2410.10819): some KV heads keep all, the others sinks and a window."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy
from headrace.models.kv_policies.step import Step
from headrace.models.kv_policies.streaming_llm import sink_and_recent

__all__ = ["DuoAttention"]


class DuoAttention(KvPolicy):
    """Keep everything, in device memory, for the KV heads with the largest gates.

    Parameters
    ----------
    gates : ndarray of float, shape (kv_heads,)
        Learned gates a of ``a * full + (1 - a) * streaming``.
    sparsity : float
        Share of the KV heads, rounded down, that stream: those with the smallest gates, of equal
        ones the first.
    sink, recent : int
        Cached tokens of a head that streams.
    """

    offloads = False
    uses = ()

    def __init__(
        self,
        gates: NDArray[np.float64],
        *,
        sparsity: float = 0.5,
        sink: int = 256,
        recent: int = 64,
    ) -> None:
        if gates.ndim != 1 or not 0 <= sparsity <= 1 or sink < 0 or recent < 0:
            raise InputError(
                f"gates {gates.shape}, sparsity {sparsity}, sink {sink}, recent {recent}; "
                "(kv_heads,), 0 to 1 and at least 0 are needed"
            )
        order = np.argsort(gates, kind="stable")
        self.streams = np.zeros(len(gates), np.bool_)
        self.streams[order[: int(sparsity * len(gates))]] = True
        self.sink, self.recent = sink, recent

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose per KV head; see `KvPolicy.choose`."""
        if len(self.streams) != step.k.shape[1]:
            raise InputError(f"{len(self.streams)} gates for {step.k.shape[1]} KV heads")
        kept = np.ones((len(self.streams), len(keys)), np.bool_)
        kept[self.streams] = sink_and_recent(len(keys), self.sink, self.recent)
        return Choice(kept=kept, fetched=np.zeros_like(kept))

    def held_tokens(self, cached: int) -> int:
        """Return all of some heads, sinks and window of the others; see `KvPolicy.held_tokens`."""
        short = min(cached, self.sink + self.recent)
        streams, heads = int(self.streams.sum()), len(self.streams)
        return -(-(streams * short + (heads - streams) * cached) // heads)
