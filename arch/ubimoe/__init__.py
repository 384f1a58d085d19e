"""UbiMoE: mixture-of-experts vision transformers (arXiv 2502.05602).

Section, table and equation numbers in this package refer to that paper.
"""
