"""Sequence to sequence: a DistilBERT reads, a small Transformer writes."""
