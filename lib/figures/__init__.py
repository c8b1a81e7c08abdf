"""Figures: arrays and numbers in, one picture out. No function takes a network, a data set or an Evaluation.
May import: runtime, images.
"""
