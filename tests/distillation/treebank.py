"""The made-up sentences of `toy`, two to a document, with every annotation that a component of spaCy learns from."""

import random

import numpy
import spacy
from spacy.kb import InMemoryLookupKB
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import fix_random_seed

from .toy import SENTIMENTS, TOPICS, example, sentence

ENCODER = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "pretrained_vectors": None,
    "width": 8,
    "depth": 1,
    "embed_size": 50,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": False,
}
LEMMAS = {"found": "find", "called": "call", "saw": "see"}
KB_WIDTH = 6


def analyse(word: str) -> tuple[str, str, str, str]:
    """Tag, part of speech, features and lemma of a word."""
    if word in LEMMAS:
        return "VBD", "VERB", "Tense=Past", LEMMAS[word]
    if any(word in words for words in TOPICS.values()):
        return "NN", "NOUN", "Number=Sing", word
    if any(word in words for words in SENTIMENTS.values()):
        return "JJ", "ADJ", "Degree=Pos", word
    closed = {"the": ("DT", "DET"), "and": ("CC", "CCONJ"), "in": ("IN", "ADP"), ".": (".", "PUNCT")}
    if word in closed:
        return *closed[word], "", word
    return "NNP", "PROPN", "Number=Sing", word.lower()


def parse(sent: Doc) -> tuple[list[int], list[str]]:
    """Heads and labels of a sentence of `toy`."""
    person, place = sent.ents
    verb, preposition = person.end, place.start - 1
    nouns = [token.i for token in sent if analyse(token.text)[0] == "NN"]
    heads, deps = [verb] * len(sent), ["punct"] * len(sent)
    deps[verb], deps[preposition] = "ROOT", "prep"
    for name, head, dep in ((person, verb, "nsubj"), (place, preposition, "pobj")):
        for i in range(name.start, name.end - 1):
            heads[i], deps[i] = name.end - 1, "compound"
        heads[name.end - 1], deps[name.end - 1] = head, dep
    for noun in nouns:
        heads[noun], deps[noun] = (verb, "dobj") if noun == nouns[0] else (nouns[0], "conj")
        for i, dep in ((noun - 1, "amod"), (noun - 2, "det")):
            heads[i], deps[i] = noun, dep
        if noun != nouns[0]:
            heads[noun - 3], deps[noun - 3] = noun, "cc"
    return heads, deps


def entry(sent: Doc) -> str:
    """Which of the places of one name a sentence is about: there is one for each sentiment."""
    words = {token.text for token in sent}
    return next(f"Q-{name}" for name in SENTIMENTS if words & set(SENTIMENTS[name]))


def paragraph(rng: random.Random, vocab: Vocab) -> Doc:
    words, heads, deps, ents = [], [], [], []
    for sent in (sentence(rng, vocab, "sentiment") for _ in range(2)):
        start = len(words)
        words += [token.text for token in sent]
        sent_heads, sent_deps = parse(sent)
        heads += [start + head for head in sent_heads]
        deps += sent_deps
        for ent in sent.ents:
            kb_id = entry(sent) if ent.label_ == "PLACE" else ""
            ents.append((start + ent.start, start + ent.end, ent.label_, kb_id))
    tags, pos, morphs, lemmas = map(list, zip(*map(analyse, words), strict=True))
    doc = Doc(vocab, words=words, tags=tags, pos=pos, morphs=morphs, lemmas=lemmas, heads=heads, deps=deps)
    doc.ents = [Span(doc, start, end, label, kb_id=kb_id) for start, end, label, kb_id in ents]
    doc.spans["sc"] = [Span(doc, start, end, label) for start, end, label, _ in ents]
    return doc


def paragraphs(n: int, *, seed: int, vocab: Vocab | None = None) -> list[Doc]:
    rng = random.Random(seed)
    vocab = Vocab() if vocab is None else vocab  # an empty one is falsy
    return [paragraph(rng, vocab) for _ in range(n)]


def gold(n: int, *, seed: int, vocab: Vocab | None = None) -> list[Example]:
    """Tokens, and all annotation of them, on one vocabulary."""
    vocab = Vocab() if vocab is None else vocab  # an empty one is falsy
    return [example(doc, vocab) for doc in paragraphs(n, seed=seed, vocab=vocab)]


def bare(n: int, *, seed: int, vocab: Vocab | None = None) -> list[Example]:
    """Tokens, and nothing known of them."""
    return [Example(eg.predicted, eg.predicted.copy()) for eg in gold(n, seed=seed, vocab=vocab)]


def knowledge_base(vocab: Vocab) -> InMemoryLookupKB:
    """Three entries, each of which all places may stand for."""
    kb = InMemoryLookupKB(vocab, entity_vector_length=KB_WIDTH)
    vectors = numpy.random.default_rng(0).normal(size=(len(SENTIMENTS), KB_WIDTH))
    entries = [f"Q-{name}" for name in SENTIMENTS]
    kb.set_entities(entity_list=entries, freq_list=[1] * len(entries), vector_list=vectors.tolist())
    for alias in ("Lyra", "Port Amber", "Kestrel", "Venn Hill"):
        kb.add_alias(alias=alias, entities=entries, probabilities=[0.3] * len(entries))
    return kb


def tagger_model():
    return {"@architectures": "spacy.Tagger.v2", "tok2vec": ENCODER}


def spancat_model(scorer: str):
    reducer = {"@layers": "spacy.mean_max_reducer.v1", "hidden_size": 8}
    return {
        "@architectures": "spacy.SpanCategorizer.v1",
        "scorer": {"@layers": scorer},
        "reducer": reducer,
        "tok2vec": ENCODER,
    }


def transition_model(state_type: str, use_upper: bool):
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": state_type,
        "extra_state_tokens": False,
        "hidden_width": 8,
        "maxout_pieces": 2,
        "use_upper": use_upper,
        "tok2vec": ENCODER,
    }


SUGGESTER = {"@misc": "spacy.ngram_suggester.v1", "sizes": [1, 2]}
CONFIGS = {
    "tagger": {"model": tagger_model()},
    "morphologizer": {"model": tagger_model()},
    "senter": {"model": tagger_model()},
    "trainable_lemmatizer": {"model": tagger_model(), "min_tree_freq": 1},
    "spancat": {"model": spancat_model("spacy.LinearLogistic.v1"), "suggester": SUGGESTER},
    "spancat_singlelabel": {"model": spancat_model("Softmax.v2"), "suggester": SUGGESTER},
    "span_finder": {
        "model": {
            "@architectures": "spacy.SpanFinder.v1",
            "scorer": {"@layers": "spacy.LinearLogistic.v1", "nO": 2},
            "tok2vec": ENCODER,
        }
    },
    "parser": {"model": transition_model("parser", True), "min_action_freq": 1},
    "beam_parser": {"model": transition_model("parser", True), "min_action_freq": 1, "beam_width": 4},
    "ner": {"model": transition_model("ner", True)},
    "beam_ner": {"model": transition_model("ner", True), "beam_width": 4},
    "entity_linker": {"model": {"@architectures": "spacy.EntityLinker.v2", "tok2vec": ENCODER}},
}


def blank_pipeline(factory: str, *, labels=None, seed: int = 0, **config) -> Language:
    """An initialised pipeline of one component, called "head"."""
    fix_random_seed(seed)
    nlp = spacy.blank("xx")
    pipe = nlp.add_pipe(factory, name="head", config={**CONFIGS[factory], **config})
    settings = {} if labels is None else {"labels": labels}
    if factory == "entity_linker":
        settings["kb_loader"] = knowledge_base
    pipe.initialize(lambda: gold(8, seed=0, vocab=nlp.vocab), nlp=nlp, **settings)
    return nlp


def random_pipeline(factory: str, *, seed: int, **settings) -> Language:
    """The same with random weights everywhere, also where spaCy starts from zeros."""
    nlp = blank_pipeline(factory, seed=seed, **settings)
    rng = numpy.random.default_rng(seed)
    for node in nlp.get_pipe("head").model.walk():
        for name in node.param_names:
            if node.has_param(name) is True:
                values = node.get_param(name)
                node.set_param(name, rng.normal(scale=0.4, size=values.shape).astype("f"))
    return nlp
