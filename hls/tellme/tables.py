"""Ternary patterns in the order of their indices (docs/engine.md, "Index order")."""

from itertools import product

__all__ = ["patterns"]

Pattern = tuple[int, ...]


def _is_representative(pattern: Pattern) -> bool:
    plus, minus = pattern.count(1), pattern.count(-1)
    if plus == minus:
        return next((weight for weight in pattern if weight), 0) == 1
    return minus < plus


def _rank(pattern: Pattern) -> tuple[int, Pattern, int, Pattern]:
    positions = tuple(i for i, weight in enumerate(pattern) if weight)
    flags = tuple(int(pattern[i] < 0) for i in positions)
    return len(positions), positions, sum(flags), flags


def patterns(group_size: int) -> tuple[Pattern, ...]:
    """Return the pattern of every index.

    Parameters
    ----------
    group_size : int
        Ternary weights per index, G.

    Returns
    -------
    tuple of tuple of int
        3^G patterns of G weights in {-1, 0, 1}; entry i belongs to index i. Entry 0 is zero,
        and entry i + (3^G - 1) / 2 is the negative of entry i.
    """
    chosen = sorted(filter(_is_representative, product((-1, 0, 1), repeat=group_size)), key=_rank)
    negated = [tuple(-weight for weight in pattern) for pattern in chosen]
    return ((0,) * group_size, *chosen, *negated)
