"""From an image file to a probability map, a mask and measurements, for one file or many. Runs without Keras
(ONNX). May import: networks and the packages above it in the list of CONTRIBUTING.md; not training.
"""
