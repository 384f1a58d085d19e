"""What a KV policy chooses in every pass of a layer, before it is known where the tokens are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.models.kv_policies.policy import Choice, KvPolicy
from headrace.models.kv_policies.resv import ResvPolicy
from headrace.models.kv_policies.step import KvCache, Step

__all__ = ["Chosen", "PolicyRun"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a policy chose in one pass of one layer.

    Attributes
    ----------
    step : Step
    cached : int
        Tokens that had entered before.
    choice : Choice
    offloads : bool
        See `KvPolicy`.
    clusters : int
    opens, walked : ndarray
        What ReSV did; see `StepTrace`.
    """

    step: Step
    cached: int
    choice: Choice
    offloads: bool
    clusters: int
    opens: NDArray[np.bool_]
    walked: NDArray[np.int64]


class PolicyRun:
    """A policy in the middle of the stream of one layer; attention itself is not computed.

    Parameters
    ----------
    policy : KvPolicy
        Fresh; its state grows with the steps.
    """

    def __init__(self, policy: KvPolicy) -> None:
        self.policy, self.tokens = policy, 0
        self._cache = KvCache() if "keys" in policy.uses else None

    def enter(self, step: Step, frame_tokens: int) -> None:
        """Take a step of whole frames without a choice."""
        self._append(step)
        self.policy.extend(step, frame_tokens)

    def choose(self, step: Step) -> Chosen:
        """Choose for the next step, which then enters."""
        policy, cached = self.policy, self.tokens
        choice = policy.choose(step, self._keys(step))
        policy.append(step)
        self._append(step)
        clusters, opens, walked = 0, np.zeros(0, np.bool_), np.zeros((step.k.shape[1], 0), np.int64)
        if choice.retrieval is not None and isinstance(policy, ResvPolicy):
            clusters = choice.retrieval.clusters.shape[1]
            newest = np.append(clusters - 1, policy.resv.table.members[-len(step.k) :])
            opens = np.diff(np.maximum.accumulate(newest)) > 0
            walked = choice.retrieval.visited
        return Chosen(
            step=step,
            cached=cached,
            choice=choice,
            offloads=policy.offloads,
            clusters=clusters,
            opens=opens,
            walked=walked,
        )

    def _keys(self, step: Step) -> NDArray[np.float32]:
        """Return the cached keys, (tokens, kv_heads, head_dim); NaN if nobody looks at them."""
        if self._cache is None:
            return np.broadcast_to(np.float32(np.nan), (self.tokens, *step.k.shape[1:]))
        return self._cache.keys if self.tokens else step.k[:0]

    def _append(self, step: Step) -> None:
        self.tokens += len(step.k)
        if self._cache is not None:
            self._cache.append(step)
