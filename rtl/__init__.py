"""Amaranth components, Verilog emission, netlist mapping and board projects."""
