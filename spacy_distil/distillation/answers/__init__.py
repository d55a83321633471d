"""The teachers' answers on disk. Knows arrays, keys and files, nothing of spaCy."""

from spacy_distil.distillation.answers.store import AnswerStore, Space

__all__ = ["AnswerStore", "Space"]
