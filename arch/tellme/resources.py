"""Resources of a TeLLMe point, module by module.

``ternary_matmul`` and ``weight_buffer`` are the engine that is emitted; their counts come from
its structure and from mapped netlists (`headrace.arch.tellme.engine_resources`), those of
``axi_shell`` from the mapped shell. The other modules have no RTL here: they scale with the axes
that size them from the published module table (section 5 of the paper), so that their sum at the
published point is fitted and not a prediction. Every fitted figure is in ``calibration.toml``.
"""

from collections.abc import Mapping
from math import ceil

from headrace.arch.calibration import constant
from headrace.arch.point import Point
from headrace.arch.resources import Resources
from headrace.arch.tellme.engine import EngineSizes, engine_sizes
from headrace.arch.tellme.engine_resources import (
    engine_bram36,
    engine_dsp,
    engine_ff,
    engine_lut,
    engine_uram,
    size_columns,
)

__all__ = ["resources"]

_COPIES, _DECODE_LANES = 16, 16  # of the published point, whose figures are scaled
_HEADS, _SCORE_BITS = 16, 16
_URAM_WORDS, _URAM_BITS = 4096, 72


def resources(point: Point) -> Mapping[str, Resources]:
    """Return the resources of each module; they add up to the whole machine.

    Parameters
    ----------
    point : Point
        A point of ``tellme``.

    Returns
    -------
    mapping of str to Resources
        ``ternary_matmul``, ``weight_buffer``, ``axi_shell``, ``elementwise``,
        ``prefill_attention``, ``decode_attention``, ``rms_max``.
    """
    return _engine(engine_sizes(point)) | {
        "axi_shell": _axi_shell(point),
        "elementwise": _elementwise(point),
        "prefill_attention": _prefill_attention(point),
        "decode_attention": _decode_attention(point),
        "rms_max": _fabric("rms_max"),
    }


def _engine(sizes: EngineSizes) -> dict[str, Resources]:
    """Split the engine into its weight buffer, unpacker included, and the rest."""
    columns = size_columns(sizes)
    buffer_bram36 = float(engine_bram36(columns, buffer=True))
    return {
        "ternary_matmul": Resources(
            lut=float(engine_lut(columns, buffer=False)),
            ff=float(engine_ff(columns, buffer=False)),
            dsp=float(engine_dsp(columns)),
            bram36=float(engine_bram36(columns)) - buffer_bram36,
        ),
        "weight_buffer": Resources(
            lut=float(engine_lut(columns, buffer=True)),
            ff=float(engine_ff(columns, buffer=True)),
            bram36=buffer_bram36,
            uram=float(engine_uram(columns)),
        ),
    }


def _axi_shell(point: Point) -> Resources:
    """Return registers, stream logic and one reader per port; no published figure is fitted.

    The two factors per port and the two constants solve the counts of the shell mapped without
    its engine: 655 LUT, 540 FF with one port of 128 bits; 1,457 LUT, 848 FF with three of 256.
    """
    ports = point.integer("weight_ports")
    fifo = 8 * ceil(point.integer("port_bits") / 14)  # RAM32M16: 14 bits in eight LUTs
    return Resources(lut=ports * (fifo + 213) + 362, ff=ports * 154 + 386)


def _fabric(module: str, scale: float = 1.0, **blocks: float) -> Resources:
    """Return `scale` times a module's published LUTs and DSPs, flip-flops by a common ratio."""
    lut = scale * constant(f"tellme.{module}_lut")
    return Resources(
        lut=lut,
        ff=lut * constant("tellme.fabric_ff_per_lut"),
        dsp=scale * constant(f"tellme.{module}_dsp"),
        bram36=constant("tellme.rms_max_bram36") if module == "rms_max" else 0.0,
    ) + Resources(**blocks)


def _elementwise(point: Point) -> Resources:
    """Scale dequantisation and the fused modes with the outputs per cycle."""
    return _fabric("elementwise", point.integer("copies") / _COPIES)


def _prefill_attention(point: Point) -> Resources:
    """Add adders of the query-key loop, softmax and value units, and the lanes' buffers.

    LUTs are divided between adders and units as DSPs are. A lane holds a query and an output in
    two buffers 256 bits wide, four block RAMs each; a unit reads its values from URAM.
    """
    units = point.integer("prefill_pv_units")
    adders_dsp = point.integer("prefill_adders") * constant("tellme.fp16_adder_dsp")
    unit_dsp = constant("tellme.prefill_unit_dsp")
    dsp = adders_dsp + units * unit_dsp
    lut = dsp * constant("tellme.prefill_lut_per_dsp")
    return Resources(
        lut=lut,
        ff=lut * constant("tellme.fabric_ff_per_lut"),
        dsp=dsp,
        bram36=8.0 * point.integer("prefill_lanes"),
        uram=units * constant("tellme.prefill_unit_uram"),
    )


def _decode_attention(point: Point) -> Resources:
    """Scale lanes; the score FIFO holds one FP16 per head and token of context."""
    depth = ceil(point.integer("max_context") / _URAM_WORDS)
    fifo = ceil(_HEADS * _SCORE_BITS / _URAM_BITS) * depth
    scale = point.integer("decode_lanes") / _DECODE_LANES
    return _fabric("decode_attention", scale, uram=float(fifo))
