"""Pick the next token from logits."""

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["sample"]


def sample(
    logits: NDArray[np.float32],
    *,
    temperature: float = 0.0,
    top_k: int = 0,
    rng: np.random.Generator | None = None,
) -> int:
    """Return one token id.

    Parameters
    ----------
    logits : ndarray of float32, shape (vocab_size,)
    temperature : float
        0 takes the largest logit (the first of equals); above, softmax of logits / temperature.
    top_k : int
        Only the k largest logits may be drawn; 0 for all. Of equals, lower ids come first.
    rng : numpy.random.Generator
        Needed when the temperature is above 0.

    Raises
    ------
    InputError
        Negative temperature or k, or no generator to draw with.
    """
    if not 0 <= temperature < np.inf:
        raise InputError(f"temperature = {temperature}; a finite number from 0 is needed")
    if top_k < 0:
        raise InputError(f"top_k = {top_k}; an integer from 0 (all tokens) is needed")
    if temperature == 0:
        return int(np.argmax(logits))
    if rng is None:
        raise InputError("a random generator is needed to sample at a temperature above 0")
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    chosen = logits[order].astype(np.float64)
    # subtracting first keeps a tiny temperature from overflowing
    with np.errstate(over="ignore"):
        weights = np.exp((chosen - chosen[0]) / temperature)
    return int(rng.choice(order, p=weights / weights.sum()))
