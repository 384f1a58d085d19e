"""Verilog modules that are written on their own, inside an Amaranth component."""

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

__all__ = ["instantiate"]


def instantiate(m: Module, label: str, name: str, signature: wiring.Signature) -> Any:
    """Add an instance of a Verilog module that `to_verilog` wrote; return its ports.

    Parameters
    ----------
    m : Module
    label : str
        Name of the instance.
    name : str
        Of the Verilog module.
    signature : wiring.Signature
        That of the component which became the module.
    """
    outline = signature.create(path=(label,))
    connections: dict[str, Any] = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
    for path, member, signal in signature.flatten(outline):
        direction = "i" if member.flow is In else "o"
        connections[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(signal)
    m.submodules[label] = Instance(name, **connections)
    return outline
