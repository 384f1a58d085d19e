"""Typed access to a config: every refusal names file, key, value and range, on one line."""

import math
from collections.abc import Mapping
from typing import Any

from headrace.errors import InputError

__all__ = ["ConfigKeys"]

_LIMITS: dict[str, tuple[int, int]] = {
    "hidden_size": (1, 65_536),
    "intermediate_size": (1, 1_048_576),
    "num_hidden_layers": (1, 1_024),
    "num_attention_heads": (1, 1_024),
    "num_key_value_heads": (1, 1_024),
    "num_ln_in_parallel_attn": (1, 2),
    "head_dim": (1, 4_096),
    "vocab_size": (1, 10_000_000),
    "max_position_embeddings": (1, 16_777_216),
    "sliding_window": (1, 16_777_216),
    "image_size": (1, 16_384),
    "patch_size": (1, 1_024),
    "num_channels": (1, 1_024),
    "num_labels": (0, 1_000_000),
    "num_experts": (0, 4_096),
    "num_experts_per_tok": (1, 4_096),
    "moe_intermediate_size": (1, 1_048_576),
    "decoder_sparse_step": (1, 1_024),
    "num_tasks": (1, 1_024),
}


class ConfigKeys:
    """The keys of one config.

    Parameters
    ----------
    raw : Mapping
        Content of the config.
    where : str
        File name for messages.
    other_names : Mapping, optional
        Names of a family's own, by the common name of the key. Where a config has both, the
        common one counts.
    """

    def __init__(
        self, raw: Mapping[str, Any], where: str, other_names: Mapping[str, str] | None = None
    ) -> None:
        self.raw = raw
        self.where = where
        self._other_names = other_names or {}

    def found(self, key: str) -> tuple[str, Any]:
        """Return the name under which the config has a key, and its value or None."""
        if self.raw.get(key) is None and key in self._other_names:
            key = self._other_names[key]
        return key, self.raw.get(key)

    def refuse(self, key: str, value: object, needed: str) -> InputError:
        """Return the error for a value, under the key's name in this config."""
        shown = repr(value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return InputError(f"{self.where}: {self.found(key)[0]} = {shown}; {needed}")

    def integer(self, key: str, default: int | None = None) -> int:
        """Read an integer in the range of its key; without a default it must be there."""
        low, high = _LIMITS[key]
        name, value = self.found(key)
        if value is None:
            if default is None:
                raise InputError(
                    f"{self.where}: key {name} is missing; an integer from {low} to {high} is "
                    "needed"
                )
            return default
        # JSON's true is Python's bool, which is an int
        if type(value) is not int or not low <= value <= high:
            raise self.refuse(key, value, f"an integer from {low} to {high} is needed")
        return value

    def sides(self, key: str) -> tuple[int, int]:
        """Read height and width: a pair, or one integer for both."""
        value = self.found(key)[1]
        if not isinstance(value, list):
            side = self.integer(key)
            return side, side
        low, high = _LIMITS[key]
        if len(value) != 2 or any(type(v) is not int or not low <= v <= high for v in value):
            raise self.refuse(key, value, f"one or two integers from {low} to {high} are needed")
        return value[0], value[1]

    def real(self, key: str, low: float, high: float, default: float) -> float:
        """Read a number from `low` to `high`."""
        value = self.found(key)[1]
        if value is None:
            return default
        needed = f"a number from {low:g} to {high:g} is needed"
        if type(value) not in (int, float):
            raise self.refuse(key, value, needed)
        if not low <= value <= high or not math.isfinite(value):
            raise self.refuse(key, value, needed)
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """Read true or false."""
        value = self.found(key)[1]
        if value is None:
            return default
        if type(value) is not bool:
            raise self.refuse(key, value, "true or false is needed")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """Read one of the allowed names."""
        value = self.found(key)[1]
        if value is None:
            return default
        if type(value) is not str or value not in allowed:
            raise self.refuse(key, value, f"one of {', '.join(allowed)} is needed")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Read an object; empty if it is not there."""
        value = self.found(key)[1]
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(key, value, "an object is needed")
        return value

    def summary(self, default: str) -> str:
        """Read the line for listings."""
        value = self.raw.get("headrace_summary", default)
        return value if isinstance(value, str) and value.isprintable() else default
