"""Witnesses of one point side by side: reference, RTL, netlist, HLS and models.

Only this package (and the tests) sees both the hardware and the reference it is checked against.
"""
