"""TeLLMe: ternary LLM inference by table-lookup matmul (arXiv 2510.15926).

Section and table numbers in this package refer to that paper.
"""

from headrace.arch.design import Design
from headrace.arch.tellme.axes import AXES, CONSTRAINTS
from headrace.arch.tellme.resources import resources

__all__ = ["TELLME"]

TELLME = Design(
    name="tellme",
    summary="ternary LLM prefill and decode by table-lookup matmul (KV260)",
    axes=AXES,
    constraints=CONSTRAINTS,
    resources=resources,
    default_device="kv260",
    default_network="bitnet-b1.58-large",
    faces={
        "sim": "headrace.sim.tellme:simulate",
        "rtl": "headrace.rtl.tellme:RTL",
        "hls": "headrace.hls.tellme:HLS",
        "search": "headrace.search.tellme:SPACE",
        "reproduce": "headrace.search.reproduce.tellme:rows",
        "verify": "headrace.verification.tellme:VERIFY",
        "measure": "headrace.verification.measure:measure",
    },
)
