"""Which experts every token is sent to: seeded routings with a stated load per expert."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.json_file import read_json_object

__all__ = ["draw_routing", "expert_rows", "read_loads", "skewed_loads", "uniform_loads"]

_MAX_LAYERS, _MAX_EXPERTS, _MAX_COUNT = 1024, 4096, 2**53


def uniform_loads(experts: int) -> NDArray[np.float64]:
    """Return equal shares of the rows for `experts` experts, shape (experts,)."""
    if not 1 <= experts <= _MAX_EXPERTS:
        raise InputError(f"experts = {experts}; an integer from 1 to {_MAX_EXPERTS} is needed")
    return np.full(experts, 1 / experts)


def skewed_loads(experts: int, exponent: float) -> NDArray[np.float64]:
    """Return Zipf's shares: expert e gets a share in proportion to (e + 1)^-exponent.

    Parameters
    ----------
    experts : int
    exponent : float
        0 is uniform; from 0 to 16.

    Returns
    -------
    ndarray of float64, shape (experts,)
        Shares of the rows, descending, of sum 1.
    """
    if not 0 <= exponent <= 16:
        raise InputError(f"exponent = {exponent}; a number from 0 to 16 is needed")
    shares = uniform_loads(experts) * np.arange(1, experts + 1.0) ** -exponent
    return np.asarray(shares / shares.sum())


def read_loads(path: Path) -> NDArray[np.float64]:
    """Read a measured histogram of expert loads.

    Parameters
    ----------
    path : Path
        JSON ``{"layers": [[count, ...], ...]}``: for every layer with experts, the rows that each
        of its experts received; all lists have the same length.

    Returns
    -------
    ndarray of float64, shape (layers, experts)
        Shares of the rows, of sum 1 in each layer.

    Raises
    ------
    InputError
        The file cannot be read or is no such histogram.
    """
    needed = (
        f"1 to {_MAX_LAYERS} lists of 1 to {_MAX_EXPERTS} counts each are needed, all of one "
        f"length, whole numbers from 0 to {_MAX_COUNT}, not all 0"
    )
    layers = read_json_object(path).get("layers")
    if not isinstance(layers, list) or not 1 <= len(layers) <= _MAX_LAYERS:
        raise InputError(f"{path}: layers: {needed}")
    length = len(layers[0]) if isinstance(layers[0], list) else 0
    for number, counts in enumerate(layers):
        if not (
            isinstance(counts, list)
            and len(counts) == length
            and 1 <= length <= _MAX_EXPERTS
            and all(type(count) is int and 0 <= count <= _MAX_COUNT for count in counts)
            and any(counts)
        ):
            raise InputError(f"{path}: layers[{number}]: {needed}")
    table = np.array(layers, np.float64)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def draw_routing(
    loads: NDArray[np.float64], tokens: int, top_k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw the experts of every token so that each expert has its share of the rows.

    Systematic sampling: per token, the experts in a random order are laid end to end, each as
    long as `top_k` times its share, and the `top_k` that lie under the marks u, u + 1, ... are
    taken, u uniform in [0, 1). So an expert is drawn with exactly that probability and at most
    once a token. The order of a token's choices is random.

    Parameters
    ----------
    loads : ndarray, shape (experts,)
        Shares of the rows, of sum 1, each at most 1 / `top_k`.
    tokens, top_k : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int64, shape (tokens, top_k)
        Experts of every token, all different in a row.

    Raises
    ------
    InputError
        A share is larger than an expert can have, or `top_k` or `tokens` is out of range.
    """
    experts = len(loads)
    if not 1 <= top_k <= experts:
        raise InputError(f"top_k = {top_k}; an integer from 1 to {experts} is needed")
    if tokens < 0:
        raise InputError(f"tokens = {tokens}; an integer from 0 is needed")
    if not (np.isfinite(loads).all() and (loads >= 0).all() and abs(loads.sum() - 1) < 1e-9):
        raise InputError("loads: shares from 0 to 1 of sum 1 are needed")
    if top_k * loads.max() > 1 + 1e-9:
        raise InputError(
            f"loads: expert {int(loads.argmax())} has a share of {loads.max():.4g}; at most "
            f"1 / top_k = {1 / top_k:.4g} is possible, since a token is sent to an expert once"
        )
    order = rng.permuted(np.tile(np.arange(experts), (tokens, 1)), axis=1)
    ends = np.cumsum(top_k * loads[order], axis=1)
    marks = rng.random((tokens, 1)) + np.arange(top_k)
    # The last end is top_k but for rounding; a mark beyond it belongs to the last expert.
    places = (marks[:, :, None] >= ends[:, None, :-1]).sum(axis=2)
    chosen = np.take_along_axis(order, places, axis=1)
    return np.asarray(rng.permuted(chosen, axis=1), np.int64)


def expert_rows(routing: NDArray[np.int64], experts: int) -> NDArray[np.int64]:
    """Count the rows that each expert receives, shape (experts,)."""
    return np.bincount(routing.ravel(), minlength=experts)
