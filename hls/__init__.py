"""Vitis HLS C++ emission and C simulation."""
