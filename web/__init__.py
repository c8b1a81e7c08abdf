"""The web page: upload angiograms, see and measure non-perfusion, take files home."""
