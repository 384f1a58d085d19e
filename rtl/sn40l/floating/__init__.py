"""Floating-point operators: rigid pipelines with any number of registers; docs/sn40l-units.md."""
