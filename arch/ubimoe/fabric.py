"""LUTs and flip-flops of what UbiMoE's kernels are made of, as Yosys maps them to UltraScale+.

Every function counts structure: a bit of an adder is a LUT, a register without reset that is
three or more stages long is a shift register in LUTs, and so on. Function units are constants:
what they take when they are mapped alone.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from headrace.arch.resources import Resources
from headrace.arch.ubimoe.formats import DSP_NARROW_BITS, DSP_WIDE_BITS

__all__ = [
    "DIVIDER",
    "EXPONENTIAL",
    "GELU",
    "LARGEST_PRODUCT",
    "ROOT",
    "Terms",
    "adder_tree",
    "bits_of",
    "chosen",
    "coefficients",
    "fitted",
    "is_split",
    "log_bits",
    "multiplexer",
    "shift_register",
    "split_product",
    "times",
]

Terms = dict[str, Resources]
"""LUTs and flip-flops by what they are for; LUTs before their fitted factors."""

_SHORTEST_SHIFT_REGISTER, _SRL_STAGES = 3, 32
_ADDERS = {2: 1.0, 3: 2.0, 4: 3.2}  # LUTs per bit of a sum of so many numbers

EXPONENTIAL = Resources(lut=255, ff=143)
"""`Exponential`, without its DSP slices."""

DIVIDER = Resources(lut=1430, ff=1368)
"""`Reciprocal`: 31 bits by 23."""

ROOT = Resources(lut=2545, ff=2433)
"""`RootReciprocal`."""

GELU = Resources(lut=369, ff=206)
"""`Gelu`, without its DSP slice."""


LARGEST_PRODUCT = 90
"""LUTs beside the four slices of a product of 32 by 32 bits."""


def times(count: float, part: Resources) -> Resources:
    """Return the resources of `count` equal parts."""
    return Resources(**{name: count * value for name, value in part.as_dict().items()})


def log_bits(count: int) -> int:
    """Return the bits that number `count` things, 0 for one: ceil(log2 count)."""
    return (count - 1).bit_length()


def bits_of(most: int) -> int:
    """Return the bits of a number up to `most`."""
    return most.bit_length()


def shift_register(bits: int, stages: int) -> Resources:
    """Return `bits` registers in a row of `stages`, with one enable and no reset.

    From three stages on they are LUTs of up to 32 stages; a stage that is left over, behind 32 or
    16 others, is a flip-flop.
    """
    if stages < _SHORTEST_SHIFT_REGISTER:
        return Resources(ff=bits * max(stages, 0))
    full, rest = divmod(stages, _SRL_STAGES)
    return Resources(lut=bits * (full + (rest > 1)), ff=bits * (rest in (1, 17)))


def multiplexer(inputs: int) -> float:
    """Return the LUTs per bit of a choice between `inputs` by a binary number.

    A LUT chooses between four; beyond that the number is decoded first (`chosen`).
    """
    if inputs <= 4:
        return float(inputs > 1)
    return chosen(inputs)


def chosen(inputs: int) -> float:
    """Return the LUTs per bit of an and-or of `inputs` numbers, each with its own flag."""
    return 0.0 if inputs < 1 else float(-(-(2 * inputs - 1) // 5))


def is_split(a_bits: int, b_bits: int) -> bool:
    """Return whether a product is one that `split_product` cuts: neither factor fits a slice."""
    wide, narrow = max(a_bits, b_bits), min(a_bits, b_bits)
    return wide > DSP_WIDE_BITS and DSP_NARROW_BITS < narrow <= DSP_WIDE_BITS


def split_product(factor_bits: int, shift: int, kept: int, stages: int) -> Resources:
    """Return adder and registers of a `split_product` whose first factor is cut, without DSP.

    Parameters
    ----------
    factor_bits : int
        Bits of the other factor, without its sign.
    shift, kept : int
        Of the product the bits from `shift` on that are used.
    stages : int
        Registers; the first ones hold both parts, the next ones their sum.
    """
    high = shift + kept - (DSP_NARROW_BITS - 1)
    parts = Resources(lut=high, ff=factor_bits + high)
    return parts + shift_register(kept, stages - 1)


def adder_tree(terms: int, bits: int, most: int, grows: bool = True) -> Resources:
    """Return a tree of adders with a register behind every second level and the last one.

    The numbers have `bits` bits, and one more behind each level, up to `most`. What is between two
    registers is a sum of up to four numbers; unless its RTL says how a sum `grows`, one of more
    than two has `most` bits.
    """
    total = Resources()
    while terms > 1:
        groups, rest = divmod(terms, 4)
        bits = most if terms > 2 and not grows else min(most, bits + (2 if terms > 2 else 1))
        luts = groups * _ADDERS[4] + (_ADDERS[rest] if rest > 1 else 0.0)
        terms = groups + (rest > 0)
        total += Resources(lut=bits * luts, ff=bits * terms)
    return total


@cache
def coefficients(kernel: str) -> Mapping[str, float]:
    """Return the fitted factors of a kernel's LUT terms; of those that are not there it is one."""
    text = files("headrace.arch.ubimoe").joinpath("lut_coefficients.toml").read_text("utf-8")
    return {name: float(value) for name, value in tomllib.loads(text).get(kernel, {}).items()}


def fitted(kernel: str, terms: Terms) -> Resources:
    """Return the sum of the terms, their LUTs times the kernel's factors."""
    factors = coefficients(kernel)
    lut = sum(factors.get(name, 1.0) * term.lut for name, term in terms.items())
    return Resources(lut=lut, ff=sum(term.ff for term in terms.values()))
