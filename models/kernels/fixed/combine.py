"""Combining (rule 6): experts' results weighted by their probabilities, and residuals."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError
from headrace.models.kernels.fixed.formats import ONE, WIDE_BITS, WIDE_FRACTION, Formats
from headrace.models.kernels.fixed.gate import Job
from headrace.models.kernels.fixed.integers import Integers, checked, to_feature, wrap

__all__ = ["add_residual", "combine"]


def combine(
    residual: NDArray[np.integer],
    jobs: Sequence[Job],
    results: Sequence[NDArray[np.integer]],
    formats: Formats,
) -> Integers:
    """Add the experts' weighted results to the residual stream.

    ``contribution = wrap((y * p) >> (44 - ff), feature bits)``; the contributions of a token are
    added from 0, then to its residual, all wrapping at the feature's bits.

    Parameters
    ----------
    residual : ndarray of integers, shape (tokens, D)
        Features.
    jobs : sequence of Job
        Which rows an expert had, and their probabilities (wide, 0 to 2^22).
    results : sequence of ndarray of integers, shape (rows, D)
        Wide; what the second linear of each job gave, row by row.
    formats : Formats

    Returns
    -------
    ndarray of int64, shape (tokens, D)
        Features.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    base = checked("residual", residual, (None, None), formats.feature_bits)
    if len(jobs) != len(results):
        raise InputError(f"{len(jobs)} jobs but {len(results)} results; as many are needed")
    mixture = np.zeros_like(base)
    for job, result in zip(jobs, results, strict=True):
        y = checked(f"result of expert {job.expert}", result, (None, base.shape[1]), WIDE_BITS)
        _check_job(job, len(y), len(base))
        product = y * np.asarray(job.probabilities, np.int64)[:, None]
        shift = 2 * WIDE_FRACTION - formats.feature_fraction
        # a token may be there twice only if a gate chose an expert twice: add.at counts both
        np.add.at(mixture, job.tokens, wrap(product >> shift, formats.feature_bits))
    return wrap(base + mixture, formats.feature_bits)


def add_residual(
    residual: NDArray[np.integer], result: NDArray[np.integer], formats: Formats
) -> Integers:
    """Add what a projection or the second linear of a dense FFN gave: ``x + feature(y)``.

    Parameters
    ----------
    residual : ndarray of integers, shape (tokens, D)
        Features.
    result : ndarray of integers, shape (tokens, D)
        Wide.
    formats : Formats

    Returns
    -------
    ndarray of int64, shape (tokens, D)
        Features; the sum wraps.

    Raises
    ------
    InputError
        Shapes, types or values do not fit.
    """
    base = checked("residual", residual, (None, None), formats.feature_bits)
    wide = checked("result", result, base.shape, WIDE_BITS)
    return wrap(base + to_feature(wide, formats), formats.feature_bits)


def _check_job(job: Job, rows: int, tokens: int) -> None:
    where = f"expert {job.expert}"
    for name, values, most in (
        ("tokens", job.tokens, tokens - 1),
        ("probabilities", job.probabilities, ONE),
    ):
        if np.shape(values) != (rows,):
            raise InputError(f"{where}: {name} of shape {np.shape(values)}; ({rows},) is needed")
        if np.min(values) < 0 or np.max(values) > most:
            raise InputError(f"{where}: {name} beyond 0 to {most}")
