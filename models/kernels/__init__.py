"""Exact reference kernels: which bits are right, rounding by rounding."""

from headrace.models.kernels.attention import (
    attention,
    decode_attention_half,
    prefill_attention_half,
)
from headrace.models.kernels.dequantise import dequantise, dequantise_half
from headrace.models.kernels.half_functions import exp_half, exp_table, reciprocal_half
from headrace.models.kernels.quantise import quantise_activations, quantise_activations_half
from headrace.models.kernels.rms_norm import rms_norm, rms_norm_half
from headrace.models.kernels.rope import pair_permutation, rope, rope_half, rope_table
from headrace.models.kernels.swiglu import (
    relu2_gate,
    relu2_gate_half,
    silu_half,
    swiglu,
    swiglu_half,
)
from headrace.models.kernels.ternary_matmul import (
    METHODS,
    int_matmul,
    lookup_matmul,
    ternary_matmul,
)
from headrace.models.kernels.ternary_tables import (
    build_tables,
    group_patterns,
    pad_features,
    weight_indices,
)

__all__ = [
    "METHODS",
    "attention",
    "build_tables",
    "decode_attention_half",
    "dequantise",
    "dequantise_half",
    "exp_half",
    "exp_table",
    "group_patterns",
    "int_matmul",
    "lookup_matmul",
    "pad_features",
    "pair_permutation",
    "prefill_attention_half",
    "quantise_activations",
    "quantise_activations_half",
    "reciprocal_half",
    "relu2_gate",
    "relu2_gate_half",
    "rms_norm",
    "rms_norm_half",
    "rope",
    "rope_half",
    "rope_table",
    "silu_half",
    "swiglu",
    "swiglu_half",
    "ternary_matmul",
    "weight_indices",
]
