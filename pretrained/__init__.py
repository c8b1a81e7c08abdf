"""Trained networks that this repository ships, each in a folder of its own."""
