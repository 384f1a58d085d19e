"""Cycle budgets: where the time of a kernel goes, in terms that add up exactly."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType

from headrace.errors import InputError
from headrace.files import write_atomic

__all__ = ["TERMS", "Phase", "group", "plot_budget", "table", "total"]

TERMS = ("fill", "steady", "drain", "memory", "stall")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One use of a kernel on one operator; the terms add up to `cycles`.

    Parameters
    ----------
    name : str
        Unique in a budget, such as ``layer3.q_proj``.
    kernel, operator : str
        The kernel's name everywhere in headrace, and the network's operator it serves.
    cycles : int
        From the start of the phase to its end.
    fill : int, cycles
        Until the steady state is reached.
    steady : int, cycles
        Work at the rate of the bottleneck.
    drain : int, cycles
        From the last steady cycle to the last result.
    memory : int, cycles
        In which only a memory transfer makes progress.
    stall : int, cycles
        In which nothing makes progress: waits that are none of the above.
    bound : str
        What sets the length: a resource or kernel stage, such as ``ddr`` or ``lookup``.
    bytes : mapping of str to int
        Bytes moved per memory tier.
    macs : int
        Multiply-accumulates of the operator.
    layer : int or None
        Layer of the network; None outside of the layers.

    Raises
    ------
    InputError
        A term is negative, or the terms do not add up to `cycles`.
    """

    name: str
    kernel: str
    operator: str
    cycles: int
    fill: int = 0
    steady: int = 0
    drain: int = 0
    memory: int = 0
    stall: int = 0
    bound: str
    bytes: Mapping[str, int] = field(default_factory=dict)
    macs: int = 0
    layer: int | None = None

    def __post_init__(self) -> None:
        terms = {term: getattr(self, term) for term in TERMS}
        for what, count in {**terms, "macs": self.macs, **self.bytes}.items():
            if count < 0:
                raise InputError(f"phase {self.name!r}: {what} must not be negative, is {count}")
        if sum(terms.values()) != self.cycles:
            listed = " + ".join(f"{term} {cycles}" for term, cycles in terms.items())
            raise InputError(
                f"phase {self.name!r}: {listed} = {sum(terms.values())}, not {self.cycles} cycles"
            )
        object.__setattr__(self, "bytes", MappingProxyType(dict(self.bytes)))

    def __reduce__(self) -> tuple[Callable[..., "Phase"], tuple[dict[str, object]]]:
        """Rebuild from plain values: a read-only mapping cannot be pickled."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return _rebuild, (values | {"bytes": dict(self.bytes)},)


def _rebuild(values: dict[str, object]) -> Phase:
    return Phase(**values)  # type: ignore[arg-type]


def total(phases: Iterable[Phase], name: str = "total") -> Phase:
    """Return the sum of phases that run one after the other.

    Parameters
    ----------
    phases : iterable of Phase
    name : str
        Name of the sum.

    Returns
    -------
    Phase
        Every term, all bytes and MACs added up. Kernel, operator, layer and bound are those of
        the phases where they agree; else ``"*"`` (layer None), and the bound that holds for most
        cycles (the first of equals).
    """
    parts = tuple(phases)
    cycles_by_bound: dict[str, int] = {}
    traffic: dict[str, int] = {}
    for phase in parts:
        cycles_by_bound[phase.bound] = cycles_by_bound.get(phase.bound, 0) + phase.cycles
        for tier, count in phase.bytes.items():
            traffic[tier] = traffic.get(tier, 0) + count
    layers = {phase.layer for phase in parts}
    return Phase(
        name=name,
        kernel=_common({phase.kernel for phase in parts}),
        operator=_common({phase.operator for phase in parts}),
        cycles=sum(phase.cycles for phase in parts),
        fill=sum(phase.fill for phase in parts),
        steady=sum(phase.steady for phase in parts),
        drain=sum(phase.drain for phase in parts),
        memory=sum(phase.memory for phase in parts),
        stall=sum(phase.stall for phase in parts),
        bound=max(cycles_by_bound, key=lambda bound: cycles_by_bound[bound], default="*"),
        bytes=traffic,
        macs=sum(phase.macs for phase in parts),
        layer=layers.pop() if len(layers) == 1 else None,
    )


def _common(values: set[str]) -> str:
    return values.pop() if len(values) == 1 else "*"


def group(phases: Iterable[Phase], by: str) -> dict[str, Phase]:
    """Return the totals of phases that share an attribute, in order of appearance.

    Parameters
    ----------
    phases : iterable of Phase
    by : {"kernel", "operator", "layer", "bound"}
        Phases outside of the layers are grouped as ``"-"``.

    Returns
    -------
    dict of str to Phase

    Raises
    ------
    InputError
        `by` is none of these.
    """
    if by not in ("kernel", "operator", "layer", "bound"):
        raise InputError(f"group phases by kernel, operator, layer or bound, not {by!r}")
    members: dict[str, list[Phase]] = {}
    for phase in phases:
        value = getattr(phase, by)
        members.setdefault("-" if value is None else str(value), []).append(phase)
    return {key: total(parts, name=key) for key, parts in members.items()}


def table(phases: Sequence[Phase]) -> str:
    """Return a plain-text table of phases, their terms in cycles, and the sum in the last row.

    Parameters
    ----------
    phases : sequence of Phase

    Returns
    -------
    str
        Lines without trailing blanks.
    """
    head = ["phase", *TERMS, "cycles", "bytes", "bound"]
    rows = [
        [
            phase.name,
            *(f"{getattr(phase, term):,}" for term in TERMS),
            f"{phase.cycles:,}",
            f"{sum(phase.bytes.values()):,}",
            phase.bound,
        ]
        for phase in (*phases, total(phases))
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        numbers = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *numbers, row[-1]]).rstrip())
    return "\n".join(lines)


def plot_budget(phases: Sequence[Phase], path: Path, *, title: str = "") -> None:
    """Draw one stacked bar per phase, the terms as its parts.

    Parameters
    ----------
    phases : sequence of Phase
    path : Path
        ``.png`` or ``.svg``; equal phases give equal bytes.
    title : str

    Raises
    ------
    InputError
        There is no phase, the suffix is another one, or the file cannot be written.
    """
    from headrace.sim.picture import figure, render

    if not phases:
        raise InputError(f"cannot draw {path}: the budget has no phase")
    with figure(width=8.0, height=1.2 + 0.3 * len(phases)) as axes:
        names = [phase.name for phase in phases]
        left = [0] * len(phases)
        for term in TERMS:
            lengths = [getattr(phase, term) for phase in phases]
            axes.barh(names, lengths, left=left, label=term)
            left = [begin + length for begin, length in zip(left, lengths, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("cycles")
        axes.set_title(title)
        axes.legend(loc="best", fontsize="small")
        write_atomic(path, render(axes, path))
