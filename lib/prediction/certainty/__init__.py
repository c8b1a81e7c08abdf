"""How far to trust a prediction: disagreement of its views, image quality, what to correct first."""
