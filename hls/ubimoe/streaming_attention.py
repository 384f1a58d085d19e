"""Streaming attention as Vitis HLS C++ (docs/ubimoe-kernels.md, "streaming_attention")."""

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.streaming_attention import StreamingAttentionSizes
from headrace.errors import InputError
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["streaming_attention"]

_MAX_WIDE_DIMS = 4096 // WIDE_BITS


def streaming_attention(sizes: StreamingAttentionSizes) -> Kernel:
    """Return the streaming attention kernel.

    Words: ``command`` tokens (16 bits); ``queries``, ``keys``, ``values`` and ``results`` `dims`
    operands, the first one lowest. `exp_units` changes nothing: the tool shares the exponentials,
    which are needed once per head and step, or does not.

    Raises
    ------
    InputError
        `dims` wide values do not fit a word of HLS.
    """
    if sizes.dims > _MAX_WIDE_DIMS:
        raise InputError(f"dims = {sizes.dims} is not allowed: 1 to {_MAX_WIDE_DIMS} in HLS")
    bits = sizes.dims * sizes.formats.operand_bits
    ports = [
        Port(name="command", bits=16),
        Port(name="queries", bits=bits),
        Port(name="keys", bits=bits),
        Port(name="values", bits=bits),
        Port(name="results", bits=bits, output=True),
    ]
    counts = {
        "HEADS": sizes.heads,
        "HEAD_BEATS": sizes.head_beats,
        "DIMS": sizes.dims,
        "LANES": sizes.lanes,
        "MAX_TOKENS": sizes.max_tokens,
        "SCALE_SHIFT": sizes.scale_shift,
    }
    # Between the parts: the steps from the first key of a row to its last, and one to go on with.
    values = {
        "row_beats": sizes.row_beats,
        "score_depth": (sizes.max_tokens + 1) * sizes.heads,
        "maxima_depth": 2 * sizes.heads,
    }
    return kernel("streaming_attention", ports, formats=sizes.formats, sizes=counts, values=values)
