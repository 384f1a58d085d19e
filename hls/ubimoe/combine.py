"""The combination of the experts' results as Vitis HLS C++ (docs/ubimoe-kernels.md, "combine")."""

from headrace.arch.ubimoe.combine import CombineSizes
from headrace.arch.ubimoe.dispatch import SCORE_BITS
from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["combine"]


def combine(sizes: CombineSizes, name: str = "combine") -> Kernel:
    """Return the combination of results with the residual, its top function called `name`.

    Words, the first field lowest: ``command`` tokens (16 bits) and choices (8); ``jobs`` rows
    (16); ``rows`` token (16) and score (23, unsigned); ``values`` `dims` wide values;
    ``residual`` and ``results`` `dims` features.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    features = sizes.dims * sizes.formats.feature_bits
    ports = [
        Port(name="command", bits=16 + 8),
        Port(name="jobs", bits=16),
        Port(name="rows", bits=16 + SCORE_BITS),
        Port(name="values", bits=sizes.dims * WIDE_BITS),
        Port(name="residual", bits=features),
        Port(name="results", bits=features, output=True),
    ]
    counts = {
        "DIMS": sizes.dims,
        "ROW_BEATS": sizes.row_beats,
        "LANES": sizes.lanes,
        "MAX_TOKENS": sizes.max_tokens,
        "SCORE_BITS": SCORE_BITS,
    }
    return kernel(
        name,
        ports,
        template_name="combine",
        formats=sizes.formats,
        sizes=counts,
        values={"row_beats": sizes.row_beats},
    )
