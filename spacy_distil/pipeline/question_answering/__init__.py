"""The component `distilbert_qa`: questions about a Doc, and the span of it that answers each."""
