"""Layer norm as Vitis HLS C++ (docs/ubimoe-kernels.md, "layer_norm")."""

from headrace.arch.ubimoe.formats import WIDE_FRACTION
from headrace.arch.ubimoe.layer_norm import LayerNormSizes
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel

__all__ = ["layer_norm"]

_ROOT_CYCLES = 128  # room in the row buffer for as long as a root and a division may take


def layer_norm(sizes: LayerNormSizes) -> Kernel:
    """Return the layer norm.

    Words, the first field lowest: ``command`` tokens (16 bits); ``parameters`` `dims` pairs of
    gain and offset (16 each); ``inputs`` `dims` features; ``results`` `dims` operands.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    formats, dims = sizes.formats, sizes.dims
    ports = [
        Port(name="command", bits=16),
        Port(name="parameters", bits=dims * 32),
        Port(name="inputs", bits=dims * formats.feature_bits),
        Port(name="results", bits=dims * formats.operand_bits, output=True),
    ]
    row_beats = sizes.width // dims
    counts = {
        "DIMS": dims,
        "ROW_BEATS": row_beats,
        "RECIPROCAL": (1 << WIDE_FRACTION) // sizes.width,
        "NORM_FRACTION": formats.norm_fraction,
    }
    values = {"row_depth": row_beats + _ROOT_CYCLES}
    return kernel("layer_norm", ports, formats=formats, sizes=counts, values=values)
