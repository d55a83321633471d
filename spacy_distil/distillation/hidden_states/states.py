"""The hidden states of encoders, a row per token, whichever package they are from, and which of them teaches which.

They are numbered as transformers does it: 0 for the embeddings, i for the output of layer i. A token of several word pieces
has their mean; one without a piece of its own has zeros.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from spacy.pipeline import Tok2Vec
from spacy.tokens import Doc
from spacy.util import logger

from spacy_distil.distillation.errors import DistillationError, TeacherError
from spacy_distil.distillation.lessons import Array
from spacy_distil.pipeline.distilbert import LAYERS_EXTENSION, DistilBert

LayerPairs = list[tuple[int, int]]
LayerChoice = Literal["uniform", "last"] | Sequence[Sequence[int]]


def n_layers(pipe: Any) -> int:
    """The number of an encoder's layers; a `tok2vec` has one.

    RAISES: TeacherError for a component that is no encoder.
    """
    return _find_source(pipe).n_layers


def width(pipe: Any) -> int:
    """The width of an encoder's hidden states."""
    return pipe.model.get_dim("nO")


def pair_layers(student: Any, teacher: Any, choice: LayerChoice) -> LayerPairs:
    """Which layer of the student's encoder learns from which of the teacher's.

    A `tok2vec` gives its output alone: `uniform` is then `last`.

    choice: see `match_layers`.
    RETURNS: pairs of a student's and a teacher's hidden state.
    RAISES: DistillationError for a layer that is not there, TeacherError for a component that is no encoder.
    """
    learning, teaching = _find_source(student), _find_source(teacher)
    if choice == "uniform" and teaching.switch is None and learning.n_layers > 1:
        logger.info("The teacher's '%s' gives its last layer alone: it teaches the student's last.", teacher.name)
        choice = "last"
    pairs = match_layers(learning.n_layers, teaching.n_layers, choice)
    for whose, pipe, source, numbers in (
        ("student", student, learning, {pair[0] for pair in pairs}),
        ("teacher", teacher, teaching, {pair[1] for pair in pairs}),
    ):
        if source.switch is None and numbers != {source.n_layers}:
            raise DistillationError(
                f"layers = {_written(pairs)}: the {whose}'s '{pipe.name}' gives its last layer alone, which is number "
                f'{source.n_layers}. Take that, or "last".'
            )
    return pairs


def match_layers(n_student: int, n_teacher: int, choice: LayerChoice) -> LayerPairs:
    """Which of S layers learns from which of T.

    choice: `uniform`, layer i from layer i T / S, to the nearest; `last`, the last from the last; or pairs of a student's and
        a teacher's layer, 0 for the embeddings.
    RAISES: DistillationError for a layer that is not there.
    """
    if choice == "uniform":
        return [(i, (2 * i * n_teacher + n_student) // (2 * n_student)) for i in range(1, n_student + 1)]
    if choice == "last":
        return [(n_student, n_teacher)]
    pairs = [(student, teacher) for student, teacher in choice]
    for student, teacher in pairs:
        for whose, number, n in (("student", student, n_student), ("teacher", teacher, n_teacher)):
            if not 0 <= number <= n:
                raise DistillationError(
                    f"layers = {_written(pairs)}: the {whose} has no layer {number}. It has 0, the embeddings, to {n}."
                )
    return pairs


@contextmanager
def kept_on_docs(pipe: Any) -> Iterator[None]:
    """Within it the encoder leaves all of its hidden states on the documents that it reads, for `hidden_states` to find, which
    spares a second run. Nothing that is saved changes."""
    switch = _find_source(pipe).switch
    if switch is None:
        yield
        return
    owner, name, value = switch
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def hidden_states(pipe: Any, docs: Sequence[Doc], layers: Sequence[int]) -> list[Array]:
    """An encoder's hidden states, without gradient: from the documents, where it left them within `kept_on_docs`, else it runs.

    docs: documents that all components before the encoder have annotated. They are not changed.
    layers: the numbers of the states.
    RETURNS: for each document (layers, tokens, width) in float32.
    RAISES: TeacherError for a component that is no encoder, or does not give these states.
    """
    source = _find_source(pipe)
    states = [_read(source, pipe, doc, layers) if source.switch is not None else None for doc in docs]
    missing = [i for i, found in enumerate(states) if found is None]
    if missing:
        copies = [docs[i].copy() for i in missing]
        with kept_on_docs(pipe):
            for i, doc in zip(missing, pipe.pipe(copies, batch_size=len(copies)), strict=True):
                states[i] = _read(source, pipe, doc, layers)
    if any(found is None for found in states):
        raise TeacherError(
            f"The component '{pipe.name}' does not give the hidden states {list(layers)}, of {source.n_layers} layers. Let its "
            'last layer teach alone: layers = "last".'
        )
    return [found for found in states if found is not None]


def _read(source: _Source, pipe: Any, doc: Doc, layers: Sequence[int]) -> Array | None:
    return source.read(doc, layers) if len(doc) else pipe.model.ops.alloc3f(len(layers), 0, width(pipe))


def _written(pairs: LayerPairs) -> str:
    return str([list(pair) for pair in pairs])


class _Source(Protocol):
    """An encoder, as the package that it is from has it.

    switch: an attribute, and the value at which the encoder leaves all hidden states on a document. None: it has but the last.
    """

    @property
    def n_layers(self) -> int: ...

    @property
    def switch(self) -> tuple[Any, str, Any] | None: ...

    def read(self, doc: Doc, layers: Sequence[int]) -> Array | None:
        """(layers, tokens, width), as it left them on a document; None where it did not."""


class _Ours:
    """`distilbert`"""

    def __init__(self, pipe: DistilBert) -> None:
        self.n_layers = len(pipe.shim.encoder.config.layers)
        self.switch = (pipe, "keep", "layers")

    def read(self, doc: Doc, layers: Sequence[int]) -> Array | None:
        states = doc._.get(LAYERS_EXTENSION)
        return None if states is None else states[list(layers)]


class _SpaCys:
    """`tok2vec`"""

    n_layers, switch = 1, None

    def read(self, doc: Doc, layers: Sequence[int]) -> Array | None:
        return doc.tensor[None].repeat(len(layers), axis=0) if set(layers) <= {1} else None


class _Transformers:
    """spacy-transformers' `transformer`. A token in the overlap of two spans has the mean over the pieces of both, as its
    listeners take it."""

    def __init__(self, pipe: Any) -> None:
        config = pipe.model.transformer.config
        self._ops = pipe.model.ops
        self.n_layers: int = config.num_hidden_layers
        self.switch = (config, "output_hidden_states", True)

    def read(self, doc: Doc, layers: Sequence[int]) -> Array | None:
        if doc._.trf_data is None:
            return None
        output, align = doc._.trf_data.model_output, doc._.trf_data.align
        states = dict(enumerate(output.get("hidden_states") or ()))
        states[self.n_layers] = output["last_hidden_state"]
        if not set(layers) <= set(states):
            return None
        rows = [states[i].reshape(-1, states[i].shape[-1])[align.dataXd] for i in layers]
        return _mean(self._ops, rows, align.lengths)


class _Curated:
    """spacy-curated-transformers' `curated_transformer`"""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.switch = (pipe, "all_layer_outputs", True)

    @property
    def n_layers(self) -> int:
        with kept_on_docs(self._pipe):
            output = self._pipe.predict([Doc(self._pipe.vocab, words=["a"])])
        return len(output.all_outputs[0]) - 1

    def read(self, doc: Doc, layers: Sequence[int]) -> Array | None:
        output = doc._.trf_data
        if output is None or output.last_layer_only:
            return None
        rows = [output.all_outputs[i] for i in layers]
        return _mean(self._pipe.model.ops, [ragged.dataXd for ragged in rows], rows[0].lengths)


def _mean(ops: Any, pieces: list[Array], lengths: Array) -> Array:
    """Rows of pieces, token after token, to rows of tokens: (layers, tokens, width)."""
    means = ops.alloc3f(len(pieces), len(lengths), pieces[0].shape[-1])
    for mean, rows in zip(means, pieces, strict=True):
        if len(rows):
            mean[:] = ops.reduce_mean(ops.asarray2f(rows), ops.asarray1i(lengths))
    return means


def _find_source(pipe: Any) -> _Source:
    if isinstance(pipe, DistilBert):
        return _Ours(pipe)
    if isinstance(pipe, Tok2Vec):
        return _SpaCys()
    if _is(pipe, "spacy_transformers.pipeline_component", "Transformer"):
        return _Transformers(pipe)
    if _is(pipe, "spacy_curated_transformers.pipeline.transformer", "CuratedTransformer"):
        return _Curated(pipe)
    raise TeacherError(
        f"The component '{pipe.name}' is a {type(pipe).__name__}, which has no hidden states to learn from. Encoders are "
        "distilbert, tok2vec, transformer and curated_transformer."
    )


def _is(pipe: Any, module: str, name: str) -> bool:
    """Whether it is of a class whose package may be missing, and has been imported if it is."""
    found = sys.modules.get(module)
    return found is not None and isinstance(pipe, getattr(found, name))
