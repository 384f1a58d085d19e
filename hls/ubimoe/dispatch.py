"""The dispatch as Vitis HLS C++ (docs/ubimoe-kernels.md, "dispatch")."""

from headrace.arch.ubimoe.dispatch import SCORE_BITS, DispatchSizes
from headrace.hls.ubimoe.gate import CHOICE_BITS
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["dispatch"]


def dispatch(sizes: DispatchSizes) -> Kernel:
    """Return the dispatch.

    Words, the first field lowest: ``command`` tokens (16 bits); ``choices`` top_k of expert (8)
    and score (23, unsigned); ``jobs`` expert (8) and rows (16); ``rows`` token (16) and score
    (23).
    """
    ports = [
        Port(name="command", bits=16),
        Port(name="choices", bits=sizes.top_k * CHOICE_BITS),
        Port(name="jobs", bits=8 + 16, output=True),
        Port(name="rows", bits=16 + SCORE_BITS, output=True),
    ]
    counts = {
        "MAX_TOKENS": sizes.max_tokens,
        "EXPERTS": sizes.experts,
        "TOP_K": sizes.top_k,
        "SCORE_BITS": SCORE_BITS,
    }
    return kernel("dispatch", ports, sizes=counts, values={})
