"""headrace: models, search, hardware and proofs for streaming transformer accelerators."""

from typing import Any

__all__ = ["InputError", "__version__"]

from headrace.errors import InputError


def __getattr__(name: str) -> Any:
    # The metadata reader takes longer to import than everything else here together.
    if name == "__version__":
        from importlib.metadata import version

        return version("headrace")
    raise AttributeError(f"module 'headrace' has no attribute {name!r}")
