"""Registered adder trees: where their registers are."""

__all__ = ["TREE_LEVELS_PER_STAGE"]

TREE_LEVELS_PER_STAGE = 2
"""Adder levels between registers."""
