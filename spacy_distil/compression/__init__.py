"""Smaller models: parts of an encoder removed for good, or weights set to zero. Knows nothing of the command line."""
