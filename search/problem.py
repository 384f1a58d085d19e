"""A specification with everything it names loaded: what strategies and rungs work on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headrace.arch.design import Design, load_design
from headrace.arch.device import Device, load_device
from headrace.errors import InputError
from headrace.models.network import Network, load_network
from headrace.search.evaluator import Batch, Evaluator, SearchFace
from headrace.search.objective import Goal, parse_goal
from headrace.search.space import Space
from headrace.search.spec import Spec

__all__ = ["Evaluated", "Problem", "network_hash"]


@dataclass(frozen=True)
class Evaluated:
    """Points of one batch with what a strategy may know of them.

    Parameters
    ----------
    indices : int64 array, shape (n,)
        Places in the space.
    costs : float64 array, shape (n, objectives)
        To be minimised; infinite where the objective is not a number.
    violation : float64 array, shape (n,)
        0 where all budgets and constraints hold, else how many do not.
    """

    indices: NDArray[np.int64]
    costs: NDArray[np.float64]
    violation: NDArray[np.float64]


class Problem:
    """A specification bound to design, device, network, space and evaluator.

    Parameters
    ----------
    spec : Spec
    design, device, network : Design, Device, Network, optional
        What the specification names, where it is at hand already.

    Raises
    ------
    InputError
        A name or value that is not acceptable, or a network that has changed since the
        specification was made.
    """

    def __init__(
        self,
        spec: Spec,
        design: Design | None = None,
        device: Device | None = None,
        network: Network | None = None,
    ):
        self.spec = spec
        self.design = design or load_design(spec.design)
        self.device = device or load_device(spec.device)
        self.network = network or load_network(spec.network)
        if (found := network_hash(self.network)) != spec.network_hash:
            raise InputError(
                f"network {spec.network} has changed since the study began: "
                f"hash {found[:12]}, {spec.network_hash[:12]} needed"
            )
        self.space = Space(self.design, spec.fixed)

    @cached_property
    def evaluator(self) -> Evaluator:
        """The design's evaluator of the analytic fidelity."""
        face: SearchFace = self.design.face("search")
        return face.evaluator(self.device, self.network, self.spec.workload)

    @cached_property
    def goal(self) -> Goal:
        """Objectives and constraints."""
        return parse_goal(self.spec.objective, (*self.evaluator.metrics, *self.evaluator.resources))

    def judge(self, batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return costs, shape (n, objectives), and violation, shape (n,), of a batch."""
        costs = np.stack([o.cost(batch.columns) for o in self.goal.objectives], axis=1)
        violation = np.bitwise_count(batch.broken).astype(np.float64)
        for constraint in self.goal.constraints:
            violation += ~constraint.holds(batch.columns)
        return costs, violation

    def evaluate(self, indices: NDArray[np.int64]) -> Evaluated:
        """Evaluate points at the analytic fidelity."""
        return Evaluated(indices, *self.judge(self.evaluator.evaluate(self.space.rows(indices))))


def network_hash(network: Network) -> str:
    """Return SHA-256 over a network's facts and operators, 64 hex digits."""
    text = repr((network, network.operators)).encode()
    return hashlib.sha256(text).hexdigest()
