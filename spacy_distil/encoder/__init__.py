"""The encoder: torch, thinc and Docs, nothing of pipelines.

Data flows from `checkpoint` (weights, config, tokenizer) into `module` (the network), and from Docs through `pieces`
(packed windows) and `shim` (device, precision, training) into `model` (what spaCy sees).
"""
