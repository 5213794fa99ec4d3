"""What a network is trained for: a loss, the figures, the postprocess."""
