"""Fixed-point reference kernels of UbiMoE; see docs/ubimoe-numerics.md."""
