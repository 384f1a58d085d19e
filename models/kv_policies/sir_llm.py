"""SirLLM (arXiv 2405.12528): keep the first tokens and those that surprised the model most."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import Step

__all__ = ["SirLlm"]


class SirLlm(KvPolicy):
    """Keep `start` tokens and the best-scored others in device memory, drop the rest for good.

    A token's score is its surprise, that of the very first one the maximum. Before n tokens come
    to a cache that they would overfill, it keeps its start and the budget - n best scores, of
    equal ones the newer, in the order of positions.

    Parameters
    ----------
    start, budget : int
        Tokens, at least 0.
    decay : float
        Factor on all scores before each question, from 0 to 1.
    """

    offloads = False
    uses = ()

    def __init__(self, *, start: int = 4, budget: int = 1020, decay: float = 1.0) -> None:
        if start < 0 or budget < 0 or not 0 <= decay <= 1:
            raise InputError(
                f"start = {start}, budget = {budget}, decay = {decay}; at least 0 and 0 to 1 "
                "are needed"
            )
        self.start, self.budget, self.decay = start, budget, decay
        self._positions = np.zeros(0, np.int64)
        self._scores = np.zeros(0)
        self._seen = 0

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose the same tokens for all heads; see `KvPolicy.choose`."""
        if step.stage == "question":
            self._scores *= self.decay
        comparisons = self._make_room(len(step.k))
        kept = np.zeros((step.k.shape[1], len(keys)), np.bool_)
        kept[:, self._positions] = True
        return Choice(kept=kept, fetched=np.zeros_like(kept), work=Work(comparisons=comparisons))

    def append(self, step: Step) -> None:
        """Add the step's tokens with their scores; raise `InputError` without them."""
        if step.surprise is None:
            raise InputError("SirLLM: the step has no surprise of its tokens")
        scores = np.array(step.surprise, np.float64)
        if self._seen == 0:
            scores[0] = np.inf
        new = np.arange(self._seen, self._seen + len(scores))
        self._positions = np.append(self._positions, new)
        self._scores = np.append(self._scores, scores)
        self._seen += len(scores)

    def held_tokens(self, cached: int) -> int:
        """Return the start and the best; see `KvPolicy.held_tokens`."""
        return min(cached, self.start + self.budget)

    def _make_room(self, new: int) -> int:
        """Drop what the new tokens displace; return the scores that were compared."""
        if len(self._positions) + new <= self.start + self.budget:
            return 0
        rest = np.flatnonzero(self._positions >= self.start)
        falling = rest[np.lexsort((-self._positions[rest], -self._scores[rest]))]
        stays = self._positions < self.start
        stays[falling[: max(self.budget - new, 0)]] = True
        self._positions, self._scores = self._positions[stays], self._scores[stays]
        return len(rest)
