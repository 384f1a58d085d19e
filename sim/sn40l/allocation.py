"""Static memory: symbols share addresses where their lives are disjoint, and spill to DDR."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from headrace.errors import InputError

__all__ = ["KINDS", "Allocation", "Symbol", "TierMap", "allocate", "overlay", "peak_bytes"]

KINDS = ("activation", "cache", "weights")
"""Kinds of symbols, in the order in which they leave HBM."""

_LIMIT = 1 << 50
_LARGEST_TRANSFER = 1 << 70
_MOST_SYMBOLS = 1 << 12
_ALL_ORDERS = 6


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A tensor in memory, with its life known before the program runs.

    Parameters
    ----------
    name : str
    kind : str
        One of `KINDS`.
    bytes : int
        Its size, 1 to 2^50.
    first, last : int
        Numbers of the first and the last kernel call in which it lives.
    transfer_bytes : int
        Bytes that the program reads and writes of it, 0 to 2^70.

    Raises
    ------
    InputError
        A number is out of range, or the life ends before it begins.
    """

    name: str
    kind: str
    bytes: int
    first: int
    last: int
    transfer_bytes: int

    def __post_init__(self) -> None:
        where = f"symbol {self.name}"
        if self.kind not in KINDS:
            raise InputError(f"{where}: kind = {self.kind!r}; one of {', '.join(KINDS)} is needed")
        ranges = {
            "bytes": (1, _LIMIT),
            "first": (0, _LIMIT),
            "last": (0, _LIMIT),
            "transfer_bytes": (0, _LARGEST_TRANSFER),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise InputError(f"{where}: {name} = {value!r} is not allowed: {least} to {most}")
        if self.last < self.first:
            raise InputError(f"{where}: it lives from call {self.first} to call {self.last}")


@dataclass(frozen=True)
class TierMap:
    """Addresses of the symbols of one tier.

    Attributes
    ----------
    offsets : dict of str to int
        First byte of each symbol.
    height : int
        Bytes in use: the end of the highest symbol.
    peak : int
        The most bytes that live at once; no map is lower.
    """

    offsets: dict[str, int]
    height: int
    peak: int


@dataclass(frozen=True)
class Allocation:
    """A program's symbols in two tiers.

    Attributes
    ----------
    hbm, ddr : TierMap
    spilled : tuple of Symbol
        What moved to DDR, in order.
    """

    hbm: TierMap
    ddr: TierMap
    spilled: tuple[Symbol, ...] = field(repr=False)

    @property
    def spilled_transfer_bytes(self) -> int:
        """Bytes per run of the program that go to and from DDR."""
        return sum(symbol.transfer_bytes for symbol in self.spilled)


def peak_bytes(symbols: Sequence[Symbol]) -> int:
    """Return the most bytes that live at once."""
    events = [(s.first, s.bytes) for s in symbols]
    events += [(s.last + 1, -s.bytes) for s in symbols]
    now = most = 0
    for _, change in sorted(events):  # at the same call what ends goes first
        now += change
        most = max(most, now)
    return most


def overlay(symbols: Sequence[Symbol]) -> TierMap:
    """Give every symbol an address, so that those that live at once do not overlap.

    Each takes the smallest gap that holds it among those placed that live with it. They are taken
    in order of birth, which colours the intervals with as few as can be if all sizes are equal,
    and by falling size; the lower of both maps is returned. Where neither reaches the peak, up to
    six symbols are taken in all orders, one of which gives the lowest map there is.

    Raises
    ------
    InputError
        Two symbols have one name.
    """
    if len({s.name for s in symbols}) != len(symbols):
        names = [s.name for s in symbols]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"symbol {twice}: its name is given twice")
    orders = (
        sorted(symbols, key=lambda s: (s.first, -s.last, -s.bytes, s.name)),
        sorted(symbols, key=lambda s: (-s.bytes, s.first, s.name)),
    )
    peak = peak_bytes(symbols)
    found = min(map(_best_fit, orders), key=lambda placed: placed[1])
    if found[1] > peak and len(symbols) <= _ALL_ORDERS:
        found = min(map(_best_fit, permutations(symbols)), key=lambda placed: placed[1])
    return TierMap(*found, peak)


def _best_fit(order: Sequence[Symbol]) -> tuple[dict[str, int], int]:
    """Return offsets and height of symbols that are placed in this order."""
    placed: list[tuple[int, Symbol]] = []
    for symbol in order:
        spans = sorted(
            (offset, offset + other.bytes)
            for offset, other in placed
            if other.first <= symbol.last and symbol.first <= other.last
        )
        gaps = [(b - a, a) for a, b in _gaps(spans) if b - a >= symbol.bytes]
        top = max((end for _, end in spans), default=0)
        placed.append((min(gaps)[1] if gaps else top, symbol))
    height = max((offset + symbol.bytes for offset, symbol in placed), default=0)
    return {symbol.name: offset for offset, symbol in placed}, height


def _gaps(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the free ranges below the last of some spans, which are sorted and may overlap."""
    free = 0
    for start, end in spans:
        if start > free:
            yield free, start
        free = max(free, end)


def allocate(symbols: Sequence[Symbol], hbm_bytes: int, ddr_bytes: int) -> Allocation:
    """Allocate symbols in HBM, and move as many as needed to DDR.

    Symbols leave HBM until the rest fits: activations first, then the KV cache, weights last; of
    one kind the one with the fewest transferred bytes first (section 5 of the paper).

    Parameters
    ----------
    symbols : sequence of Symbol
    hbm_bytes, ddr_bytes : int
        Sizes of the tiers, from 0.

    Raises
    ------
    InputError
        They do not fit both tiers, or a size or the number of symbols is out of range.
    """
    for name, size in (("hbm_bytes", hbm_bytes), ("ddr_bytes", ddr_bytes)):
        if type(size) is not int or not 0 <= size <= _LIMIT:
            raise InputError(f"{name} = {size!r} is not allowed: 0 to {_LIMIT}")
    if len(symbols) > _MOST_SYMBOLS:
        raise InputError(f"{len(symbols)} symbols; at most {_MOST_SYMBOLS} are possible")
    order = sorted(symbols, key=lambda s: (KINDS.index(s.kind), s.transfer_bytes, s.first, s.name))
    # the peak falls with every symbol that goes; overlays are tried from where it fits
    gone = bisect_left(
        range(len(order)), True, key=lambda count: peak_bytes(order[count:]) <= hbm_bytes
    )
    while (hbm := overlay(order[gone:])).height > hbm_bytes:
        gone += 1
    ddr = overlay(order[:gone])
    if ddr.height > ddr_bytes:
        raise InputError(
            f"symbols take {ddr.height} bytes of DDR beside {hbm.height} of HBM; there are "
            f"{ddr_bytes} and {hbm_bytes}"
        )
    return Allocation(hbm, ddr, tuple(order[:gone]))
