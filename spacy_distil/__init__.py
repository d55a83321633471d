"""DistilBERT in spaCy, and the distillation of big pipelines into small ones."""
