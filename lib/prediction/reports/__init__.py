"""Results for other programs and for readers: DICOM objects of an image, an HTML page of a folder."""
