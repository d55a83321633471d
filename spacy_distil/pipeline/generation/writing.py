"""Texts for many sources: batches of like length, encoded and decoded one after the other."""

from __future__ import annotations

from spacy_distil.pipeline.generation.model import Model, get_decoder, get_encoder, shared_words
from spacy_distil.pipeline.generation.search import Rules, Search, find_texts
from spacy_distil.pipeline.generation.sources import Sources
from spacy_distil.pipeline.generation.vocabulary import silent_ids

MAX_ROWS = 512  # texts that are looked at side by side: what one more of them saves becomes little


def write(model: Model, sources: Sources, search: Search) -> list[list[int]]:
    """The pieces of a text for each source, without those that start and end it.

    Batches hold at most the encoder's `max_batch_pieces`, padding included, or a single source.
    """
    encoder, decoder = get_encoder(model), get_decoder(model)
    vocabulary = decoder.vocabulary
    rules = Rules(vocabulary.cls_id, vocabulary.sep_id, tuple(silent_ids(vocabulary)), search.no_repeat)
    plan = decoder.plan(shared_words(model))
    texts: list[list[int]] = [[] for _ in range(len(sources))]
    for numbers in batches(sources.lengths, encoder.options.max_batch_pieces, max(1, MAX_ROWS // search.beams)):
        batch = sources.choose(numbers)
        limits = search.limits(batch.lengths, decoder.longest)
        memory = encoder.predict_sequences(batch.sequences)
        writer = plan.start(memory, batch.lengths, n_beams=search.beams, limit=max(limits))
        for i, ids in zip(numbers, find_texts(writer, limits, rules, search), strict=True):
            texts[i] = ids
    return texts


def batches(lengths: tuple[int, ...], max_pieces: int, max_sources: int) -> list[list[int]]:
    """The numbers of sources in batches of like length.

    max_pieces: of a batch, padded.
    """
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not found or len(found[-1]) == max_sources or lengths[i] * (len(found[-1]) + 1) > max_pieces:
            found.append([])
        found[-1].append(i)
    return found
