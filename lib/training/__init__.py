"""From HDF5 files to weights: patches, augmentation, losses, epochs, early stopping, checkpoints.
May import: networks and below; never prediction, evaluation, experiments.
"""
