"""Points that stand for published machines.

UbiMoE's parameters are not published. Those here are what bench/ubimoe_search.py finds when it is
given the published resources (docs/ubimoe.md); Edge-MoE's lanes, tile and clock are published
(arXiv 2305.18691).
"""

from collections.abc import Mapping

__all__ = ["EDGE_MOE", "LADDER", "UBIMOE_U280", "UBIMOE_ZCU102"]

EDGE_MOE: Mapping[str, object] = {"attention": "reordered", "linear_lanes": 1, "key_ports": 1}

LADDER: Mapping[str, tuple[Mapping[str, object], float]] = {
    "reordered_attention": ({"attention": "rows"}, 104.3e-3),
    "unified_linears": ({"linear": "separate"}, 212.9e-3),
    "gelu_table": ({"gelu": "erf"}, 353.4e-3),
    "single-pass_softmax": ({"softmax": "passes"}, 433.4e-3),
    "expert-by-expert_order": ({"expert_order": "token"}, 650.3e-3),
}
"""Features of Edge-MoE as they are taken away, and the latencies in seconds that are left."""

UBIMOE_ZCU102: Mapping[str, object] = {"linear_lanes": 2}
UBIMOE_U280: Mapping[str, object] = {"clock_mhz": 200, "linear_lanes": 4, "attention_lanes": 8}
