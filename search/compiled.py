"""Compile functions of other layers with numba as they stand.

The simulator calls plain Python functions of plain numbers. The search needs the same formulas
in machine code; `compiled` makes that of the very same source, and of everything it calls.
"""

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from numba import njit

__all__ = ["compiled", "stamp"]


@cache
def compiled(function: Callable[..., Any]) -> Any:
    """Return `function` compiled with numba; Python functions it calls are compiled too.

    Parameters
    ----------
    function : callable
        A plain function of numbers. Functions are inlined by the compiler as it sees fit, so a
        call costs nothing.
    """
    assert isinstance(function, FunctionType)
    known = {
        name: compiled(value)
        if isinstance(value := function.__globals__.get(name), FunctionType)
        else value
        for name in function.__code__.co_names
        if name in function.__globals__
    }
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **known},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return njit(copy, error_model="numpy")


def stamp(*functions: Callable[..., Any]) -> int:
    """Return a number that changes when the source of `functions`, or of their modules, does.

    Numba's cache on disk looks only at the file of the function that is cached. A cached function
    that closes over this number is compiled again when a formula elsewhere changes.
    """
    modules = {inspect.getmodule(function) for function in functions}
    sources = sorted(inspect.getsource(module) for module in modules if module is not None)
    return int.from_bytes(hashlib.sha256("\0".join(sources).encode()).digest()[:7], "big")
