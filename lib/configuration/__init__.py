"""configuration.txt as validated, frozen dataclasses; the names of all files of an experiment.
May import: runtime; from models the names of the architectures only. Starts no Keras. Only folder_lock.py
needs an installed package, so that the scripts can report a missing one.
"""
