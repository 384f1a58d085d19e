"""A command of the compute unit as a payload."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from headrace.arch.sn40l.compute_program import HEAD_FIELDS, STAGE_FIELDS

__all__ = ["command_layout"]


def command_layout(stages: int) -> data.StructLayout:
    """Return the layout of a command: `HEAD_FIELDS`, and `STAGE_FIELDS` of every stage."""
    stage = data.StructLayout({name: unsigned(bits) for name, bits in STAGE_FIELDS.items()})
    head = {name: unsigned(bits) for name, bits in HEAD_FIELDS.items()}
    return data.StructLayout({**head, "stages": data.ArrayLayout(stage, stages)})
