"""Number formats of the fixed-point kernels (docs/ubimoe-numerics.md, "Numbers")."""

from dataclasses import dataclass

from headrace.errors import InputError

__all__ = ["FORMATS", "ONE", "WIDE_BITS", "WIDE_FRACTION", "Formats"]

WIDE_BITS = 32
"""Bits of a wide value: accumulators, scores, probabilities, results before they are stored."""

WIDE_FRACTION = 22
"""Fraction bits of a wide value."""

ONE = 1 << WIDE_FRACTION
"""The wide value of 1."""


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Widths and fraction bits of one precision.

    The reference holds its own copy of what `headrace.arch` says, as layers of the same height
    do not import each other; a test holds the two equal.

    Parameters
    ----------
    name : str
    feature_bits, feature_fraction : int
        The residual stream.
    operand_bits, operand_fraction : int
        What enters a multiplier: normalised rows, Q, K, V, attention output, hidden values.
    weight_bits, weight_fraction : int
        Weights of linear layers and gate.
    saturates : bool
        A value narrowed to an operand saturates; otherwise it wraps.
    attention_bias_fraction, bias_fraction : int
        Fraction bits of the 16-bit biases inside MSA, and of all others.
    norm_fraction : int
        Fraction bits of the 16-bit gains and offsets of layer norm.
    patch_fraction : int
        Fraction bits of the 16-bit patch weights.

    Raises
    ------
    InputError
        A width or a number of fraction bits is out of range.
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

    def __post_init__(self) -> None:
        for name in ("feature_bits", "operand_bits", "weight_bits"):
            _check_range(name, getattr(self, name), 2, WIDE_BITS)
        for name in ("feature", "operand", "weight", "attention_bias", "bias", "norm", "patch"):
            field = f"{name}_fraction"
            _check_range(field, getattr(self, field), 0, WIDE_FRACTION)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"{name} = {value} is not allowed: {least} to {most}")


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
"""The precisions by name: W16A32 and INT16 as released, INT8 of our own."""
