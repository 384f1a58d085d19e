"""ReSV as a policy: chosen clusters cross the link unless they are recent."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.retrieval import Resv
from headrace.models.kv_policies.policy import Choice, KvPolicy, Work
from headrace.models.kv_policies.step import Step

__all__ = ["ResvPolicy"]


class ResvPolicy(KvPolicy):
    """Fetch the clusters that ReSV chooses; the newest tokens are in device memory.

    Parameters
    ----------
    resv : Resv
        Clusters of the layer and the threshold; see `headrace.models.kernels.retrieval`.
    resident : int
        Newest cached tokens that device memory still holds, at least 0. They take part in
        attention whatever ReSV chooses.
    """

    uses = ()

    def __init__(self, resv: Resv, *, resident: int = 0) -> None:
        if resident < 0:
            raise InputError(f"resident = {resident}; at least 0 is needed")
        self.resv, self.resident = resv, resident

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose per KV head; see `KvPolicy.choose`."""
        table = self.resv.table
        found = self.resv.select(step.q)
        first = max(len(keys) - self.resident, 0)  # of the resident tokens
        kept, fetched = found.tokens.copy(), found.tokens.copy()
        kept[:, first:], fetched[:, first:] = True, False
        scores = step.q.shape[0] * step.q.shape[1] * table.clusters
        hashing = len(step.k) * table.planes.size
        visits = int(found.visited.sum())
        if self.resv.buckets:  # each bucket is looked for in the whole row
            visits *= table.clusters
        return Choice(
            kept=kept,
            fetched=fetched,
            blocks=table.members,
            retrieval=found,
            table_bytes=table.table_bytes,
            work=Work(
                macs=hashing + scores * step.q.shape[2],
                comparisons=len(step.k) * table.clusters + visits,
            ),
        )

    def append(self, step: Step) -> None:
        """Cluster the step's keys."""
        self.resv.append(step.k)

    def extend(self, step: Step, tokens: int) -> None:
        """Cluster the keys of many frames, at once unless clusters get new codes in between."""
        if self.resv.table.rehash:
            super().extend(step, tokens)
        else:
            self.append(step)
