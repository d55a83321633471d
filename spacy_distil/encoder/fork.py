"""Forked processes, as `nlp.pipe(n_process=2)` starts them. Importing this module makes them safe.

A fork copies one thread only. OpenMP, which torch computes with, and the `tokenizers` library would wait in the child
for ever for their other threads (explosion/spaCy#4667). So a child computes on one thread, as torch's data loaders do.
"""

from __future__ import annotations

import os

import torch

TOKENIZERS = "TOKENIZERS_PARALLELISM"


class _Tokenizers:
    """Turns the threads of `tokenizers` off for a fork, unless the user has decided on them: it warns otherwise."""

    was_set = False

    @classmethod
    def before(cls) -> None:
        cls.was_set = TOKENIZERS in os.environ
        os.environ.setdefault(TOKENIZERS, "false")

    @classmethod
    def in_parent(cls) -> None:
        if not cls.was_set:
            os.environ.pop(TOKENIZERS, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_Tokenizers.before,
        after_in_parent=_Tokenizers.in_parent,
        after_in_child=lambda: torch.set_num_threads(1),
    )
