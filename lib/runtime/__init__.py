"""Services for all other packages: UserError, atomic files, safe HDF5, command line, progress, log file, Ray,
the start of Keras. May import: no other package of lib.
"""
