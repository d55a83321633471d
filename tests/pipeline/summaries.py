"""Made-up reports of which a sentence with the word "result" is the gist, and a tiny pipeline that summarises them."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import numpy
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import fix_random_seed

from spacy_distil.pipeline.references import register_references

ENCODER = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 16,
    "depth": 1,
    "embed_size": 100,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": False,
}
MODEL = {"@architectures": "spacy-distil.SentenceSalience.v1", "hidden_width": 8, "dropout": 0.0, "tok2vec": ENCODER}
FILLERS = ["We walked home .", "It rained all day , again .", "The old cat slept .", "Nobody called ."]
GISTS = ["The result is {} .", "As a result {} wins ."]


def report(rng: random.Random, vocab: Vocab) -> tuple[Doc, int]:
    """Three to five sentences, with their boundaries, and the number of the one that matters."""
    sentences = rng.choices(FILLERS, k=rng.randint(2, 4))
    place = rng.randint(0, len(sentences))
    sentences.insert(place, rng.choice(GISTS).format(rng.choice(["red", "blue", "green"])))
    words = [sentence.split() for sentence in sentences]
    starts = [i == 0 for sentence in words for i in range(len(sentence))]
    return Doc(vocab, words=list(chain(*words)), sent_starts=starts), place


def reports(n: int, *, vocab: Vocab, seed: int = 0, annotate: str = "summaries") -> list[Example]:
    """annotate: `summaries`, `salient`, or nothing."""
    register_references()
    rng = random.Random(seed)
    examples = []
    for reference, place in (report(rng, vocab) for _ in range(n)):
        predicted = reference.copy()
        if annotate == "summaries":
            reference._.summaries = [list(reference.sents)[place].text]
        if annotate == "salient":
            reference._.salient = [place]
        examples.append(Example(predicted, reference))
    return examples


def build(*, seed: int = 0, **config: Any) -> Language:
    """An initialised pipeline of a `distilbert_summarizer` with an encoder of its own, called "head"."""
    fix_random_seed(seed)
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert_summarizer", name="head", config={"model": MODEL, "max_sentences": 1, **config})
    nlp.initialize(lambda: reports(5, vocab=nlp.vocab))
    return nlp


def build_random(*, seed: int) -> Language:
    """The same with large random weights everywhere."""
    nlp = build(seed=seed)
    rng = numpy.random.default_rng(seed)
    for node in nlp.get_pipe("head").model.walk():
        for name in node.param_names:
            if node.has_param(name) is True:
                values = node.get_param(name)
                node.set_param(name, rng.normal(scale=0.4, size=values.shape).astype("f"))
    return nlp
