"""UbiMoE in rtl; see docs/ubimoe.md."""
