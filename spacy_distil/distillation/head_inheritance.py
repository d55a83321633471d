"""A student's components start from their teacher's: what they have learnt on top of an encoder."""

from __future__ import annotations

from typing import Any

from thinc.api import Model


def inherit_head(student: Any, teacher: Any) -> bool:
    """Overwrite the parameters of a component with those of the teacher's component, where both have the same labels and models
    of the same shapes. The student's encoder then has to learn what they expect of it, and no more. What is torch's, such as
    an encoder inside the component, is left out.

    RETURNS: whether they agreed.
    """
    ours, theirs = _own_nodes(student), _own_nodes(teacher)
    if not ours or _labels(student) != _labels(teacher) or list(map(_shapes, ours)) != list(map(_shapes, theirs)):
        return False
    node: Any
    for node, source in zip(ours, theirs, strict=True):
        for name in source.param_names:
            value: Any = source.ops.to_numpy(source.get_param(name))
            node.set_param(name, node.ops.asarray(value).copy())
    return True


def _own_nodes(pipe: Any) -> list[Model]:
    """The nodes with parameters of thinc."""
    model = getattr(pipe, "model", None)
    return [node for node in model.walk() if node.param_names] if isinstance(model, Model) else []


def _shapes(node: Model) -> dict[str, tuple[int, ...] | None]:
    return {name: node.get_param(name).shape if node.has_param(name) else None for name in node.param_names}


def _labels(pipe: Any) -> tuple[Any, ...]:
    """In the order of the model's outputs."""
    return getattr(pipe, "label_data", None), list(getattr(pipe, "labels", ())), getattr(pipe, "move_names", None)
