"""The encoders inside a component."""

from __future__ import annotations

from typing import Any

from thinc.api import Model

from spacy_distil.encoder.shim import DistilBertShim


def encoders_of(pipe: Any) -> list[DistilBertShim]:
    """The encoders in a component's model; a listener has none."""
    model = getattr(pipe, "model", None)
    nodes = model.walk() if isinstance(model, Model) else ()
    return [shim for node in nodes for shim in node.shims if isinstance(shim, DistilBertShim)]
