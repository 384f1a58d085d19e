"""SN40L: streaming dataflow and three memory tiers for compositions of experts (arXiv 2405.07518).

Section, table and figure numbers in this package refer to that paper.
"""

from headrace.arch.design import Design
from headrace.arch.resources import no_fabric
from headrace.arch.sn40l.axes import AXES, CONSTRAINTS

__all__ = ["SN40L"]


SN40L = Design(
    name="sn40l",
    summary="streaming dataflow over three memory tiers, composition of experts (ASIC)",
    axes=AXES,
    constraints=CONSTRAINTS,
    resources=no_fabric,
    default_device="sn40l-node",
    default_network="llama-2-7b",
    faces={
        "sim": "headrace.sim.sn40l.machine:simulate",
        "search": "headrace.search.sn40l:SPACE",
        "reproduce": "headrace.search.reproduce.sn40l:rows",
    },
)
