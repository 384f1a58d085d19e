"""InfiniGen (arXiv 2406.19707): scores guessed one layer ahead from a few skewed coordinates."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import Step

__all__ = ["InfiniGen", "skewed_columns"]


def skewed_columns(
    q: NDArray[np.float32], kv_heads: int, partial: float = 0.2
) -> NDArray[np.float32]:
    """Return the coordinates that carry most of the scores, from sample queries.

    The queries of a KV head's group are turned by their right singular vectors, which changes no
    score when the keys turn alike; the columns with the largest sum of magnitudes are taken.

    Parameters
    ----------
    q : ndarray of float32, shape (tokens, heads, head_dim)
    kv_heads : int
    partial : float
        Share of the columns, above 0 up to 1, rounded up.

    Returns
    -------
    ndarray of float32, shape (kv_heads, head_dim, columns)
    """
    if q.ndim != 3 or kv_heads < 1 or q.shape[1] % kv_heads or not 0 < partial <= 1:
        raise InputError(
            f"skew: q {q.shape}, {kv_heads} KV heads, share {partial}; (tokens, heads, "
            "head_dim), a divisor of heads and a share above 0 up to 1 are needed"
        )
    columns = int(np.ceil(partial * q.shape[2]))
    rows = q.swapaxes(0, 1).reshape(kv_heads, -1, q.shape[2])
    few = rows.shape[1] < q.shape[2]  # else full matrices are rows by rows, for nothing
    turned = np.linalg.svd(rows, full_matrices=few)[2].swapaxes(1, 2)
    sums = np.abs(rows @ turned).sum(axis=1)
    best = np.argsort(-sums, axis=1, kind="stable")[:, :columns]
    return np.take_along_axis(turned, best[:, None, :], axis=2).astype(np.float32)


class InfiniGen(KvPolicy):
    """Fetch what the guessed scores promise; in prefill everything, unless `prefill_top_k`.

    Generation: the tokens with a score above the maximum - alpha are counted per query head and
    token; the mean count, rounded up and at most `budget` of the cache, is what each takes, best
    first. A KV head fetches what any of its group takes.

    Parameters
    ----------
    columns : ndarray of float32, shape (kv_heads, head_dim, columns)
        From `skewed_columns`.
    alpha : float
        Distance from the best score, at least 0.
    budget : float
        Largest share of the cache in generation, from 0 to 1.
    prefill_top_k : int or None
        InfiniGenP: tokens that each query head and token takes in prefill as well.
    prefill_cap : float
        InfiniGenP: largest share of the cache in prefill per KV head; of the tokens taken, those
        stay whose best score in any row of the group is highest.
    """

    uses = ("keys",)

    def __init__(
        self,
        columns: NDArray[np.float32],
        *,
        alpha: float = 4.0,
        budget: float = 0.2,
        prefill_top_k: int | None = None,
        prefill_cap: float = 0.5,
    ) -> None:
        if columns.ndim != 3 or not alpha >= 0 or not 0 <= budget <= 1 or not 0 <= prefill_cap <= 1:
            raise InputError(
                f"InfiniGen: columns {columns.shape}, alpha {alpha}, budget {budget}, cap "
                f"{prefill_cap}; (kv_heads, head_dim, columns), at least 0 and shares are needed"
            )
        if prefill_top_k is not None and prefill_top_k < 0:
            raise InputError(f"prefill_top_k = {prefill_top_k}; at least 0 is needed")
        self.columns, self.alpha, self.budget = columns, alpha, budget
        self.prefill_top_k, self.prefill_cap = prefill_top_k, prefill_cap

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose per KV head; see `KvPolicy.choose`."""
        tokens, kv_heads, head_dim = step.k.shape
        if self.columns.shape[:2] != (kv_heads, head_dim):
            raise InputError(f"InfiniGen: columns {self.columns.shape}, keys {step.k.shape}")
        generates = step.stage == "answer"
        if len(keys) == 0 or (not generates and self.prefill_top_k is None):
            kept = np.ones((kv_heads, len(keys)), np.bool_)
            return Choice(kept=kept, fetched=kept)
        scores = self._guess(step, keys)
        kept = self._generation(scores) if generates else self._prefill(scores)
        width, heads = self.columns.shape[2], step.q.shape[1]
        project = tokens * (heads + kv_heads) * head_dim * width
        return Choice(
            kept=kept,
            fetched=kept,
            table_bytes=2 * len(keys) * kv_heads * width,
            work=Work(macs=project + scores.size * width, comparisons=scores.size),
        )

    def _guess(self, step: Step, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return partial scores, shape (kv_heads, rows, cached)."""
        queries = step.q if step.guess is None else step.guess
        kv_heads, head_dim = step.k.shape[1:]
        rows = queries.swapaxes(0, 1).reshape(kv_heads, -1, head_dim) @ self.columns
        partial = keys.swapaxes(0, 1) @ self.columns
        return np.asarray(rows @ partial.swapaxes(1, 2) / np.float32(np.sqrt(head_dim)))

    def _generation(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        near = scores > scores.max(axis=2, keepdims=True) - self.alpha
        count = int(np.ceil(near.sum(axis=2).mean()))
        return _best(scores, min(count, int(self.budget * scores.shape[2])))

    def _prefill(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        kept = _best(scores, self.prefill_top_k or 0)
        largest = np.where(kept, scores.max(axis=1), -np.inf)
        order = np.argsort(-largest, axis=1, kind="stable")
        np.put_along_axis(kept, order[:, int(self.prefill_cap * kept.shape[1]) :], False, axis=1)
        return kept


def _best(scores: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """Return the union over rows of each row's `count` best, shape (kv_heads, cached).

    Of equal scores the older come first.
    """
    if not 0 < count < scores.shape[2]:
        return np.full((len(scores), scores.shape[2]), count > 0)
    least = np.partition(scores, -count, axis=2)[..., -count, None]
    chosen, ties = scores > least, scores == least
    room = count - chosen.sum(axis=2, keepdims=True)
    chosen |= ties & (np.cumsum(ties, axis=2) <= room)
    return np.asarray(chosen.any(axis=1))
