"""Search a design's space for an optimum or a Pareto front."""

import time
from collections.abc import Callable, Mapping, Sequence

from headrace.arch.axis import Value
from headrace.arch.design import Design
from headrace.arch.device import Device
from headrace.errors import InputError
from headrace.models.network import Network
from headrace.search.evaluator import SearchFace
from headrace.search.objective import Goal, parse_constraints, parse_goal
from headrace.search.outcome import Exploration, outcome
from headrace.search.problem import Problem, network_hash
from headrace.search.run import Progress, run
from headrace.search.space import Space
from headrace.search.spec import BUDGETS, DEFAULT_OBJECTIVE, DEFAULT_SAMPLES, STRATEGIES, Spec
from headrace.search.store import Study, open_store
from headrace.sim.workload import Workload

__all__ = ["conduct", "explore", "specify"]


def specify(
    design: Design,
    device: Device,
    network: Network,
    workload: Workload,
    *,
    network_name: str = "",
    objective: str = DEFAULT_OBJECTIVE,
    constraints: Sequence[str] = (),
    strategy: str = "auto",
    samples: int | None = None,
    seed: int = 0,
    fixed: Mapping[str, Sequence[Value]] | None = None,
    fidelities: Sequence[str] = ("analytic",),
    budgets: Mapping[str, int] | None = None,
) -> Spec:
    """Return the specification of a study, everything left out filled in.

    Parameters
    ----------
    design, device, network, workload : Design, Device, Network, Workload
    network_name : str
        A preset or folder, where it is not the network's own name.
    objective : str
        See `headrace.search.objective`; several objectives ask for a Pareto front.
    constraints : sequence of str
        More constraints in the same language, such as ``lut <= 98303``.
    strategy : str
        One of `headrace.search.spec.STRATEGIES`, or ``auto``: ``exhaustive`` if the space has no
        more points than `samples`, else ``climb``.
    samples : int, optional
        Points to evaluate; by default `DEFAULT_SAMPLES`.
    seed : int
        The same seed gives the same result.
    fixed : mapping of str to sequence of Value, optional
        Values per axis to search instead of all its choices.
    fidelities : sequence of str
        Rungs of the ladder.
    budgets : mapping of str to int, optional
        Points per rung above the first; by default `BUDGETS`.

    Raises
    ------
    InputError
        A bad objective, constraint, strategy, axis or value.
    """
    if strategy not in ("auto", *STRATEGIES):
        raise InputError(
            f"strategy {strategy!r} is not allowed: one of {', '.join(('auto', *STRATEGIES))}"
        )
    if samples is not None and samples < 1:
        raise InputError(f"samples = {samples} is not allowed: at least 1")
    space = Space(design, fixed)
    if strategy == "auto":
        most = samples or DEFAULT_SAMPLES["climb"]
        strategy = "exhaustive" if space.size <= most else "climb"
    face: SearchFace = design.face("search")
    evaluator = face.evaluator(device, network, workload)
    names = (*evaluator.metrics, *evaluator.resources)
    goal = parse_goal(objective, names)
    more = tuple(c for text in constraints for c in parse_constraints(text, names))
    unknown = set(budgets or {}) - set(fidelities[1:])
    if unknown:
        raise InputError(
            f"budget of {', '.join(sorted(unknown))} is not allowed: "
            f"only of rungs above the first ({', '.join(fidelities[1:]) or 'none here'})"
        )
    return Spec(
        design=design.name,
        device=device.name,
        network=network_name or network.name,
        network_hash=network_hash(network),
        workload=workload,
        objective=Goal(goal.objectives, goal.constraints + more).text,
        strategy=strategy,
        samples=space.size if strategy == "exhaustive" else samples or DEFAULT_SAMPLES[strategy],
        seed=seed,
        fixed={name: tuple(values) for name, values in (fixed or {}).items()},
        fidelities=tuple(fidelities),
        budgets={rung: (budgets or {}).get(rung, BUDGETS.get(rung, 1)) for rung in fidelities[1:]},
    )


def explore(
    design: Design,
    device: Device,
    network: Network,
    workload: Workload,
    *,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> Exploration:
    """Search the space of `design` for the points that serve an objective best.

    Nothing is kept; see `headrace.search.store` for studies that are.

    Parameters
    ----------
    design, device, network, workload : Design, Device, Network, Workload
    progress : callable, optional
        Called with points done and points to do.
    **options
        Those of `specify`.

    Raises
    ------
    InputError
        See `specify`; or the space is too large to be exhausted.
    """
    spec = specify(design, device, network, workload, **options)  # type: ignore[arg-type]
    problem = Problem(spec, design, device, network)
    tick: Progress | None = None
    if progress is not None:
        tick = lambda what, done, total: progress(done, total)  # noqa: E731
    with open_store("sqlite://", create=True) as store:
        study = store.create(design.name, spec)
        return conduct(study, problem, progress=tick)


def conduct(
    study: Study,
    problem: Problem,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Exploration:
    """Bring a study to its end and return its outcome; parameters as of `run`."""
    before = sum(u.evaluated for u in study.units(problem.spec.fidelities[0]))
    start = time.perf_counter()
    run(study, problem, workers=workers, scheduler=scheduler, progress=progress)
    return outcome(study, problem, seconds=time.perf_counter() - start, before=before)
