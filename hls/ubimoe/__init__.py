"""UbiMoE's kernels as Vitis HLS C++, and their C simulation; see docs/ubimoe-kernels.md."""

from headrace.hls.ubimoe.block import moe_block, msa_block
from headrace.hls.ubimoe.combine import combine
from headrace.hls.ubimoe.dispatch import dispatch
from headrace.hls.ubimoe.face import HLS, UbimoeHls
from headrace.hls.ubimoe.functions import function_unit
from headrace.hls.ubimoe.gate import gate
from headrace.hls.ubimoe.kernel import Kernel, Memory, Port, csim
from headrace.hls.ubimoe.layer_norm import layer_norm
from headrace.hls.ubimoe.linear import linear
from headrace.hls.ubimoe.patch_embedding import PatchEmbeddingSizes, patch_embedding
from headrace.hls.ubimoe.prefetch import prefetch
from headrace.hls.ubimoe.streaming_attention import streaming_attention

__all__ = [
    "HLS",
    "Kernel",
    "Memory",
    "PatchEmbeddingSizes",
    "Port",
    "UbimoeHls",
    "combine",
    "csim",
    "dispatch",
    "function_unit",
    "gate",
    "layer_norm",
    "linear",
    "moe_block",
    "msa_block",
    "patch_embedding",
    "prefetch",
    "streaming_attention",
]
