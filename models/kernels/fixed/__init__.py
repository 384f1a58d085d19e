"""Fixed-point reference kernels of UbiMoE; see docs/ubimoe-numerics.md."""

from headrace.models.kernels.fixed.attention import attention_scores, streaming_attention
from headrace.models.kernels.fixed.combine import add_residual, combine
from headrace.models.kernels.fixed.encoder import Encoder, encoder, encoder_states
from headrace.models.kernels.fixed.encoder_block import (
    Affine,
    Attention,
    EncoderBlock,
    Experts,
    FeedForward,
    encoder_block,
    ffn_block,
    msa_block,
)
from headrace.models.kernels.fixed.formats import FORMATS, ONE, Formats
from headrace.models.kernels.fixed.functions import (
    exponential,
    gelu,
    reciprocal,
    root_reciprocal,
)
from headrace.models.kernels.fixed.gate import Choices, Job, dispatch, gate, online_softmax, top_k
from headrace.models.kernels.fixed.integers import (
    from_real,
    to_feature,
    to_operand,
    to_real,
    to_wide,
    wrap,
)
from headrace.models.kernels.fixed.layer_norm import layer_norm
from headrace.models.kernels.fixed.linear import linear
from headrace.models.kernels.fixed.patch_embedding import patch_embedding

__all__ = [
    "FORMATS",
    "ONE",
    "Affine",
    "Attention",
    "Choices",
    "Encoder",
    "EncoderBlock",
    "Experts",
    "FeedForward",
    "Formats",
    "Job",
    "add_residual",
    "attention_scores",
    "combine",
    "dispatch",
    "encoder",
    "encoder_block",
    "encoder_states",
    "exponential",
    "ffn_block",
    "from_real",
    "gate",
    "gelu",
    "layer_norm",
    "linear",
    "msa_block",
    "online_softmax",
    "patch_embedding",
    "reciprocal",
    "root_reciprocal",
    "streaming_attention",
    "to_feature",
    "to_operand",
    "to_real",
    "to_wide",
    "top_k",
    "wrap",
]
