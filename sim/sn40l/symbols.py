"""The symbols of a compiled pass: what lies in memory, from which call to which, how much moves."""

from dataclasses import dataclass, field

from headrace.sim.sn40l.allocation import Symbol
from headrace.sim.sn40l.sections import Kernel, Program
from headrace.sim.sn40l.workload import Segment

__all__ = ["symbols_of"]


def symbols_of(program: Program) -> tuple[Symbol, ...]:
    """Return the symbols of a program on one socket.

    Weights and KV cache live all the time. An intermediate result that goes over memory lives from
    the call that writes it to the last one that reads it; the input of the pass from the first
    call, its result to the last.

    Parameters
    ----------
    program : Program

    Returns
    -------
    tuple of Symbol
        Named ``SEGMENT.TENSOR``, segments counted from 0.
    """
    ledger = _Ledger(len(program.calls) - 1)
    call = 0
    outputs: tuple[str, ...] = ()
    for number, (segment, kernels) in enumerate(program.parts):
        names = {name: f"{number}.{name}" for name, _ in segment.inputs}
        if number:
            inputs = (name for name, _ in segment.inputs)
            names |= dict(zip(inputs, outputs, strict=True))
        else:
            for name, row in segment.inputs:
                ledger.note(names[name], "activation", segment.rows * row, 0)
        names |= {task.name: f"{number}.{task.name}" for task in segment.tasks}
        for kernel in kernels:
            _note_stores(ledger, segment, kernel, names, call)
            _note_reads(ledger, kernel, names, call)
            call += 1
        outputs = tuple(names[name] for name in segment.outputs)
    for name in outputs:
        ledger.note(name, "activation", 0, ledger.end)
    return tuple(entry.symbol() for entry in ledger.entries.values())


@dataclass
class _Entry:
    name: str
    kind: str
    first: int
    last: int
    bytes: int = 0
    transfer_bytes: int = 0

    def symbol(self) -> Symbol:
        return Symbol(**vars(self))


@dataclass
class _Ledger:
    """Sizes, lives and traffic of symbols, from single notes."""

    end: int
    entries: dict[str, _Entry] = field(default_factory=dict)

    def note(self, name: str, kind: str, size: int, call: int, transfer_bytes: int = 0) -> None:
        """Note that a call touches a symbol, of at least `size` bytes."""
        first, last = (call, call) if kind == "activation" else (0, self.end)
        entry = self.entries.setdefault(name, _Entry(name, kind, first, last))
        entry.last = max(entry.last, last)
        entry.bytes = max(entry.bytes, size)
        entry.transfer_bytes += transfer_bytes


def _note_stores(
    ledger: _Ledger, segment: Segment, kernel: Kernel, names: dict[str, str], call: int
) -> None:
    """Note what a call writes, and the weights and caches it has."""
    for task in kernel.tasks:
        written = segment.rows * task.row_bytes
        if task.kept:
            ledger.note(names[task.name], "cache", written, call, written)
        elif task.name in kernel.stored:
            ledger.note(names[task.name], "activation", written, call, written)
        if task.stored_bytes:
            ledger.note(f"{names[task.name]}.weights", "weights", task.stored_bytes, call)
        if task.whole and task.causal:
            tokens = task.whole_cached + segment.tokens
            size = segment.batch * tokens * task.whole_row_bytes
            ledger.note(names[task.whole], "cache", size, call)


def _note_reads(ledger: _Ledger, kernel: Kernel, names: dict[str, str], call: int) -> None:
    """Note what a call reads."""
    kinds = {"rows": "activation", "cache": "cache", "weights": "weights"}
    for buffer in kernel.buffers:
        if buffer.hbm_bytes:
            name = names[buffer.name] + (".weights" if buffer.source == "weights" else "")
            ledger.note(name, kinds[buffer.source], 0, call, buffer.hbm_bytes)
