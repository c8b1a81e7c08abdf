"""From an image file to a probability map, a mask and measurements; one file or a whole folder.
Runs without Keras (ONNX). May import: networks and below; never training, evaluation, experiments.
"""
