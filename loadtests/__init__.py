"""The load test. It speaks HTTP and imports neither side of the project."""
