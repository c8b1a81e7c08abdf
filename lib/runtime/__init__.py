"""General code that every package uses: UserError, atomic files, safe HDF5, command line, progress,
log file, Ray, starting Keras. May import: nothing of lib.
"""
