"""Prepare a folder of images as nine HDF5 files: FFA and vessel data sets, split by patient, check for
data leakage, synthetic angiograms. May import: runtime, configuration, images, figures.
"""
