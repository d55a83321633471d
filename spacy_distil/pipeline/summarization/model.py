"""`spacy-distil.SentenceSalience.v1`: a score for each sentence, from its tokens, its document and its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spacy.tokens import Doc
from thinc.api import Dropout, Linear, Model, Ops, Relu, chain, list2ragged, with_getitem
from thinc.layers.chain import init as init_chain
from thinc.types import Floats2d, Ints1d, Ragged

InT = tuple[list[Doc], Ragged]
OutT = Floats2d
N_FIRST, N_LAST = 8, 4
"""Places from a document's start and from its end that are told apart."""


def SentenceSalience(
    tok2vec: Model[list[Doc], list[Floats2d]], hidden_width: int = 128, dropout: float = 0.2
) -> Model[InT, OutT]:
    """A logit for each sentence. Takes Docs, and the sentences of each: (sentences, 2), the first token and the one behind
    the last; gives (sentences of all Docs, 1).

    A sentence is the mean of its tokens' vectors and the vector of its first token, beside the mean of its document's sentences
    and its place, counted from start and end. One hidden layer makes the score of that. Its neighbours' vectors beside it made
    summaries worse: the encoder has seen them already.

    tok2vec: `spacy-distil.DistilBertListener.v1` for the pipeline's shared encoder, or `spacy-distil.DistilBert.v1` for one of
        its own.
    hidden_width: of the hidden layer.
    dropout: before the output.
    """
    hidden: Model[Floats2d, Floats2d] = Relu(nO=hidden_width)
    output: Model[Floats2d, Floats2d] = Linear(nO=1)
    tokens = with_getitem(0, chain(tok2vec, list2ragged()))
    scorer: Model[Floats2d, Floats2d] = chain(hidden, Dropout(dropout), output)
    model: Model[InT, OutT] = chain(tokens, pool_sentences(), in_document(), scorer)
    model.set_ref("tok2vec", tok2vec)
    model.set_ref("hidden", hidden)
    model.set_ref("output_layer", output)
    model.init = init
    return model


def init(model: Model[InT, OutT], X: InT | None = None, Y: OutT | None = None) -> None:
    # The encoder knows its width only once it has its weights.
    tok2vec, hidden = model.get_ref("tok2vec"), model.get_ref("hidden")
    tok2vec.initialize(X=None if X is None else X[0])
    hidden.set_dim("nI", 4 * tok2vec.get_dim("nO") + N_FIRST + N_LAST)
    init_chain(model, X, Y)


def pool_sentences() -> Model[tuple[Ragged, Ragged], Ragged]:
    """The mean of each sentence's tokens beside its first token. Takes the tokens' vectors, (tokens, width), and the sentences
    of each Doc; gives (sentences, 2 width), as many a Doc as it has."""
    return Model("pool_sentences", _pool_sentences)


def _pool_sentences(
    model: Model, X: tuple[Ragged, Ragged], is_train: bool
) -> tuple[Ragged, Callable[[Ragged], tuple[Ragged, Ragged]]]:
    tokens, sentences = X
    vectors: Any = tokens.dataXd
    spans: Any = sentences.dataXd
    ops, xp, width = model.ops, model.ops.xp, vectors.shape[1]
    before = xp.repeat(tokens.lengths.cumsum() - tokens.lengths, sentences.lengths.tolist())
    first, end = spans[:, 0] + before, spans[:, 1] + before
    lengths = ops.asarray1i(end - first)
    ends = lengths.cumsum()
    rows = xp.arange(int(lengths.sum())) + xp.repeat(first - ends + lengths, lengths.tolist())
    pooled = xp.concatenate([ops.reduce_mean(vectors[rows], lengths), vectors[first]], axis=1)

    def backprop(d_pooled: Ragged) -> tuple[Ragged, Ragged]:
        d_mean, d_first = xp.split(d_pooled.dataXd, [width], axis=1)
        d_tokens = ops.alloc2f(*vectors.shape)
        ops.scatter_add(d_tokens, rows, ops.backprop_reduce_mean(ops.as_contig(d_mean), lengths))
        d_tokens[first] += d_first  # no token is the first of two sentences
        return Ragged(d_tokens, tokens.lengths), sentences

    return Ragged(pooled, sentences.lengths), backprop


def in_document() -> Model[Ragged, Floats2d]:
    """Each sentence in its document. Takes (sentences, width), as many a Doc as it has; gives the sentence, the mean of its
    document's, and its place: (sentences, 2 width + N_FIRST + N_LAST)."""
    return Model("in_document", _in_document)


def _in_document(model: Model, X: Ragged, is_train: bool) -> tuple[Floats2d, Callable[[Floats2d], Ragged]]:
    ops, xp, lengths = model.ops, model.ops.xp, X.lengths
    rows: Any = X.dataXd
    width = rows.shape[1]
    means = xp.repeat(ops.reduce_mean(rows, lengths), lengths.tolist(), axis=0)

    def backprop(d_Y: Floats2d) -> Ragged:
        d_rows, d_means, _ = xp.split(d_Y, [width, 2 * width], axis=1)
        d_sums = ops.reduce_sum(ops.as_contig(d_means), lengths)
        return Ragged(d_rows + ops.backprop_reduce_mean(d_sums, lengths), lengths)

    return xp.concatenate([rows, means, places(ops, lengths)], axis=1), backprop


def places(ops: Ops, lengths: Ints1d) -> Floats2d:
    """Which sentence of its document each is, from the start and from the end: (sentences, N_FIRST + N_LAST), zeros and two
    ones. The last place of each kind stands for all that are farther away.

    lengths: (docs,), the sentences of each.
    """
    xp, counts = ops.xp, lengths.tolist()
    rows = xp.arange(sum(counts))
    ends = xp.repeat(lengths.cumsum(), counts)
    starts = ends - xp.repeat(lengths, counts)
    one_hot = ops.alloc2f(len(rows), N_FIRST + N_LAST)
    one_hot[rows, xp.minimum(rows - starts, N_FIRST - 1)] = 1.0
    one_hot[rows, N_FIRST + xp.minimum(ends - 1 - rows, N_LAST - 1)] = 1.0
    return one_hot
