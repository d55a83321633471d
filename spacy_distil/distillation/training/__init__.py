"""The loop of `distil train`: spaCy's own, which a crash can't undo."""
