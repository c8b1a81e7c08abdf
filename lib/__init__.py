"""Everything between an image file and a figure; `models` holds the networks."""
