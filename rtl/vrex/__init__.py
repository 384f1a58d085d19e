"""V-Rex's retrieval units in Amaranth (arXiv 2512.12284); see docs/vrex-units.md."""
