"""FlexGen as V-Rex compares with it: all keys and values offloaded, all loaded every step."""

import numpy as np
from numpy.typing import NDArray

from headrace.models.kv_policies.policy import Choice, KvPolicy
from headrace.models.kv_policies.step import Step

__all__ = ["Full"]


class Full(KvPolicy):
    """Attend to every cached token; each crosses the link at each step."""

    uses = ()

    def choose(self, step: Step, keys: NDArray[np.float32]) -> Choice:
        """Choose all; see `KvPolicy.choose`."""
        kept = np.ones((step.k.shape[1], len(keys)), np.bool_)
        return Choice(kept=kept, fetched=kept)
