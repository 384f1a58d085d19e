"""The gate as Vitis HLS C++ (docs/ubimoe-kernels.md, "gate")."""

from headrace.arch.ubimoe.dispatch import SCORE_BITS
from headrace.arch.ubimoe.gate import GateSizes
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["CHOICE_BITS", "gate"]

CHOICE_BITS = 8 + SCORE_BITS
"""Bits of a choice: expert and score."""


def gate(sizes: GateSizes) -> Kernel:
    """Return the gate.

    Words, the first field lowest: ``command`` tokens (16 bits); ``weights`` `dims` weights;
    ``inputs`` `dims` operands; ``choices`` top_k of expert (8) and score (23, unsigned).

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    formats, dims = sizes.formats, sizes.dims
    ports = [
        Port(name="command", bits=16),
        Port(name="weights", bits=dims * formats.weight_bits),
        Port(name="inputs", bits=dims * formats.operand_bits),
        Port(name="choices", bits=sizes.top_k * CHOICE_BITS, output=True),
    ]
    counts = {
        "EXPERTS": sizes.experts,
        "TOP_K": sizes.top_k,
        "DIMS": dims,
        "ROW_BEATS": sizes.row_beats,
        "MAX_TOKENS": sizes.max_tokens,
    }
    values = {"experts": sizes.experts, "score_depth": 2 * sizes.experts}
    return kernel("gate", ports, formats=formats, sizes=counts, values=values)
