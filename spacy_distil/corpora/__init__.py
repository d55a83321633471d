"""Corpora: texts to learn from, with or without annotation, read as a stream."""
