"""Predictions against truth: the test run, pixel scores, connectivity, calibration, statistics over
patients, reports. May import: every package above it in the list of CONTRIBUTING.md.
"""
