"""Sequential strategies: each asks for points and is told what they are worth.

Their state is a function of the specification and of what they have been told so far. So a study
is resumed by telling again what is on record, and every random choice comes from a generator that
is seeded with the study's seed and the number of the batch.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.search.problem import Evaluated

__all__ = ["Strategy"]


class Strategy(Protocol):
    """Proposes points batch by batch."""

    def ask(self) -> NDArray[np.int64]:
        """Return the indices to evaluate next; none when the strategy has finished.

        Asking twice without telling in between gives the same answer. Points that were asked for
        before may come again: whoever evaluates remembers them.
        """
        ...

    def tell(self, found: Evaluated) -> None:
        """Take the results of the batch into account, in the order in which it was asked for.

        After a resume, batches are told that this object was not asked for.
        """
        ...
