"""The web page: upload angiograms, view and measure non-perfusion, download the results."""
