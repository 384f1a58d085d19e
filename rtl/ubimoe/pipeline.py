"""What the rigid pipelines share: values beside a pipeline, and read-only tables."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import memory

__all__ = ["delayed", "read_only_table"]


def delayed(m: Module, value: Value, stages: int, enable: Value, name: str) -> Value:
    """Return `value` as it was `stages` enabled cycles before, in registers without reset."""
    for stage in range(stages):
        register = Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=True)
        with m.If(enable):
            m.d.sync += register.eq(value)
        value = register
    return value


def read_only_table(
    m: Module, rows: Sequence[Any], shape: Any, address: Value, enable: Value, name: str
) -> Any:
    """Return the row at the address of the enabled cycle before.

    In LUTs: the tables are small and many, and the register stands behind the LUTs.
    """
    table = memory.Memory(
        shape=shape, depth=len(rows), init=rows, attrs={"rom_style": "distributed"}
    )
    m.submodules[name] = table
    port = table.read_port(domain="sync")
    m.d.comb += [port.addr.eq(address), port.en.eq(enable)]
    return port.data
