"""Plain arrays and numbers in, one PNG out. Knows no network, no data set, no Evaluation.
May import: runtime, images.
"""
