"""Timed stream graphs, memory tiers, energy, traces and rooflines."""
