"""SN40L's launch controller: program load, argument load, execute, by the host or a schedule."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from headrace.arch.sn40l.launch import Kind, LaunchSizes, Table

__all__ = ["Launch", "command_layout", "configuration_layout", "store_layout"]


def command_layout(sizes: LaunchSizes) -> data.StructLayout:
    """Return the layout of a command: `kind`, `address`, `last` (count - 1), `index`, `units`."""
    address = unsigned(sizes.address_bits)
    return data.StructLayout(
        {
            "kind": unsigned(2),
            "address": address,
            "last": address,
            "index": unsigned(sizes.index_bits),
            "units": unsigned(sizes.units),
        }
    )


def store_layout(sizes: LaunchSizes) -> data.StructLayout:
    """Return the layout of what is stored: `table`, `address`, `word` or command."""
    return data.StructLayout(
        {
            "table": unsigned(2),
            "address": unsigned(sizes.address_bits),
            "word": unsigned(sizes.stored_bits),
        }
    )


def configuration_layout(sizes: LaunchSizes) -> data.StructLayout:
    """Return the layout of a configuration word: `units` that take it, `index`, `word`."""
    return data.StructLayout(
        {
            "units": unsigned(sizes.units),
            "index": unsigned(sizes.index_bits),
            "word": unsigned(sizes.word_bits),
        }
    )


class Launch(wiring.Component):
    """Load programs and arguments into units, start them, wait until they are done.

    One command at a time: from the host, or, after a command that begins a schedule, from memory.

    Parameters
    ----------
    sizes : LaunchSizes

    Attributes
    ----------
    store : In stream
        `store_layout`: fills the controller's memories; always taken.
    host : In stream
        `command_layout`; taken when the completion of the one before is.
    completed : Out stream
        Number (16) of commands of the host that are done, from 1 on.
    configuration : Out stream
        `configuration_layout`.
    start : Out stream
        A bit for each unit that is started.
    done : In stream
        A bit for each unit that is done.
    """

    def __init__(self, sizes: LaunchSizes) -> None:
        self.sizes = sizes
        super().__init__(
            {
                "store": In(stream.Signature(store_layout(sizes))),
                "host": In(stream.Signature(command_layout(sizes))),
                "completed": Out(stream.Signature(16)),
                "configuration": Out(stream.Signature(configuration_layout(sizes))),
                "start": Out(stream.Signature(unsigned(sizes.units))),
                "done": In(stream.Signature(unsigned(sizes.units))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the module."""
        m = Module()
        layout = command_layout(self.sizes)
        given, command = Signal(layout), Signal(layout)
        scheduled, fetch = Signal(), Signal()
        position, left = Signal(self.sizes.address_bits), Signal(self.sizes.address_bits)
        stored = self._table(m, Table.SCHEDULE, self.sizes.schedule, layout, fetch, position)
        m.d.comb += [self.store.ready.eq(1), command.eq(Mux(scheduled, stored, given))]
        loading, executing, over = Signal(), Signal(), Signal()
        loaded = self._load(m, command, loading)
        finished = self._execute(m, command, executing)
        with m.If(self.completed.ready):
            m.d.sync += self.completed.valid.eq(0)
        with m.FSM():
            with m.State("HOST"):
                m.d.comb += self.host.ready.eq(~self.completed.valid | self.completed.ready)
                m.d.sync += [given.eq(self.host.payload), scheduled.eq(0), left.eq(0)]
                with m.If(self.host.valid & self.host.ready):
                    m.next = "RUN"
                    with m.If(self.host.payload.kind == Kind.SCHEDULE):
                        m.d.sync += [
                            scheduled.eq(1),
                            position.eq(self.host.payload.address),
                            left.eq(self.host.payload.last),
                        ]
                        m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [
                    executing.eq(command.kind == Kind.EXECUTE),
                    loading.eq(~executing),
                    over.eq(Mux(executing, finished, loaded)),
                ]
                with m.If(over):
                    m.d.sync += [position.eq(position + 1), left.eq(left - 1)]
                    m.next = "FETCH"
                    with m.If(left == 0):
                        m.d.sync += [
                            self.completed.valid.eq(1),
                            self.completed.payload.eq(self.completed.payload + 1),
                        ]
                        m.next = "HOST"
        return m

    def _table(
        self, m: Module, table: Table, depth: int, shape: Any, enable: Signal, address: Any
    ) -> Any:
        """Add a memory that `store` fills; return what it reads."""
        name = table.name.lower()
        m.submodules[name] = memory = Memory(shape=shape, depth=depth, init=[])
        write, read, store = memory.write_port(), memory.read_port(), self.store
        m.d.comb += [
            write.en.eq(store.valid & (store.payload.table == table)),
            write.addr.eq(store.payload.address),
            write.data.eq(store.payload.word),
            read.en.eq(enable),
            read.addr.eq(address),
        ]
        return read.data

    def _load(self, m: Module, command: Any, loading: Signal) -> Signal:
        """Send words of a memory to the units; return whether the last one goes."""
        sizes, sink = self.sizes, self.configuration
        offset, sent = Signal(sizes.address_bits), Signal(sizes.address_bits)
        full, read, gone, loaded, all_read = (
            Signal(name=name) for name in ("full", "read", "gone", "loaded", "all_read")
        )
        address = (command.address + offset)[: sizes.address_bits]
        word = unsigned(sizes.word_bits)
        programs = self._table(m, Table.PROGRAMS, sizes.programs, word, read, address)
        arguments = self._table(m, Table.ARGUMENTS, sizes.arguments, word, read, address)
        m.d.comb += [
            read.eq(loading & ~all_read & (~full | sink.ready)),
            gone.eq(full & sink.ready),
            loaded.eq(gone & (sent == command.last)),
            sink.valid.eq(full),
            sink.payload.units.eq(command.units),
            sink.payload.index.eq(command.index + sent),
            sink.payload.word.eq(Mux(command.kind == Kind.PROGRAM, programs, arguments)),
        ]
        with m.If(gone):
            m.d.sync += [full.eq(0), sent.eq(sent + 1)]
        with m.If(read):
            m.d.sync += [full.eq(1), offset.eq(offset + 1), all_read.eq(offset == command.last)]
        with m.If(loaded):
            m.d.sync += [offset.eq(0), sent.eq(0), all_read.eq(0)]
        return loaded

    def _execute(self, m: Module, command: Any, executing: Signal) -> Signal:
        """Start units and wait for them; return whether the last one is done."""
        started, reached = Signal(), Signal(self.sizes.units)
        finished, now = Signal(), Signal(self.sizes.units)
        m.d.comb += [
            self.start.valid.eq(executing & ~started),
            self.start.payload.eq(command.units),
            self.done.ready.eq(started),
            now.eq(reached | self.done.payload),
            finished.eq(started & self.done.valid & (now == command.units)),
        ]
        with m.If(self.start.valid & self.start.ready):
            m.d.sync += started.eq(1)
        with m.If(self.done.valid & self.done.ready):
            m.d.sync += reached.eq(now)
        with m.If(finished):
            m.d.sync += [started.eq(0), reached.eq(0)]
        return finished
