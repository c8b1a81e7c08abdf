"""From an image file to a probability map, a mask and measurements, for one file or many. Runs without Keras
(ONNX). May import: networks and below; never training, evaluation, experiments.
"""
