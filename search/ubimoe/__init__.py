"""UbiMoE in search; see docs/ubimoe.md."""
