"""`spacy-distil.Seq2Seq.v1`: an encoder and a decoder as a thinc model, from pairs of texts to the logits of the second ones'
pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from thinc.api import Model
from thinc.types import Floats2d
from thinc.util import torch2xp, xp2torch
from torch import Tensor

from spacy_distil.encoder.model import get_shim, has_dropout
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import CheckpointError, ComponentError
from spacy_distil.pipeline.generation.initialization import (
    find_decoder,
    keep_decoder_layers,
    make_decoder,
    shape_like,
)
from spacy_distil.pipeline.generation.shim import DecoderOptions, DecoderShim, Texts, read_decoder
from spacy_distil.pipeline.generation.sources import Pairs
from spacy_distil.pipeline.generation.vocabulary import Kind, check_kind, size_of, train_vocabulary

InT = Pairs
OutT = Floats2d


def Seq2Seq(
    encoder: Model,
    n_layers: int = 3,
    width: int | None = None,
    vocabulary: Kind = "bpe",
    vocabulary_size: int = 8000,
    max_length: int = 256,
    dropout: float = 0.1,
    decoder: str | None = None,
    decoder_layers: list[int] | None = None,
    learn_rate_factor: float = 1.0,
) -> Model[InT, OutT]:
    """A Transformer that reads a text and writes another: `Pairs` to the logits (rows, vocabulary) of each target's pieces and
    of the piece that ends it.

    The decoder's layers are the encoder's with attention to the source; they start from the encoder's weights where shapes
    allow, and its word vectors from those of the source pieces that spell a target piece.

    encoder: a `spacy-distil.DistilBert.v1` of the component's own. Its precision and `max_batch_pieces` are the decoder's too.
    n_layers: layers of the decoder.
    width: of the decoder; None: the encoder's.
    vocabulary: pieces that are written: `bpe` or `wordpiece`, trained on the references by `initialize`, or `source`, the
        encoder's own, whose word vectors the decoder then shares.
    vocabulary_size: pieces of a trained vocabulary.
    max_length: the most pieces that can be written, and learnt, the end included.
    dropout: of the decoder.
    decoder: folder of a saved pipeline, or of its component, whose decoder and vocabulary this one starts from; `n_layers` to
        `dropout` are then its own but for the dropout. None: a fresh one.
    decoder_layers: the layers of that decoder to keep, counted from 0; None: all.
    learn_rate_factor: the decoder learns at so many times the optimiser's rate: fresh weights need more than an encoder bears.
    """
    check_kind(vocabulary)
    for name, value in (("n_layers", n_layers), ("vocabulary_size", vocabulary_size), ("max_length", max_length)):
        if value < 1:
            raise ComponentError(f"{name} = {value} has to be at least 1.")
    options = DecoderOptions(
        n_layers=n_layers,
        width=width,
        vocabulary=vocabulary,
        vocabulary_size=vocabulary_size,
        max_length=max_length,
        dropout=dropout,
        decoder=decoder,
        decoder_layers=None if decoder_layers is None else tuple(decoder_layers),
        learn_rate_factor=learn_rate_factor,
        precision=get_shim(encoder).options.precision,
    )
    return Model(
        "seq2seq",
        forward,
        layers=[encoder],
        shims=[DecoderShim(options)],
        attrs={"dropout_rate": 0.0},
    )


def get_encoder(model: Model) -> DistilBertShim:
    return get_shim(model.layers[0])  # thinc's copies lose references


def get_decoder(model: Model) -> DecoderShim:
    """The decoder of a `spacy-distil.Seq2Seq.v1` model. Raises ComponentError for another model."""
    shim = model.shims[0] if model.shims else None
    if not isinstance(shim, DecoderShim):
        raise ComponentError(
            f"The component 'distilbert_seq2seq' needs a model of the architecture spacy-distil.Seq2Seq.v1, not {model.name!r}."
        )
    return shim


def initialize(model: Model[InT, OutT], references: Callable[[], Iterable[str]]) -> None:
    """Give encoder and decoder their weights, unless they have some already.

    references: gives the texts to train the target vocabulary on.
    """
    encoder, decoder = get_encoder(model), get_decoder(model)
    model.layers[0].initialize()
    if decoder.has_weights:
        return
    options = decoder.options
    if options.decoder is not None:
        made, vocabulary, _ = read_decoder(find_decoder(options.decoder))
        if made.config.memory_width != encoder.encoder.config.width:
            raise CheckpointError(
                f"The decoder of {options.decoder!r} reads an encoder {made.config.memory_width} wide, and this one is "
                f"{encoder.encoder.config.width} wide."
            )
        if options.decoder_layers is not None:
            made = keep_decoder_layers(made, options.decoder_layers)
        decoder.adopt(made, vocabulary)
        return
    vocabulary = make_vocabulary(encoder.tokenizer, options, references)
    config = shape_like(
        encoder.encoder,
        vocab_size=None if options.vocabulary == "source" else size_of(vocabulary),
        width=options.width,
        n_layers=options.n_layers,
        max_length=options.max_length,
        dropout=options.dropout,
    )
    decoder.adopt(make_decoder(config, encoder.encoder, encoder.tokenizer, vocabulary), vocabulary)


def make_vocabulary(
    source: PieceTokenizer, options: DecoderOptions, references: Callable[[], Iterable[str]]
) -> PieceTokenizer:
    if options.vocabulary == "source":
        return source
    return train_vocabulary(
        references(), kind=options.vocabulary, size=options.vocabulary_size, max_length=options.max_length
    )


def shared_words(model: Model[InT, OutT]) -> Tensor | None:
    """(vocabulary, width), the encoder's word vectors where the decoder shares them."""
    if get_decoder(model).decoder.config.shared:
        return get_encoder(model).encoder.embeddings.word_embeddings.weight
    return None


def forward(model: Model[InT, OutT], pairs: InT, is_train: bool) -> tuple[OutT, Callable[[OutT], Any]]:
    encoder, decoder = get_encoder(model), get_decoder(model)
    sequences, inputs = pairs.sources.sequences, pairs.inputs(decoder.vocabulary.cls_id)
    if not is_train:
        memory = encoder.predict_sequences(sequences)
        logits = decoder.predict(Texts(inputs, memory, pairs.sources.lengths, shared_words(model)))
        return cast(Floats2d, torch2xp(logits)), lambda d_logits: []
    dropout = has_dropout(model)
    memory, backprop_encoder = encoder.begin_update_sequences(sequences, dropout=dropout)
    texts = Texts(inputs, memory, pairs.sources.lengths, shared_words(model))
    logits, backprop_decoder = decoder.begin_update(texts, dropout=dropout)

    def backprop(d_logits: OutT) -> list[Any]:
        backprop_encoder(backprop_decoder(xp2torch(d_logits, device=decoder.device)))
        return []

    return cast(Floats2d, torch2xp(logits)), backprop
