"""The bridge to Optuna: genomes as parameters of its trials."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial

from headrace.search.problem import Evaluated
from headrace.search.strategies.genome import Genome

__all__ = ["Library", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from writing of its own on standard error."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)


class _Positions(IntDistribution):  # type: ignore[misc]
    """Positions along an ordered axis; copies of a trial share it, which saves most of a copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Positions":
        return self


class _Names(CategoricalDistribution):  # type: ignore[misc]
    """Positions among names; copies of a trial share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Names":
        return self


class Library:
    """Studies in memory whose parameters are the genes of a space.

    An axis with an order is an integer, its position along the axis, so that samplers see what is
    near what; one of names is a category. Costs are minimised, a violation is a constraint.

    Parameters
    ----------
    genome : Genome
    objectives : int
    """

    def __init__(self, genome: Genome, objectives: int):
        self._genome = genome
        self._directions = ["minimize"] * objectives
        self._names = [f"{i:03}" for i in range(len(genome))]
        self.distributions: dict[str, BaseDistribution] = {
            name: _Positions(0, int(size) - 1) if ordered else _Names(range(int(size)))
            for name, size, ordered in zip(self._names, genome.sizes, genome.ordered, strict=True)
        }

    def study(self) -> optuna.Study:
        """Return an empty study."""
        with quiet():
            return optuna.create_study(
                storage=optuna.storages.InMemoryStorage(), directions=self._directions
            )

    def trials(
        self, points: Evaluated, attributes: Mapping[str, int], *, genes: bool = True
    ) -> list[FrozenTrial]:
        """Return points as finished trials, with or without their parameters."""
        rows = self._genome.genes(points.indices).tolist() if genes else [[]] * len(points.indices)
        return [
            optuna.trial.create_trial(
                values=costs,
                params=dict(zip(self._names, row, strict=False)),
                distributions=self.distributions if genes else {},
                constraints={"": violation},
                system_attrs=dict(attributes),
            )
            for row, costs, violation in zip(
                rows, points.costs.tolist(), points.violation.tolist(), strict=True
            )
        ]

    def ask(self, study: optuna.Study) -> Trial:
        """Return a new trial from the study's sampler."""
        return study.ask(fixed_distributions=self.distributions)

    def genes(self, trial: Trial) -> NDArray[np.int64]:
        """Return the genome of a trial."""
        params = trial.params  # a copy each time
        return np.array([params[name] for name in self._names], np.int64)

    def child(self, study: optuna.Study, sampler: BaseSampler, trial: FrozenTrial) -> list[int]:
        """Return the genome that `sampler` proposes, without adding a trial to the study.

        This is what `optuna.Study.ask` does, less its record, which takes twice as long.
        """
        params = sampler.sample_relative(study, trial, self.distributions)
        for name, distribution in self.distributions.items():
            if name not in params:
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        return [params[name] for name in self._names]
