"""Objectives such as ``min ttft_s s.t. decode_tok_per_s >= 25``: parser and evaluation.

Grammar (``{}`` repeats, ``[]`` is optional)::

    goal        = objective {"," objective} ["s.t." constraints]
    objective   = ("min" | "max") sum
    constraints = comparison {"and" comparison}
    comparison  = sum relation sum {relation sum}
    relation    = "<" | "<=" | ">" | ">=" | "=="
    sum         = product {("+" | "-") product}
    product     = factor {("*" | "/") factor}
    factor      = ["-" | "+"] factor | number | name | "(" sum ")"

Names are the metrics and resources of the design under search. Nothing is ever executed: the
text becomes a tree of five node kinds that is evaluated on NumPy columns.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import InputError

__all__ = ["Constraint", "Goal", "Objective", "parse_constraints", "parse_goal"]

Columns = Mapping[str, NDArray[Any]]

_MAX_TEXT = 4096
_MAX_DEPTH = 64
_TOKEN = re.compile(
    r"\s*+(?:(?P<number>(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?\d++)?+(?![\w.]))"
    r"|(?P<st>s\.t\.)|(?P<name>[A-Za-z_]\w*)|(?P<op><=|>=|==|[-+*/(),<>]))",
    re.ASCII,
)
_KEYWORDS = ("min", "max", "and")
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True)
class _Number:
    value: float

    def on(self, columns: Columns) -> Any:
        return np.float64(self.value)


@dataclass(frozen=True)
class _Name:
    name: str

    def on(self, columns: Columns) -> Any:
        return np.asarray(columns[self.name], np.float64)


@dataclass(frozen=True)
class _Negative:
    inner: "_Node"

    def on(self, columns: Columns) -> Any:
        return -self.inner.on(columns)


@dataclass(frozen=True)
class _Chain:
    """Operands joined from left to right; flat, so that long sums do not nest."""

    first: "_Node"
    rest: "tuple[tuple[str, _Node], ...]"

    def on(self, columns: Columns) -> Any:
        value = self.first.on(columns)
        for symbol, node in self.rest:
            value = _ARITHMETIC[symbol](value, node.on(columns))
        return value


_Node = _Number | _Name | _Negative | _Chain


def _names(node: _Node) -> Iterator[str]:
    if isinstance(node, _Name):
        yield node.name
    elif isinstance(node, _Negative):
        yield from _names(node.inner)
    elif isinstance(node, _Chain):
        yield from _names(node.first)
        for _, operand in node.rest:
            yield from _names(operand)


def _column(node: _Node, columns: Columns) -> NDArray[np.float64]:
    """Evaluate a tree; divisions by zero give infinities and NaN, as IEEE 754 says."""
    with np.errstate(all="ignore"):
        value = np.asarray(node.on(columns), np.float64)
    length = len(next(iter(columns.values())))
    return np.broadcast_to(value, (length,))


@dataclass(frozen=True)
class Objective:
    """What to minimise or maximise.

    Parameters
    ----------
    text : str
        As it was written, with ``min`` or ``max`` in front.
    maximise : bool
    node
        The expression; use `cost`.
    """

    text: str
    maximise: bool
    node: _Node

    def cost(self, columns: Columns) -> NDArray[np.float64]:
        """Return the column to be minimised: the value, negated where it is maximised.

        Where the value is not a number (0 / 0), the cost is infinite, so that it never wins.
        """
        value = _column(self.node, columns)
        cost = -value if self.maximise else value
        return np.where(np.isnan(cost), np.inf, cost)

    def names(self) -> frozenset[str]:
        """Return the metrics and resources it reads."""
        return frozenset(_names(self.node))


@dataclass(frozen=True)
class Constraint:
    """A chain of comparisons that has to hold.

    Parameters
    ----------
    text : str
        As it was written.
    nodes, relations
        ``nodes[0] relations[0] nodes[1] relations[1] ...``; use `holds`.
    """

    text: str
    nodes: tuple[_Node, ...]
    relations: tuple[str, ...]

    def holds(self, columns: Columns) -> NDArray[np.bool_]:
        """Return the column of truth values; a comparison with NaN is false."""
        values = [_column(node, columns) for node in self.nodes]
        result = np.ones(values[0].shape, np.bool_)
        for left, symbol, right in zip(values, self.relations, values[1:], strict=False):
            result &= _RELATIONS[symbol](left, right)
        return result

    def names(self) -> frozenset[str]:
        """Return the metrics and resources it reads."""
        return frozenset(name for node in self.nodes for name in _names(node))


@dataclass(frozen=True)
class Goal:
    """Objectives and the constraints they are subject to.

    One objective asks for an optimum, several for a Pareto front.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    def names(self) -> frozenset[str]:
        """Return the metrics and resources that objectives and constraints read."""
        parts: tuple[Objective | Constraint, ...] = (*self.objectives, *self.constraints)
        return frozenset(name for part in parts for name in part.names())

    @property
    def text(self) -> str:
        """The goal as text that `parse_goal` reads back to an equal goal."""
        objectives = ", ".join(o.text for o in self.objectives)
        constraints = " and ".join(c.text for c in self.constraints)
        return f"{objectives} s.t. {constraints}" if constraints else objectives


def parse_goal(text: str, names: Sequence[str]) -> Goal:
    """Parse objectives with optional constraints.

    Parameters
    ----------
    text : str
        Such as ``min ttft_s, max decode_tok_per_s s.t. lut <= 98303 and power_w < 5``.
    names : sequence of str
        The metrics and resources that may be used.

    Raises
    ------
    InputError
        A syntax error, an unknown name, or a text that is too long or too deeply nested; the
        message gives the column (from 1) and what was expected.
    """
    parser = _Parser(text, names)
    objectives = [parser.objective()]
    while parser.accept(","):
        objectives.append(parser.objective())
    constraints = parser.constraints() if parser.accept("s.t.") else ()
    parser.end("',', 's.t.', an operator or the end")
    return Goal(tuple(objectives), tuple(constraints))


def parse_constraints(text: str, names: Sequence[str]) -> tuple[Constraint, ...]:
    """Parse constraints joined by ``and``, such as ``lut <= 98303 and power_w < 5``.

    Raises
    ------
    InputError
        As `parse_goal`.
    """
    parser = _Parser(text, names)
    constraints = parser.constraints()
    parser.end("'and', an operator or the end")
    return constraints


@dataclass(frozen=True)
class _Token:
    text: str
    kind: str
    start: int
    end: int


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, names: Sequence[str]):
        if len(text) > _MAX_TEXT:
            raise InputError(
                f"objective: {len(text)} characters are not allowed: at most {_MAX_TEXT}"
            )
        self.text = text
        self.names = tuple(names)
        self.tokens = list(self._tokens())
        self.at = 0
        self.depth = 0

    def _tokens(self) -> Iterator[_Token]:
        place = 0
        while place < len(self.text.rstrip(" \t\r\n\f\v")):
            match = _TOKEN.match(self.text, place)
            if match is None or match.lastgroup is None:
                while self.text[place] in " \t\r\n\f\v":
                    place += 1
                raise self.error(f"{self.text[place]!r} is not part of an expression", place)
            kind = match.lastgroup
            word = match.group(kind)
            yield _Token(
                word,
                "op" if kind == "st" or word in _KEYWORDS else kind,
                match.start(kind),
                match.end(),
            )
            place = match.end()

    def error(self, what: str, place: int | None = None) -> InputError:
        """Return the error at `place`, by default that of the next token."""
        if place is None:
            place = self.tokens[self.at].start if self.at < len(self.tokens) else len(self.text)
        shown = self.text if len(self.text) <= 120 else self.text[:117] + "..."
        return InputError(f"objective {shown!r}, column {place + 1}: {what}")

    def peek(self) -> str | None:
        """Return the next operator or keyword, or None."""
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "op":
            return self.tokens[self.at].text
        return None

    def accept(self, *symbols: str) -> str | None:
        """Consume and return the next token if it is one of `symbols`."""
        found = self.peek()
        if found is None or found not in symbols:
            return None
        self.at += 1
        return found

    def end(self, expected: str) -> None:
        """Raise unless all tokens are consumed."""
        if self.at < len(self.tokens):
            raise self.error(f"{self.tokens[self.at].text!r} found, {expected} expected")

    def objective(self) -> Objective:
        """Parse ``min`` or ``max`` and an expression."""
        start = self.at
        sense = self.accept("min", "max")
        if sense is None:
            raise self.error("'min' or 'max' expected")
        node = self.sum()
        return Objective(self.since(start), sense == "max", node)

    def constraints(self) -> tuple[Constraint, ...]:
        """Parse comparisons joined by ``and``."""
        found = [self.comparison()]
        while self.accept("and"):
            found.append(self.comparison())
        return tuple(found)

    def comparison(self) -> Constraint:
        """Parse a chain of comparisons."""
        start = self.at
        nodes, relations = [self.sum()], []
        while symbol := self.accept(*_RELATIONS):
            relations.append(symbol)
            nodes.append(self.sum())
        if not relations:
            raise self.error(f"one of {' '.join(_RELATIONS)} expected")
        return Constraint(self.since(start), tuple(nodes), tuple(relations))

    def since(self, start: int) -> str:
        """Return the text of the tokens from `start` to here."""
        return self.text[self.tokens[start].start : self.tokens[self.at - 1].end]

    def sum(self) -> _Node:
        """Parse products joined by plus and minus."""
        return self.chain(self.product, "+", "-")

    def product(self) -> _Node:
        """Parse factors joined by times and divided by."""
        return self.chain(self.factor, "*", "/")

    def chain(self, operand: Callable[[], _Node], *symbols: str) -> _Node:
        """Parse operands joined by `symbols`."""
        first = operand()
        rest = []
        while symbol := self.accept(*symbols):
            rest.append((symbol, operand()))
        return _Chain(first, tuple(rest)) if rest else first

    def factor(self) -> _Node:
        """Parse a number, a name, a sign or parentheses."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"nested too deeply: at most {_MAX_DEPTH} levels")
        node = self._factor()
        self.depth -= 1
        return node

    def _factor(self) -> _Node:
        if self.accept("-"):
            return _Negative(self.factor())
        if self.accept("+"):
            return self.factor()
        if self.accept("("):
            node = self.sum()
            if not self.accept(")"):
                raise self.error("')' expected")
            return node
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is None or token.kind == "op":
            raise self.error("a number, a name or '(' expected")
        self.at += 1
        if token.kind == "number":
            return self.number(token)
        if token.text not in self.names:
            raise self.error(
                f"unknown name {token.text!r}: one of {', '.join(self.names)}", token.start
            )
        return _Name(token.text)

    def number(self, token: _Token) -> _Node:
        """Return the node of a number that a float can hold."""
        value = float(token.text)
        if not math.isfinite(value):
            raise self.error(f"{token.text} is too large a number", token.start)
        return _Number(value)
