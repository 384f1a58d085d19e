"""What a study searches: everything that decides its outcome, as text that can be stored."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from headrace.arch.axis import Value
from headrace.errors import InputError
from headrace.sim.workload import Workload

__all__ = ["BUDGETS", "DEFAULT_OBJECTIVE", "DEFAULT_SAMPLES", "FIDELITIES", "STRATEGIES", "Spec"]

STRATEGIES = ("exhaustive", "random", "climb", "two-stage", "nsga2", "tpe")
FIDELITIES = ("analytic", "cycle", "rtl")
BUDGETS: Mapping[str, int] = {"cycle": 64, "rtl": 4}
"""Points that a rung above the first evaluates when nothing else is said."""
DEFAULT_OBJECTIVE = "max decode_tok_per_s, min ttft_s, min lut, min uram, min power_w"
DEFAULT_SAMPLES: Mapping[str, int] = {
    "random": 2_000_000,
    "climb": 2_000_000,
    "two-stage": 20_000,
    "nsga2": 5_000,
    "tpe": 500,
}
"""Points that a strategy evaluates by default; ``exhaustive`` takes all there are."""

_MOST_TEXT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Everything that decides the outcome of a study.

    Parameters
    ----------
    design, device, network : str
        Names; the network may be a folder with a ``config.json``.
    network_hash : str
        SHA-256 over the network's operators, so that a folder that has changed is noticed.
    workload : Workload
    objective : str
        Objectives and constraints in the language of `headrace.search.objective`.
    fixed : mapping of str to tuple of Value
        Axes with other values than their choices.
    strategy : str
        One of `STRATEGIES`.
    samples : int
        Evaluations that the strategy may spend on the first rung; ``exhaustive``: the space.
    seed : int
        0 to 2^63 - 1.
    fidelities : tuple of str
        Rungs of the ladder from the cheapest up, the first ``analytic``.
    budgets : mapping of str to int
        Points per rung above the first.
    """

    design: str
    device: str
    network: str
    network_hash: str
    workload: Workload
    objective: str
    strategy: str
    samples: int
    seed: int = 0
    fixed: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    fidelities: tuple[str, ...] = FIDELITIES[:1]
    budgets: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(
                f"strategy {self.strategy!r} is not allowed: one of {', '.join(STRATEGIES)}"
            )
        _within("samples", self.samples, 1, 1 << 62)
        _within("seed", self.seed, 0, (1 << 63) - 1)
        order = [FIDELITIES.index(f) for f in self.fidelities if f in FIDELITIES]
        if len(order) != len(self.fidelities) or order != sorted(set(order)) or order[:1] != [0]:
            raise InputError(
                f"fidelity {','.join(self.fidelities)} is not allowed: "
                f"{', '.join(FIDELITIES)} in this order, beginning with {FIDELITIES[0]}"
            )
        if set(self.budgets) != set(self.fidelities[1:]):
            raise InputError(
                f"budget for {', '.join(self.budgets) or 'nothing'} is not allowed: one for every "
                f"rung above the first ({', '.join(self.fidelities[1:]) or 'none here'})"
            )
        for rung, budget in self.budgets.items():
            _within(f"budget of {rung}", budget, 1, 1 << 20)

    @property
    def hash(self) -> str:
        """Content hash: SHA-256 over `to_json`, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the specification as canonical JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, where: str) -> "Spec":
        """Read what `to_json` wrote; the text may come from a database nobody has vouched for.

        Parameters
        ----------
        text : str
        where : str
            Begins the message of an error.

        Raises
        ------
        InputError
            Not such a text, or a value out of range.
        """
        try:
            if len(text) > _MOST_TEXT:
                raise ValueError("too long")
            raw = json.loads(text)
            if type(raw) is not dict or set(raw) != {f.name for f in fields(cls)}:
                raise ValueError("not the keys of a specification")
            return cls(**_typed(raw))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{where}: the stored specification is damaged: {error}") from error
        except InputError as error:
            raise InputError(f"{where}: {error}") from error

    def differences(self, other: "Spec") -> list[str]:
        """Return ``key = mine, not theirs`` for everything in which two specifications differ."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{k} = {theirs[k]!r}, not {mine[k]!r}" for k in mine if mine[k] != theirs[k]]


def _typed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check the types of what JSON gave."""
    kinds: dict[str, type] = {"samples": int, "seed": int}
    for name in ("design", "device", "network", "network_hash", "objective", "strategy"):
        kinds[name] = str
    for name, kind in kinds.items():
        if type(raw[name]) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    fixed = {
        str(axis): tuple(v for v in values if isinstance(v, (str, bool, int, float)))
        for axis, values in dict(raw["fixed"]).items()
    }
    return {
        **{name: raw[name] for name in kinds},
        "workload": Workload(**raw["workload"]),
        "fixed": fixed,
        "fidelities": tuple(str(f) for f in raw["fidelities"]),
        "budgets": {str(rung): budget for rung, budget in dict(raw["budgets"]).items()},
    }


def _within(what: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{what} = {value!r} is not allowed: {low} to {high}")
