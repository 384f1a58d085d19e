"""What the rigid pipelines share: values beside a pipeline, and read-only tables."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal, Value

__all__ = ["delayed", "read_only_table"]


def delayed(
    m: Module, value: Value, stages: int, enable: Value, name: str, *, reset: bool = False
) -> Value:
    """Return `value` as it was `stages` enabled cycles before.

    Data need no reset, and become shift registers in LUTs; flags do: they tell what is data.
    """
    for stage in range(stages):
        register = Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=not reset)
        with m.If(enable):
            m.d.sync += register.eq(value)
        value = register
    return value


def read_only_table(
    m: Module, rows: Sequence[int], shape: Any, address: Value, enable: Value, name: str
) -> Value:
    """Return the row at the address of the enabled cycle before.

    A choice between constants, not a memory: the tables are small and many, and belong in LUTs
    with every tool.
    """
    row = Signal(shape, name=f"{name}_row", reset_less=True)
    with m.If(enable), m.Switch(address):
        for number, value in enumerate(rows):
            with m.Case(number):
                m.d.sync += row.eq(value)
    return row
