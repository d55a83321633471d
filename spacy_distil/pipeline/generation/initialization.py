"""What a decoder starts from: the encoder's layers, or another decoder's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from spacy_distil.encoder.config import choose_layers
from spacy_distil.encoder.module import DistilBertEncoder
from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import CheckpointError, ComponentError
from spacy_distil.pipeline.generation.config import DecoderConfig
from spacy_distil.pipeline.generation.module import Decoder

WEIGHTS = "decoder.safetensors"
STANDARD_DEVIATION = 0.02  # of BERT's fresh weights


def shape_like(
    encoder: DistilBertEncoder,
    *,
    vocab_size: int | None,
    width: int | None,
    n_layers: int,
    max_length: int,
    dropout: float,
) -> DecoderConfig:
    """The shape of a decoder whose layers fit the encoder's.

    vocab_size: None is the encoder's vocabulary, whose vectors are shared where they are as wide.
    width: None is the encoder's.
    """
    config = encoder.config
    width = config.width if width is None else width
    if width % config.head_width:
        raise ComponentError(
            f"width = {width} is no multiple of the encoder's width of an attention head, {config.head_width}."
        )
    return DecoderConfig(
        vocab_size=config.vocab_size if vocab_size is None else vocab_size,
        shared=vocab_size is None and width == config.width,
        width=width,
        memory_width=config.width,
        n_layers=n_layers,
        n_heads=width // config.head_width,
        ffn_width=width * config.layers[0].ffn_width // config.width,
        max_positions=max_length,
        activation=config.activation,
        dropout=dropout,
        attention_dropout=config.attention_dropout,
        layer_norm_eps=config.layer_norm_eps,
    )


@torch.no_grad()
def make_decoder(
    config: DecoderConfig, encoder: DistilBertEncoder, source: PieceTokenizer, target: PieceTokenizer
) -> Decoder:
    """A fresh decoder that starts from the encoder wherever shapes allow.

    Its layers are the encoder's, evenly chosen, those on the source start as those on the text itself; positions are the
    encoder's; and the vector of a target piece is the mean of the vectors of the source pieces that spell it.
    """
    decoder = Decoder(config)
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=STANDARD_DEVIATION)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    chosen = choose_layers(len(encoder.layers), min(config.n_layers, len(encoder.layers)))
    for layer, i in zip(decoder.layers, chosen, strict=False):
        given = encoder.layers[i]
        _copy_where_alike(given, layer)
        _copy_where_alike(given.attention, layer.cross_attention)
        _copy_where_alike(given.sa_layer_norm, layer.ca_layer_norm)
    if config.width == encoder.config.width:
        positions = encoder.embeddings.position_embeddings.weight
        n = min(len(positions), config.max_positions)
        decoder.embeddings.position_embeddings.weight[:n] = positions[:n]
        _copy_where_alike(encoder.embeddings.LayerNorm, decoder.embeddings.LayerNorm)
        if not config.shared:
            _spell(decoder, encoder, source, target)
    return decoder


def _copy_where_alike(source: nn.Module, target: nn.Module) -> None:
    given = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        if name in given and given[name].shape == parameter.shape:
            parameter.copy_(given[name])


def _spell(decoder: Decoder, encoder: DistilBertEncoder, source: PieceTokenizer, target: PieceTokenizer) -> None:
    words: Tensor = encoder.embeddings.word_embeddings.weight
    vectors = decoder.embeddings.word_embeddings.weight
    pieces = sorted(target.tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    texts = [piece.removeprefix("##").replace("▁", " ").strip() for piece, _ in pieces]
    for (_, i), spelling in zip(pieces, source.encode(texts), strict=True):
        ids = [j for j in spelling.ids if j != source.unk_id]
        if ids:
            vectors[i] = words[ids].mean(0)


def keep_decoder_layers(decoder: Decoder, layers: Sequence[int]) -> Decoder:
    """A decoder of some of the layers of another one, which shares no memory with it.

    RAISES: CheckpointError for a layer that is not there.
    """
    wrong = [i for i in layers if not 0 <= i < decoder.config.n_layers]
    if wrong or not layers:
        raise CheckpointError(
            f"`decoder_layers` = {list(layers)} asks for {f'layer {wrong[0]}' if wrong else 'no layer'}, and the decoder has "
            f"the layers 0 to {decoder.config.n_layers - 1}."
        )
    kept = Decoder(replace(decoder.config, n_layers=len(layers)))
    weights = {name: value for name, value in decoder.state_dict().items() if not name.startswith("layer.")}
    for new, old in enumerate(layers):
        weights |= {f"layer.{new}.{name}": value for name, value in decoder.layers[old].state_dict().items()}
    kept.load_state_dict(weights)
    return kept


def find_decoder(name: str) -> Path:
    """The weights of a saved decoder: of a component's folder, or of the only one in a saved pipeline."""
    folder = Path(name).expanduser()
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    found = sorted(folder.glob(f"*/{WEIGHTS}"))
    if len(found) != 1:
        names = ", ".join(repr(path.parent.name) for path in found)
        raise CheckpointError(
            f"{name!r} is no folder of a saved component `distilbert_seq2seq` or of a pipeline with one"
            + (f": it has several, {names}. Name the folder of one." if found else ".")
        )
    return found[0]
