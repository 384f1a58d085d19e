"""What UbiMoE's memories take: one write port, one read port with a register.

The counts are those of Yosys (``synth_xilinx -family xcup``), which weighs every way to build a
memory and takes the cheapest. A primitive of u bits by a words holds ``rows = ceil(depth / a)``
pieces of every word, a word being padded to whole bytes of b bits; all pieces stand side by side:

    count = ceil(rows b ceil(width / b) / u)
    cost = count price + (rows - 1) width / 2 + (rows / 2 if rows > 1)

The last two terms are the multiplexer behind the read port and the decoder of the write enables.
LUTs and flip-flops are those of LUT RAM and its read register, of that multiplexer and of the rows'
addresses that it keeps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

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
_LUTS_OF_LUT_RAM = 8


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


def _row_choice(rows: int, width: int) -> Resources:
    """Return the multiplexer between rows of primitives, and what it keeps of an address."""
    if rows == 1:
        return Resources()
    # A LUT chooses between four, and the rows are padded to a power of two.
    padded = (rows - 1).bit_length()
    per_bit = {2: 1.0, 3: 1.0, 4: 1.0, 5: 2.0}.get(rows, float(-(-(2**padded - 1) // 3)))
    return Resources(lut=width * per_bit + rows, ff=padded)


def _block_choices(width: int, depth: int) -> Iterable[tuple[float, Resources]]:
    """Yield cost and resources of every way to build a memory from block RAM."""
    for primitive in _BLOCK:
        for missing, unit in primitive.shapes:
            rows = -(-depth >> (primitive.address_bits - missing))
            count = _count(rows, width, min(_BYTE, unit), unit)
            cost = count * primitive.price + _decoding(rows, width)
            blocks = Resources(bram36=count * primitive.halves / 2)
            yield cost, blocks + _row_choice(rows, width)


def _lut_ram_choices(width: int, depth: int) -> Iterable[tuple[float, Resources]]:
    """Yield cost and resources of every LUT RAM; without its read register."""
    for words, unit in _LUT_RAMS:
        rows = -(-depth // words)
        cost = _LUT_RAM_PRICE * rows * width / unit + _decoding(rows, width)
        luts = rows * -(-width // unit) * _LUTS_OF_LUT_RAM + _row_choice(rows, width).lut
        yield cost, Resources(lut=luts)


def _cheapest(choices: Iterable[tuple[float, Resources]]) -> tuple[float, Resources]:
    return min(choices, key=lambda choice: choice[0])


def block_ram_halves(width: int, depth: int) -> int:
    """Return the 18 Kb halves of a memory in block RAM.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words.
    """
    return round(2 * memory_blocks(width, depth, "block").bram36)


def ultra_rams(width: int, depth: int) -> int:
    """Return the URAM288 blocks, 4096 x 72 bits, of a memory in URAM.

    ceil(b rows ceil(width / b) / 72) with rows = ceil(depth / 4096), the smaller of b = 8 and 9.
    """
    _check(width, depth)
    rows = -(-depth // _ULTRA_WORDS)
    return min(_count(rows, width, byte, _ULTRA_BITS) for byte in _ULTRA_BYTES)


@lru_cache(maxsize=65536)
def memory_blocks(width: int, depth: int, style: str, registered: bool = True) -> Resources:
    """Return block RAM and URAM, LUTs and flip-flops of a memory.

    Parameters
    ----------
    width, depth : int
        Bits of a word, words; at least 1.
    style : str
        One of `STYLES`.
    registered : bool
        Whether the read port has a register; in LUT RAM those are flip-flops.

    Raises
    ------
    InputError
        A size or the style is not allowed.
    """
    _check(width, depth)
    if style not in STYLES:
        raise InputError(f"style = {style} is not allowed: {', '.join(STYLES)}")
    if style == "ultra":
        rows = -(-depth // _ULTRA_WORDS)
        return Resources(uram=ultra_rams(width, depth)) + _row_choice(rows, width)
    block_cost, block = _cheapest(_block_choices(width, depth))
    lut_cost, lut_ram = _cheapest(_lut_ram_choices(width, depth))
    if style == "block" or (style == "auto" and lut_cost > block_cost):
        return block
    return lut_ram + Resources(ff=width * registered)


def _check(width: int, depth: int) -> None:
    for name, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise InputError(f"{name} = {value} is not allowed: at least 1")
