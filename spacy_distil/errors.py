"""The errors that users meet: each says what was wrong, which value, and what to do."""


class CheckpointError(ValueError):
    """Weights, a config or a tokenizer that can't be used."""


class EncoderError(ValueError):
    """An encoder asked for what it can't do: it has no weights yet, its width does not match, …"""


class CorpusError(ValueError):
    """Texts that can't be read: a file that is not there, damaged, cut off, or without a text."""
