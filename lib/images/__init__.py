"""One image: read it (PNG to DICOM), its mask, LabelMe polygons, information banner, field of view, outlines
and preprocessing. Functions take and return arrays. May import: runtime, configuration.
"""
