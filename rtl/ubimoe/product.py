"""Products that take more than one DSP slice, split so that they take few."""

from amaranth.hdl import Module, Value

from headrace.arch.ubimoe.formats import DSP_NARROW_BITS, DSP_WIDE_BITS
from headrace.rtl.ubimoe.pipeline import delayed

__all__ = ["split_product"]

_LOW_BITS = DSP_NARROW_BITS - 1  # without a sign


def split_product(m: Module, a: Value, b: Value, stages: int, enable: Value, name: str) -> Value:
    """Return a b, all bits of it, as it was `stages` enabled cycles before.

    A slice multiplies signed numbers of 27 and 18 bits. If `a` is wider than the one and `b` than
    the other, which alone Yosys cuts both and takes four slices: here `a` is cut into the low 17
    bits and the rest, so that two do. The first registers follow the multipliers.

    Parameters
    ----------
    m : Module
    a, b : Value
        Factors, signed or not; `a` the wider one, up to 35 bits if it is to be cut.
    stages : int
        At least 1.
    enable : Value
        The registers advance.
    name : str
        Of the registers.
    """
    signed = a.shape().signed or b.shape().signed
    if _signed_bits(a) <= DSP_WIDE_BITS or not DSP_NARROW_BITS < _signed_bits(b) <= DSP_WIDE_BITS:
        product = delayed(m, a * b, stages, enable, name)
    else:
        rest = a[_LOW_BITS:].as_signed() if a.shape().signed else a[_LOW_BITS:]
        low = delayed(m, a[:_LOW_BITS] * b, 1, enable, f"{name}_low")
        high = delayed(m, rest * b, 1, enable, f"{name}_high")
        total = ((high << _LOW_BITS) + low)[: len(a) + len(b)]
        product = delayed(m, total, stages - 1, enable, name)
    return product.as_signed() if signed else product


def _signed_bits(value: Value) -> int:
    return len(value) + (not value.shape().signed)
