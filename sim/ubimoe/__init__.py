"""UbiMoE in sim; see docs/ubimoe.md."""
