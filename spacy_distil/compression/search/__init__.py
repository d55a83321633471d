"""Compression to a target: which smaller pipelines are tried, how each is made and measured, and what becomes of it all.

`strategy` chooses shapes, `workshop` makes and measures their pipelines, `report` writes what came of them.
"""
