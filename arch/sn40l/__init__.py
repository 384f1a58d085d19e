"""SN40L: a reconfigurable dataflow unit with three memory tiers (arXiv 2405.07518).

Section, table and figure numbers in this package refer to that paper.
"""
