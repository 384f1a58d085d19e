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

UBIMOE_ZCU102: Mapping[str, object] = {
    "attention_modules": 3,
    "attention_dims": 2,
    "attention_lanes": 5,
    "tile_in": 8,
    "tile_out": 32,
    "linear_lanes": 2,
}
"""Of all points the nearest to the published DSP, block RAM, LUT and FF."""

UBIMOE_U280: Mapping[str, object] = {
    "clock_mhz": 200,
    "attention_dims": 8,
    "attention_lanes": 16,
    "tile_in": 32,
    "tile_out": 16,
    "linear_lanes": 1,
    "weight_ports": 4,
}
"""The fastest one within the published resources, expert weights striped over four channels."""
