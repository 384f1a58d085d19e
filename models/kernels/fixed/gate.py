"""Gate (rule 5): scores, softmax with a running maximum, top-k; and the experts' queues."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import ONE, WIDE_BITS, WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.functions import exponential, reciprocal
from headrace.models.kernels.fixed.integers import Integers, checked
from headrace.models.kernels.fixed.linear import linear

__all__ = ["MAX_EXPERTS", "Choices", "Job", "dispatch", "gate", "online_softmax", "top_k"]

MAX_EXPERTS = 256


class Choices(NamedTuple):
    """The experts of every token, best first.

    Attributes
    ----------
    experts : ndarray of int64, shape (tokens, top_k)
    probabilities : ndarray of int64, shape (tokens, top_k)
        Wide, from 0 to 2^22; not renormalised over the chosen.
    """

    experts: Integers
    probabilities: Integers


class Job(NamedTuple):
    """The rows of one expert.

    Attributes
    ----------
    expert : int
    tokens : ndarray of int64, shape (rows,)
        Ascending.
    probabilities : ndarray of int64, shape (rows,)
    """

    expert: int
    tokens: Integers
    probabilities: Integers


def gate(
    x: NDArray[np.integer], weights: NDArray[np.integer], formats: Formats, *, top_k: int
) -> Choices:
    """Choose the experts of every token.

    Scores are those of `linear` without a bias, probabilities those of `online_softmax` over all
    experts, the choice that of `top_k` on the scores.

    Parameters
    ----------
    x : ndarray of integers, shape (tokens, D)
        Operands, from the second norm.
    weights : ndarray of integers, shape (experts, D)
        At most 256 experts.
    formats : Formats
    top_k : int
        From 1 to experts.

    Returns
    -------
    Choices

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    scores = linear(x, weights, None, formats)
    experts = _best(scores, top_k)
    probabilities = np.take_along_axis(online_softmax(scores), experts, axis=1)
    return Choices(experts, probabilities)


def top_k(scores: NDArray[np.integer], count: int) -> Integers:
    """Return the indices of the `count` largest scores of every row, best first.

    Of equal scores the lower index comes first, as insertion with a strict > leaves it.

    Parameters
    ----------
    scores : ndarray of integers, shape (rows, experts)
    count : int
        From 1 to experts.

    Returns
    -------
    ndarray of int64, shape (rows, count)

    Raises
    ------
    InputError
        `count` is out of range.
    """
    wide = checked("scores", scores, (None, None), WIDE_BITS)
    if not 1 <= count <= wide.shape[1]:
        raise InputError(f"top_k = {count} is not allowed: 1 to {wide.shape[1]}")
    order: Integers = np.argsort(-wide, axis=1, kind="stable")[:, :count]
    return order


_best = top_k  # `gate` has a parameter of that name


def online_softmax(scores: NDArray[np.integer]) -> Integers:
    """Return the softmax of every row, its sum taken beside a running maximum.

    From max = -2^31 and sum = 0, for one expert after the other: where s > max, ``sum = ((sum *
    EXP(max - s)) >> 22) + ONE; max = s``; else ``sum += EXP(s - max)``. The probability is ``(EXP(s
    - max) * RECIP(sum)) >> 22``.

    Parameters
    ----------
    scores : ndarray of integers, shape (rows, experts)
        Wide; at most 256 experts.

    Returns
    -------
    ndarray of int64, shape (rows, experts)
        Wide, from 0 to 2^22.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    wide = checked("scores", scores, (None, None), WIDE_BITS)
    if wide.shape[1] > MAX_EXPERTS:
        raise InputError(f"experts = {wide.shape[1]} is not allowed: 1 to {MAX_EXPERTS}")
    largest = np.full(len(wide), -(1 << (WIDE_BITS - 1)), np.int64)
    total = np.zeros(len(wide), np.int64)
    for score in wide.T:
        e = exponential(-np.abs(score - largest))
        rescaled = ((total * e) >> WIDE_FRACTION) + ONE
        total = np.where(score > largest, rescaled, total + e)
        largest = np.maximum(largest, score)
    e = exponential(wide - largest[:, None])
    result: Integers = (e * reciprocal(total)[:, None]) >> WIDE_FRACTION
    return result


def dispatch(choices: Choices, experts: int) -> list[Job]:
    """Sort tokens by expert: the experts that have any, ascending, each with its rows.

    Parameters
    ----------
    choices : Choices
    experts : int
        Number of experts.

    Returns
    -------
    list of Job
        The experts with at least one row.

    Raises
    ------
    InputError
        A choice is not one of the experts.
    """
    if choices.experts.min() < 0 or choices.experts.max() >= experts:
        raise InputError(f"experts: a choice is not in 0 to {experts - 1}")
    jobs = []
    for expert in range(experts):
        tokens, ranks = np.nonzero(choices.experts == expert)
        if tokens.size:
            jobs.append(Job(expert, tokens, choices.probabilities[tokens, ranks]))
    return jobs
