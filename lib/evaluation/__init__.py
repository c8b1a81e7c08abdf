"""Predictions against truth: the test run, pixel scores, connectivity, calibration, statistics over
patients, reports. May import: training, prediction and below; never experiments.
"""
