"""V-Rex in sim; see docs/vrex-units.md."""
