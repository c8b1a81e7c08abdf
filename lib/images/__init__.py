"""One image at a time: read (PNG ... DICOM), mask, LabelMe, information banner, field of view, outlines,
preprocessing (grey, CLAHE, gamma). Arrays in, arrays out. May import: runtime, configuration.
"""
