"""DistilBERT in spaCy, and the distillation of big pipelines into small ones."""

from importlib.metadata import version

__version__ = version("spacy-distil")
