"""The error of compression: it says what was wrong, which value, and what to do."""


class CompressionError(ValueError):
    """A pipeline that can't be made smaller as it was asked for."""
