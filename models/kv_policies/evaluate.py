"""A stream through a policy: bytes per memory tier, operations, and the error of the output."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.models.kernels.bfloat.elementary import round_to_bfloat16
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import KvCache, Step

__all__ = ["Outcome", "Traffic", "masked_attention", "run_policy", "step_traffic"]

_BYTES = 2  # of a bfloat16


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that one step of one layer moves for its keys and values.

    Attributes
    ----------
    device_read_bytes : int
        Kept and new keys and values, each once, and the policy's tables.
    device_write_bytes : int
        Fetched and new ones.
    link_read_bytes : int
        Fetched ones.
    link_write_bytes : int
        New ones, if the policy offloads.
    """

    device_read_bytes: int
    device_write_bytes: int
    link_read_bytes: int
    link_write_bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a policy did in one step of one layer.

    Attributes
    ----------
    stage : str
        See `Step`.
    cached : int
        Tokens that had entered before.
    kept_share, fetched_share : float
        Of the cached tokens, mean over KV heads; 0 if there are none.
    traffic : Traffic
    work : Work
    error : float
        ``|output - full| / |full|``, Frobenius norms over the step's tokens and heads.
    """

    stage: str
    cached: int
    kept_share: float
    fetched_share: float
    traffic: Traffic
    work: Work
    error: float


def run_policy(policy: KvPolicy, steps: Iterable[Step]) -> list[Outcome]:
    """Run the steps of one layer through a policy, with full attention beside it.

    Parameters
    ----------
    policy : KvPolicy
        Fresh; its state grows with the steps.
    steps : iterable of Step
        In order, from the first token on. Every policy is given the same queries, keys and
        values: what a changed output would do to later layers and tokens is not followed.

    Returns
    -------
    list of Outcome
        One for each step.
    """
    cache, outcomes = KvCache(), []
    for step in steps:
        cached = cache.tokens
        keys = cache.keys if cached else step.k[:0]
        choice = policy.choose(step, keys)
        cache.append(step)
        policy.append(step)
        outcomes.append(
            Outcome(
                stage=step.stage,
                cached=cached,
                kept_share=float(choice.kept.mean()) if cached else 0.0,
                fetched_share=float(choice.fetched.mean()) if cached else 0.0,
                traffic=step_traffic(choice, step, policy.offloads),
                work=choice.work,
                error=_error(step, cache, choice.kept),
            )
        )
    return outcomes


def masked_attention(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    kept: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return softmax attention over the kept cached tokens and, causally, the new ones.

    Parameters
    ----------
    q : ndarray of float32, shape (tokens, heads, head_dim)
        Of the last `tokens` tokens.
    k, v : ndarray of float32, shape (cached + tokens, kv_heads, head_dim)
    kept : ndarray of bool, shape (kv_heads, cached)

    Returns
    -------
    ndarray of float32, shape (tokens, heads, head_dim)
    """
    tokens, heads, head_dim = q.shape
    kv_heads, cached = kept.shape
    out = np.empty((heads, tokens, head_dim), np.float32)
    causal = np.tri(tokens, dtype=np.bool_)
    for h in range(heads):
        group = h * kv_heads // heads
        seen = np.hstack([np.broadcast_to(kept[group], (tokens, cached)), causal])
        scores = q[:, h] @ k[:, group].T / np.sqrt(np.float32(head_dim))
        scores[~seen] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[h] = weights / weights.sum(axis=1, keepdims=True) @ v[:, group]
    return out.swapaxes(0, 1)


def step_traffic(choice: Choice, step: Step, offloads: bool) -> Traffic:
    """Return the bytes that a step moves; keys and values are bfloat16.

    Parameters
    ----------
    choice : Choice
    step : Step
    offloads : bool
        Whether new keys and values are written over the link.
    """
    per_head = 2 * step.k.shape[2] * _BYTES
    new = step.k.shape[0] * step.k.shape[1] * per_head
    kept, fetched = (np.count_nonzero(mask) * per_head for mask in (choice.kept, choice.fetched))
    return Traffic(
        device_read_bytes=kept + new + choice.table_bytes,
        device_write_bytes=fetched + new,
        link_read_bytes=fetched,
        link_write_bytes=new if offloads else 0,
    )


def _error(step: Step, cache: KvCache, kept: NDArray[np.bool_]) -> float:
    q = round_to_bfloat16(step.q)
    full = masked_attention(q, cache.keys, cache.values, np.ones_like(kept))
    output = masked_attention(q, cache.keys, cache.values, kept)
    return float(np.linalg.norm(output - full) / max(float(np.linalg.norm(full)), 1e-30))
