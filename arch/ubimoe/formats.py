"""Number formats of UbiMoE (docs/ubimoe-numerics.md): what is stored in how many bits.

Everything is fixed point: an integer and a number of fraction bits. Rounding is a floor (an
arithmetic shift), overflow wraps, unless `Formats.saturates`.
"""

from dataclasses import dataclass

from headrace.errors import InputError

__all__ = [
    "DSP_NARROW_BITS",
    "DSP_WIDE_BITS",
    "FORMATS",
    "WIDE_BITS",
    "WIDE_FRACTION",
    "Formats",
    "formats_of",
    "multiplier_dsp",
]

WIDE_BITS = 32
"""Bits of accumulators, scores, probabilities and everything else inside the kernels."""

WIDE_FRACTION = 22
"""Fraction bits of the same; one is 2^22."""

DSP_WIDE_BITS, DSP_NARROW_BITS = 27, 18
"""Bits of the signed factors of a DSP48E2 slice."""


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Widths and fraction bits of one precision.

    Parameters
    ----------
    name : str
    feature_bits, feature_fraction : int
        The residual stream, stored between blocks.
    operand_bits, operand_fraction : int
        What enters the multipliers: normalised rows, Q, K, V, attention output, hidden values.
    weight_bits, weight_fraction : int
        Weights of the linear layers and of the gate.
    saturates : bool
        Operands and weights saturate instead of wrapping when they are narrowed.
    attention_bias_fraction, bias_fraction, norm_fraction : int
        Fraction bits of the 16-bit biases inside MSA, of all other biases, and of the 16-bit
        gains and offsets of layer norm.
    patch_fraction : int
        Fraction bits of the 16-bit patch weights; pixels are unsigned with 8 fraction bits.
    """

    name: str
    feature_bits: int
    feature_fraction: int
    operand_bits: int
    operand_fraction: int
    weight_bits: int
    weight_fraction: int
    saturates: bool = False
    attention_bias_fraction: int
    bias_fraction: int
    norm_fraction: int = 11
    patch_fraction: int = 16

    @property
    def product_shift(self) -> int:
        """Right shift of an operand times a weight to `WIDE_FRACTION`; negative: to the left."""
        return self.operand_fraction + self.weight_fraction - WIDE_FRACTION

    @property
    def score_shift(self) -> int:
        """Right shift of an operand times an operand to `WIDE_FRACTION`; negative: to the left."""
        return 2 * self.operand_fraction - WIDE_FRACTION

    @property
    def operand_shift(self) -> int:
        """Right shift from a wide value to an operand."""
        return WIDE_FRACTION - self.operand_fraction

    @property
    def feature_shift(self) -> int:
        """Right shift from a wide value to a feature."""
        return WIDE_FRACTION - self.feature_fraction


FORMATS = {
    "w16a32": Formats(
        name="w16a32",
        feature_bits=32,
        feature_fraction=22,
        operand_bits=32,
        operand_fraction=22,
        weight_bits=16,
        weight_fraction=14,
        attention_bias_fraction=9,
        bias_fraction=11,
    ),
    "int16": Formats(
        name="int16",
        feature_bits=16,
        feature_fraction=10,
        operand_bits=16,
        operand_fraction=10,
        weight_bits=16,
        weight_fraction=13,
        attention_bias_fraction=10,
        bias_fraction=10,
    ),
    "int8": Formats(
        name="int8",
        feature_bits=16,
        feature_fraction=10,
        operand_bits=8,
        operand_fraction=4,
        weight_bits=8,
        weight_fraction=10,
        saturates=True,
        attention_bias_fraction=10,
        bias_fraction=10,
    ),
}
"""The precisions by name: W16A32 and INT16 as released, INT8 ours (8-bit multiplier inputs)."""

_BY_BITS = {(f.weight_bits, f.operand_bits): f for f in FORMATS.values()}


def formats_of(weight_bits: int, activation_bits: int) -> Formats:
    """Return the formats with these weight and operand bits.

    Raises
    ------
    InputError
        There are none.
    """
    if (weight_bits, activation_bits) not in _BY_BITS:
        raise InputError(
            f"weight_bits = {weight_bits}, activation_bits = {activation_bits} is not allowed: "
            "16 and 32, 16 and 16, or 8 and 8"
        )
    return _BY_BITS[weight_bits, activation_bits]


def multiplier_dsp(a_bits: int, b_bits: int) -> int:
    """Return the DSP48E2 slices of a signed multiplier, Psi in the paper.

    The wider factor is cut into parts of 17 bits, the last one with the sign, if 27 bits do not
    hold it; so is the other one, if what stands against it then has no 18 bits free.

    | bits      | up to 18 | 19 to 27 | 28 to 35 |
    |-----------|----------|----------|----------|
    | up to 18  | 1        | 1        | 2        |
    | 19 to 27  | 1        | 2        | 2        |
    | 28 to 35  | 2        | 2        | 4        |
    """
    wide, narrow = max(a_bits, b_bits), min(a_bits, b_bits)
    if wide <= DSP_WIDE_BITS:
        return _parts(narrow)
    return _parts(wide) * (1 if narrow <= DSP_WIDE_BITS else _parts(narrow))


def _parts(bits: int) -> int:
    """Return the parts of a signed factor that fit the narrow input of a slice."""
    return -(-(bits - 1) // (DSP_NARROW_BITS - 1))
