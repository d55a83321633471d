"""Weights set to zero: which, how many, when, and that they stay so. Shapes stay as they are."""
