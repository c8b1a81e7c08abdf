"""From a folder of images to the nine HDF5 files: readers of FFA and the vessel sets, patient split,
leakage check, synthetic angiograms. May import: runtime, configuration, images, figures.
"""
