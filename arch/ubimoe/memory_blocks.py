"""Block RAMs and URAMs of UbiMoE's memories: one write port, one read port with a register.

The counts are those of Yosys (``synth_xilinx -family xcup``), which weighs every way to build a
memory and takes the cheapest. A primitive of u bits by a words holds ``rows = ceil(depth / a)``
pieces of every word, a word being padded to whole bytes of b bits; all pieces stand side by side:

    count = ceil(rows b ceil(width / b) / u)
    cost = count price + (rows - 1) width / 2 + (rows / 2 if rows > 1)

The last two terms are the multiplexer behind the read port and the decoder of the write enables.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.arch.resources import Resources
from headrace.errors import InputError

__all__ = [
    "BLOCK_WORDS",
    "DISTRIBUTED_WORDS",
    "STYLES",
    "block_ram_halves",
    "memory_blocks",
    "style_by_depth",
    "ultra_rams",
]

STYLES = ("distributed", "block", "ultra", "auto")
"""What a memory asks for: ``auto`` leaves LUT RAM or block RAM to the mapper."""

DISTRIBUTED_WORDS = 64
"""Most words of a memory that asks for LUT RAM (`style_by_depth`)."""

BLOCK_WORDS = 512
"""Most words of a memory that asks for block RAM where there is URAM."""


@dataclass(frozen=True, kw_only=True)
class _Primitive:
    """Block RAM of `halves` 18 Kb, 2^address_bits words in its narrowest shape.

    `shapes` are pairs: the address bits a shape has less, and its width in bits.
    """

    price: int
    halves: int
    address_bits: int
    shapes: tuple[tuple[int, int], ...]


_SHAPES = ((0, 1), (1, 2), (2, 4), (3, 9), (4, 18), (5, 36), (6, 72))
_BLOCK = (
    _Primitive(price=129, halves=1, address_bits=14, shapes=_SHAPES[:6]),
    _Primitive(price=257, halves=2, address_bits=15, shapes=_SHAPES),
    _Primitive(price=513, halves=4, address_bits=16, shapes=_SHAPES[:4]),  # cascaded pairs
)
_BYTE = 9
_ULTRA_WORDS, _ULTRA_BITS, _ULTRA_BYTES = 4096, 72, (8, 9)
# RAM32M16 and RAM64M8, words and bits; the price is by the bit. Deeper ones never are the cheapest.
_LUT_RAMS = ((32, 14), (64, 7))
_LUT_RAM_PRICE = 16


def style_by_depth(words: int, ultra: bool) -> str:
    """Return what the memories of the linear kernel ask for.

    ``distributed`` up to 64 words, ``block`` up to 512, ``ultra`` beyond; ``block`` there too if
    the device has no URAM (`ultra` is false).
    """
    if words <= DISTRIBUTED_WORDS:
        return "distributed"
    return "block" if words <= BLOCK_WORDS or not ultra else "ultra"


def _count(rows: int, width: int, byte: int, unit: int) -> int:
    """Return the primitives of `unit` bits for `rows` pieces of every word."""
    return -(-rows * byte * -(-width // byte) // unit)


def _decoding(rows: int, width: int) -> float:
    """Return the cost of what stands around several rows of primitives."""
    return (rows - 1) * width / 2 + (rows / 2 if rows > 1 else 0)


def _block_choices(width: int, depth: int) -> Iterable[tuple[float, int]]:
    """Yield cost and 18 Kb halves of every way to build a memory from block RAM."""
    for primitive in _BLOCK:
        for missing, unit in primitive.shapes:
            rows = -(-depth >> (primitive.address_bits - missing))
            count = _count(rows, width, min(_BYTE, unit), unit)
            cost = count * primitive.price + _decoding(rows, width)
            yield cost, count * primitive.halves


def _lut_ram_cost(width: int, depth: int) -> float:
    """Return the cost of the cheapest LUT RAM."""
    choices = []
    for words, unit in _LUT_RAMS:
        rows = -(-depth // words)
        choices.append(_LUT_RAM_PRICE * rows * width / unit + _decoding(rows, width))
    return min(choices)


def block_ram_halves(width: int, depth: int) -> int:
    """Return the 18 Kb halves of a memory in block RAM.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words.
    """
    _check(width, depth)
    return min(_block_choices(width, depth), key=lambda choice: choice[0])[1]


def ultra_rams(width: int, depth: int) -> int:
    """Return the URAM288 blocks, 4096 x 72 bits, of a memory in URAM.

    ceil(b rows ceil(width / b) / 72) with rows = ceil(depth / 4096), the smaller of b = 8 and 9.
    """
    _check(width, depth)
    rows = -(-depth // _ULTRA_WORDS)
    return min(_count(rows, width, byte, _ULTRA_BITS) for byte in _ULTRA_BYTES)


def memory_blocks(width: int, depth: int, style: str) -> Resources:
    """Return block RAM and URAM of a memory; LUT RAM counts nothing here.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words; at least 1.
    style : str
        One of `STYLES`.

    Raises
    ------
    InputError
        A size or the style is not allowed.
    """
    _check(width, depth)
    if style not in STYLES:
        raise InputError(f"style = {style} is not allowed: {', '.join(STYLES)}")
    if style == "auto":
        cheapest_block = min(cost for cost, _ in _block_choices(width, depth))
        lut_ram = _lut_ram_cost(width, depth) <= cheapest_block
        style = "distributed" if lut_ram else "block"
    if style == "block":
        return Resources(bram36=block_ram_halves(width, depth) / 2)
    return Resources(uram=ultra_rams(width, depth) if style == "ultra" else 0)


def _check(width: int, depth: int) -> None:
    for name, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise InputError(f"{name} = {value} is not allowed: at least 1")
