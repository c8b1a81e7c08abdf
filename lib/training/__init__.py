"""From HDF5 files to weights: patches, augmentation, losses, epochs, early stopping, checkpoints.
May import: networks and the packages above it in the list of CONTRIBUTING.md; not prediction.
"""
