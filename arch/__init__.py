"""Devices, memory tiers, resources and the parameters of the designs."""
