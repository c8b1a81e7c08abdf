"""Measures beside the scores of pixels: boundaries, single areas, ischaemic index, presence in an image.

Chosen as in Metrics Reloaded (Maier-Hein et al., Nature Methods 21, 2024). docs/reference/scores.md has the
definitions.
"""
