"""Extractive summaries: sentences that are scored, chosen and compared with references."""
