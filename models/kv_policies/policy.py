"""The interface of a KV policy: which cached tokens a step attends to, and what that costs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.retrieval import Retrieval
from headrace.models.kv_policies.step import Step, split_step

__all__ = ["Choice", "KvPolicy", "Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations that a policy adds to attention itself.

    Attributes
    ----------
    macs : int
        Multiply-accumulates of predictions, block keys and hash bits.
    comparisons : int
        Scores or hash codes compared.
    """

    macs: int = 0
    comparisons: int = 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a policy chose for one step; the step's own tokens are always attended to.

    Attributes
    ----------
    kept : ndarray of bool, shape (kv_heads, cached)
        Cached tokens that take part in attention.
    fetched : ndarray of bool, shape (kv_heads, cached)
        Those of them that are not in device memory and cross the link.
    table_bytes : int
        Bytes read from device memory to decide (block keys, partial keys, hash clusters).
    work : Work
    blocks : ndarray of int32, shape (cached,), or None
        Block (cluster, frame) of every cached token, from 0, by which the policy chooses; None:
        it chooses single tokens.
    retrieval : Retrieval or None
        What ReSV found; None for other policies.
    """

    kept: NDArray[np.bool_]
    fetched: NDArray[np.bool_]
    table_bytes: int = 0
    work: Work = field(default_factory=Work)
    blocks: NDArray[np.int32] | None = None
    retrieval: Retrieval | None = None


class KvPolicy(ABC):
    """A policy for the KV cache of one layer.

    Per step, `choose` is called once, then `append` with the same step. `offloads` tells whether
    new keys and values are written over the link to the CPU's memory or an SSD, because any of
    them may be wanted later; a policy that drops what it does not keep has no need to. `uses` names
    what of cached tokens it looks at: ``keys`` in `choose`, ``queries`` in `append`.
    """

    offloads: bool = True
    uses: tuple[str, ...] = ("keys", "queries")

    @abstractmethod
    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose among the cached tokens.

        Parameters
        ----------
        step : Step
        keys : ndarray of float32, shape (cached, kv_heads, head_dim)
            All keys that ever entered, those included that the policy dropped.
        """

    def append(self, step: Step) -> None:  # noqa: B027  policies without a state need none
        """Take note of the step's tokens, which are cached from now on."""

    def held_tokens(self, cached: int) -> int:
        """Return the tokens of a stream that the policy itself holds in device memory.

        What a machine keeps there of its own accord, such as the newest tokens of a policy that
        offloads, is not in it.

        Parameters
        ----------
        cached : int
            Tokens that have entered.

        Returns
        -------
        int
            Mean over KV heads, rounded up.
        """
        del cached
        return 0

    def extend(self, step: Step, tokens: int) -> None:
        """Append a step of many frames of `tokens` tokens each, as if one after the other."""
        for frame in split_step(step, tokens):
            self.append(frame)
