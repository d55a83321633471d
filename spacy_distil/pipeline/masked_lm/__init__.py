"""The component `distilbert_mlm`: which word stands behind a `[MASK]`, and the task on which encoders are pre-trained."""
