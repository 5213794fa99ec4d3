"""Other ways to serve the same graph."""
