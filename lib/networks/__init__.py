"""A network as one callable, whatever computes it: build, load, save, export, ensemble.
(`models` holds architectures without weights.) May import: models and all packages named above.
"""
