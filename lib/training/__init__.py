"""From HDF5 files to weights: patches, augmentation, losses, epochs, early stopping, checkpoints.
May import: networks and the packages below it; not prediction, evaluation, experiments.
"""
