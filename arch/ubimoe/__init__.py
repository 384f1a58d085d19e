"""UbiMoE: mixture-of-experts vision transformers (arXiv 2502.05602).

Section, table and equation numbers in this package refer to that paper.
"""

from headrace.arch.design import Design
from headrace.arch.ubimoe.axes import AXES, CONSTRAINTS
from headrace.arch.ubimoe.resources import resources

__all__ = ["UBIMOE"]

UBIMOE = Design(
    name="ubimoe",
    summary="mixture-of-experts vision transformer, streaming attention (ZCU102, U280)",
    axes=AXES,
    constraints=CONSTRAINTS,
    resources=resources,
    default_device="zcu102",
    default_network="m3vit-tiny",
    faces={
        "sim": "headrace.sim.ubimoe.machine:simulate",
        "rtl": "headrace.rtl.ubimoe:RTL",
        "hls": "headrace.hls.ubimoe:HLS",
        "search": "headrace.search.ubimoe:SPACE",
        "reproduce": "headrace.search.reproduce.ubimoe:rows",
        "verify": "headrace.verification.ubimoe:VERIFY",
        "measure": "headrace.verification.measure_ubimoe:measure",
    },
)
