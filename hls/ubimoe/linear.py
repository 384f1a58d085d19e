"""The linear kernel as Vitis HLS C++ (docs/ubimoe-kernels.md, "linear")."""

from headrace.arch.ubimoe.formats import WIDE_BITS
from headrace.arch.ubimoe.linear import LinearSizes
from headrace.hls.emit import Code
from headrace.hls.ubimoe.kernel import Kernel, Port, kernel, template

__all__ = ["linear"]


def linear(sizes: LinearSizes, name: str = "linear") -> Kernel:
    """Return the linear kernel, its top function called `name`.

    One command is one word of ``load`` and one of ``compute``. Words, the first field lowest:
    ``load`` in_tiles and out_tiles (16 bits each); ``compute`` rows, in_tiles, out_tiles
    (16 each), gelu (1); ``inputs`` tile_in operands; ``results`` tile_out wide values.

    Raises
    ------
    InputError
        A word of a port is wider than HLS allows.
    """
    ports = [
        Port(name="load", bits=32),
        Port(name="compute", bits=49),
        Port(name="weights", bits=sizes.beat_bits),
        Port(name="inputs", bits=sizes.tile_in * sizes.formats.operand_bits),
        Port(name="results", bits=sizes.tile_out * WIDE_BITS, output=True),
    ]
    counts = {
        "TILE_IN": sizes.tile_in,
        "TILE_OUT": sizes.tile_out,
        "LANES": sizes.lanes,
        "MAX_IN_TILES": sizes.max_in_tiles,
        "MAX_OUT_TILES": sizes.max_out_tiles,
        "MAX_TILES": sizes.max_tiles,
        "BEAT_BITS": sizes.beat_bits,
        "BIAS_BEATS": sizes.bias_beats,
        "TILE_BEATS": sizes.tile_beats,
        "BIAS_FRACTION": sizes.bias_fraction,
        "GELU_UNITS": int(sizes.gelu),
    }
    include = "#include <hls_streamofblocks.h>\n\n" if sizes.slots == 2 else ""
    slots = "linear_slots_two.h" if sizes.slots == 2 else "linear_slots_one.h"
    values: dict[str, int | Code] = {"include": Code(include), "slots_code": Code(template(slots))}
    return kernel(
        name,
        ports,
        template_name="linear",
        formats=sizes.formats,
        headers=["fields.h"],
        sizes=counts,
        values=values,
    )
