"""What every package needs and that knows nothing of angiograms: UserError, atomic files, safe HDF5,
command line, progress, log file, Ray, starting Keras. May import: nothing of lib.
"""
