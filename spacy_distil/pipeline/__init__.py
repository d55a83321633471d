"""spaCy components. Each file says first what its component sets on the Doc."""
