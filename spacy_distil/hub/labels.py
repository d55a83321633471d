"""The labels of a classifier, as a Hugging Face config names them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from spacy_distil.errors import CheckpointError

NUMBERED = re.compile(r"LABEL_\d+")


def read_labels(config: Mapping[str, Any], n_rows: int, given: Sequence[str] | None, where: str) -> list[str]:
    """The label of each row of a classifier.

    n_rows: rows of its weights.
    given: names that count in place of the config's.
    where: what to call the checkpoint in an error.
    Raises CheckpointError where labels and rows don't match.
    """
    labels = list(given) if given is not None else _from_config(config, n_rows, where)
    source = "--labels names" if given is not None else "its config.json names"
    if len(labels) != n_rows:
        raise CheckpointError(
            f"{where} has a head of {n_rows} rows, and {source} {len(labels)} labels: {', '.join(labels)}. Name one label a "
            "row, in the order of the rows, by --labels."
        )
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice or not all(labels):
        what = f"the label {twice[0]!r} twice" if twice else "an empty label"
        raise CheckpointError(f"{where}: {source} {what}. Name the rows by --labels, each by a name of its own.")
    return labels


def are_numbers(labels: Sequence[str]) -> bool:
    """Whether these are the names that transformers makes up where there are none."""
    return all(NUMBERED.fullmatch(label) for label in labels)


def warn_of_numbers(labels: Sequence[str], where: str) -> None:
    if are_numbers(labels):
        warnings.warn(
            f"{where} does not say what its labels mean: the pipeline calls them {', '.join(labels)}, as transformers does. "
            f"Name them in this order by --labels, as in --labels {','.join(f'name{i}' for i in range(len(labels)))}.",
            stacklevel=2,
        )


def _from_config(config: Mapping[str, Any], n_rows: int, where: str) -> list[str]:
    id2label = config.get("id2label")
    if not id2label:
        return [f"LABEL_{i}" for i in range(n_rows)]
    try:
        by_number = {int(number): str(label) for number, label in id2label.items()}
    except (AttributeError, ValueError):
        raise CheckpointError(
            f"{where} has id2label = {id2label!r} in its config.json, where an object from numbers to names is expected. Name "
            "the labels by --labels."
        ) from None
    if sorted(by_number) != list(range(len(by_number))):
        raise CheckpointError(
            f"{where} has labels for the rows {sorted(by_number)}, which are not 0 to {len(by_number) - 1}. Name the labels by "
            "--labels."
        )
    return [by_number[i] for i in range(len(by_number))]
