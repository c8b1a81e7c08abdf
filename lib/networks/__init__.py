"""A network as one callable, whatever library computes it: build, load, save, export, ensemble.
`models` has the architectures, without weights. May import: models, datasets and the packages below it.
"""
