"""headrace: models, search, hardware and proofs for streaming transformer accelerators."""

from importlib.metadata import version

__all__ = ["__version__"]
__version__ = version("headrace")
