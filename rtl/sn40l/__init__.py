"""Units of the SN40L reconfigurable dataflow unit in Amaranth; see docs/sn40l-units.md."""
