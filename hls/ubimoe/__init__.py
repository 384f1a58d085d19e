"""UbiMoE in hls; see docs/ubimoe.md."""
