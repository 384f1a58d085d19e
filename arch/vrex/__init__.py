"""V-Rex: dynamic KV-cache retrieval for streaming video language models (arXiv 2512.12284).

Section, table and figure numbers in this package refer to that paper.
"""

from headrace.arch.design import Design
from headrace.arch.resources import no_fabric
from headrace.arch.vrex.axes import AXES, CONSTRAINTS

__all__ = ["VREX"]

VREX = Design(
    name="vrex",
    summary="dynamic KV-cache retrieval for streaming video language models (ASIC)",
    axes=AXES,
    constraints=CONSTRAINTS,
    resources=no_fabric,
    default_device="vrex8",
    default_network="llama-3-8b",
    faces={
        "rtl": "headrace.rtl.vrex:RTL",
        "sim": "headrace.sim.vrex.machine:simulate",
        "verify": "headrace.verification.vrex:VERIFY",
        "search": "headrace.search.vrex:SPACE",
        "measure": "headrace.search.vrex.measure:measure",
        "reproduce": "headrace.search.reproduce.vrex:rows",
    },
)
