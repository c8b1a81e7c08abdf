"""Trained networks as one callable, computed by Keras, onnxruntime or OpenVINO: build, load, save, export,
average. (`models` holds the architectures.)
May import: models, and the packages above it in the list of CONTRIBUTING.md.
"""
