"""SN40L in sim; see docs/sn40l-compiler.md."""
