"""Hugging Face in and out: models with heads to pipelines, components to folders that transformers loads, and to ONNX.

heads/ has a file for each kind of head; `names` every parameter name of Hugging Face's heads.
"""
