"""The component `distilbert_summarizer`: what it sets, on which Docs, and how it learns."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from thinc.api import Adam

from spacy_distil.errors import ComponentError, CorpusError
from spacy_distil.pipeline.summarization.rouge import find_references

from .conftest import Build
from .summaries import MODEL, build, build_random, report, reports

TEXT = "The film was great. A bad actor watched the end. It was a wonderful story!"


@pytest.fixture
def nlp() -> Language:
    return build_random(seed=1)


@pytest.fixture
def doc(nlp: Language) -> Doc:
    words = TEXT.replace(".", " .").replace("!", " !").split()
    return nlp(Doc(nlp.vocab, words=words, sent_starts=[True, *(word in ".!" for word in words[:-1])]))


def texts(spans: Any) -> list[str]:
    return [span.text for span in spans]


def saliences(doc: Doc) -> list[float]:
    return [sentence._.salience for sentence in doc.sents] if len(doc) else []


# What it sets


def test_every_sentence_has_a_probability_and_the_summary_is_the_most_salient(doc: Doc) -> None:
    assert len(saliences(doc)) == 3
    assert len(set(saliences(doc))) == 3
    assert all(0 < salience < 1 for salience in saliences(doc))
    assert doc._.summary == [max(doc.sents, key=lambda sentence: sentence._.salience)]


def test_a_doc_that_it_has_not_read_has_no_summary(doc: Doc) -> None:
    bare = Doc(doc.vocab, words=["One", "."], sent_starts=[True, False])
    assert bare._.summary is None
    assert saliences(bare) == [None]


@pytest.mark.parametrize("words", [[], ["\n\n"], [" ", "\n"], ["Word"], ["☃"], ["."]])
def test_docs_of_hardly_anything_are_fine_alone_and_among_others(nlp: Language, words: list[str]) -> None:
    odd = [Doc(nlp.vocab, words=words, sent_starts=[i == 0 for i in range(len(words))]) for _ in range(2)]
    alone, full = nlp(odd[0]), report(random.Random(0), nlp.vocab)[0]
    beside, _ = nlp.pipe([odd[1], full])
    for each in (alone, beside):
        assert isinstance(each._.summary, list)
        assert None not in saliences(each)
        assert texts(each._.summary) == ([] if each.text.isspace() or not words else words)


def test_a_sentence_of_white_space_is_never_chosen_and_takes_no_place(nlp: Language) -> None:
    words, starts = ["One", ".", "\n", "\n", "Two", "more", "."], [True, False, True, False, True, False, False]
    doc = nlp(Doc(nlp.vocab, words=words, sent_starts=starts))
    assert saliences(doc)[1] == 0.0
    assert all(salience > 0 for salience in saliences(doc)[::2])
    chosen = nlp.get_pipe("head").summarize(doc, max_sentences=3)
    assert texts(chosen) == ["One . ", "Two more . "] or [span.text.strip() for span in chosen] == [
        "One .",
        "Two more .",
    ]


def test_no_docs_are_fine(nlp: Language) -> None:
    assert nlp.get_pipe("head").predict([]) == []
    assert list(nlp.pipe([])) == []


def test_docs_together_are_scored_as_each_alone(nlp: Language) -> None:
    docs = [example.predicted for example in reports(9, vocab=nlp.vocab)]
    together = [saliences(doc) for doc in nlp.pipe([doc.copy() for doc in docs], batch_size=4)]
    for doc, expected in zip(docs, together, strict=True):
        numpy.testing.assert_allclose(saliences(nlp(doc)), expected, atol=1e-6)


# Whose sentences


def hooked(doc: Doc) -> Doc:
    """Sentences from elsewhere, which leave out a part of the Doc."""
    doc.user_hooks["sents"] = lambda doc: [doc[0:4], doc[7:9]]
    return doc


@pytest.mark.parametrize("finder", ["sentencizer", "senter", "parser", "hook", "hand"])
def test_any_sentences_will_do(finder: str) -> None:
    nlp = build_random(seed=1)
    doc = nlp.make_doc(TEXT)
    if finder == "hook":
        doc = hooked(doc)
    elif finder == "hand":
        for token in doc:
            token.is_sent_start = token.i in (0, 6)
    else:
        nlp.add_pipe(finder, first=True)
        example = Example.from_dict(
            nlp.make_doc("A b . C ."),
            {
                "sent_starts": [1, 0, 0, 1, 0],
                "heads": [1, 1, 1, 3, 3],
                "deps": ["det", "ROOT", "punct", "ROOT", "punct"],
            },
        )
        if finder != "sentencizer":
            nlp.get_pipe(finder).initialize(lambda: [example], nlp=nlp)
    doc = nlp(doc)
    assert len(doc._.summary) == 1
    assert doc._.summary[0] in list(doc.sents)
    assert None not in saliences(doc)


def test_a_doc_without_boundaries_is_an_error_that_says_what_to_add(nlp: Language) -> None:
    with pytest.raises(
        ComponentError, match=r'no sentence boundaries: \'The film was.*add_pipe\("sentencizer", before="head"\)'
    ):
        nlp(TEXT)


def test_analysis_says_what_it_needs_and_sets() -> None:
    nlp = build()
    analysis = nlp.analyze_pipes()
    assert analysis["summary"]["head"]["assigns"] == ["span._.salience", "doc._.summary"]
    assert analysis["problems"]["head"] == ["doc.tensor", "token.is_sent_start"]
    nlp.add_pipe("sentencizer", first=True)
    nlp.add_pipe("distilbert", first=True)
    assert not any(nlp.analyze_pipes()["problems"].values())


# Choosing again


def test_a_call_may_ask_for_another_budget(nlp: Language, doc: Doc) -> None:
    pipe, before = nlp.get_pipe("head"), doc._.summary
    assert texts(pipe.summarize(doc, max_sentences=3, redundancy="none")) == texts(doc.sents)
    assert texts(pipe.summarize(doc, max_sentences=None, max_words=4)) == ["The film was great ."]
    assert pipe.summarize(doc, max_words=3) == []
    assert doc._.summary == before


def test_choosing_from_an_unread_doc_or_without_a_budget_is_an_error(nlp: Language, doc: Doc) -> None:
    pipe = nlp.get_pipe("head")
    with pytest.raises(ComponentError, match="Run the component 'head' on it first"):
        pipe.summarize(Doc(nlp.vocab, words=["One", "."], sent_starts=[True, False]))
    with pytest.raises(ComponentError, match="needs a budget"):
        pipe.summarize(doc, max_sentences=None)


@pytest.mark.parametrize(
    "setting",
    [{"max_sentences": 0}, {"max_words": -1}, {"redundancy": "some"}, {"diversity": 2.0}, {"labels_from": "air"}],
)
def test_a_setting_that_can_not_be_is_an_error(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"{name}\b.*{value}"):  # some are found by spaCy
        spacy.blank("en").add_pipe("distilbert_summarizer", config={"model": MODEL, **setting})


# Docs on disk


def saved_as_bytes(doc: Doc) -> Doc:
    return Doc(doc.vocab).from_bytes(doc.to_bytes())


def saved_in_a_bin(doc: Doc) -> Doc:
    saved = DocBin(docs=[doc], store_user_data=True).to_bytes()
    return next(DocBin().from_bytes(saved).get_docs(doc.vocab))


def pickled(doc: Doc) -> Doc:
    return pickle.loads(pickle.dumps(doc))


def merged(doc: Doc) -> Doc:
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    return doc


@pytest.mark.parametrize("save", [saved_as_bytes, saved_in_a_bin, pickled, Doc.copy, merged])
def test_salience_and_summary_outlive(save: Callable[[Doc], Doc], doc: Doc) -> None:
    expected = texts(doc._.summary), saliences(doc)
    saved = save(doc)
    assert (texts(saved._.summary), saliences(saved)) == expected


# Training


@pytest.mark.parametrize(
    ("labels_from", "annotate"),
    [
        ("gains", "summaries"),
        ("greedy", "summaries"),
        ("salient", "salient"),
        ("gains", "salient"),
        ("salient", "summaries"),
    ],
)
def test_it_learns_which_sentence_matters(labels_from: str, annotate: str) -> None:
    nlp = build(labels_from=labels_from)
    sgd, losses = Adam(0.02), []
    for epoch in range(25):
        losses.append(nlp.update(reports(30, vocab=nlp.vocab, seed=epoch, annotate=annotate), sgd=sgd)["head"])
    assert losses[-1] < 0.5 * losses[0]
    scores = nlp.evaluate(reports(20, vocab=nlp.vocab, seed=99))
    assert scores["rouge1_f"] > 0.95
    assert scores["rouge2_f"] > 0.95
    assert scores["rougeL_f"] > 0.95


def test_the_references_sentences_serve_where_the_predicted_doc_has_none() -> None:
    losses = []
    for strip in (False, True):
        nlp = build()
        examples = reports(8, vocab=nlp.vocab)
        if strip:
            examples = [Example(Doc(nlp.vocab, words=[token.text for token in eg.x]), eg.y) for eg in examples]
        losses.append(nlp.update(examples, sgd=False)["head"])
    assert losses[0] == pytest.approx(losses[1])


def test_texts_without_labels_teach_nothing() -> None:
    nlp = build()
    pipe: Any = nlp.get_pipe("head")
    assert nlp.update(reports(3, vocab=nlp.vocab, annotate=""), sgd=False)["head"] == 0.0
    labelled, bare = reports(3, vocab=nlp.vocab, seed=1), reports(3, vocab=nlp.vocab, seed=2, annotate="")
    for example in bare[:1]:
        example.reference._.summaries = ["", " … "]  # empty references
    alone, mixed = (nlp.update(batch, sgd=False)["head"] for batch in (labelled, bare + labelled))
    assert alone == pytest.approx(mixed)
    sentences = pipe.find_sentences(bare + labelled)
    n_bare = sum(map(len, sentences[:3]))
    logits = pipe.predict_logits([eg.x for eg in bare + labelled], sentences)
    _, gradient = pipe.get_loss(bare + labelled, logits, sentences)
    assert not gradient[:n_bare].any()
    assert gradient[n_bare:].all()


@pytest.mark.parametrize("summaries", [None, [""]])
def test_without_labels_there_is_nothing_to_learn(summaries: list[str] | None) -> None:
    nlp = build()
    made = reports(2, vocab=nlp.vocab, annotate="")
    for example in made:
        example.reference._.summaries = summaries
    with pytest.raises(ComponentError, match=r"'head' .*none of the 2 examples has .* in `doc._.summaries`, or `doc"):
        nlp.initialize(lambda: made)
    nlp.initialize()
    nlp.config["distillation"] = {"teacher": "somewhere"}
    nlp.initialize(lambda: made)


def test_a_salient_sentence_that_does_not_exist_is_an_error() -> None:
    nlp = build()
    (example,) = reports(1, vocab=nlp.vocab, annotate="")
    example.reference._.salient = [7]
    with pytest.raises(CorpusError, match=r"names the sentences \[7\], and it has \d, counted from 0"):
        nlp.update([example])


def test_salient_sentences_are_found_among_others() -> None:
    """A predicted sentence is salient if more than half of it is."""
    nlp = build(labels_from="salient")
    words = ["a", "b", "c", "d", "e", "f"]
    reference = Doc(nlp.vocab, words=words, sent_starts=[1, 0, 0, 1, 0, 0])
    reference._.salient = [1]
    predicted = Doc(nlp.vocab, words=words, sent_starts=[1, 0, 1, 0, 0, 1])
    pipe: Any = nlp.get_pipe("head")
    example = Example(predicted, reference)
    sentences = pipe.find_sentences([example])
    _, gradient = pipe.get_loss([example], numpy.zeros((3, 1), dtype="f"), sentences)
    assert gradient[:, 0].tolist() == [0.5, -0.5, -0.5]


def test_a_summary_alone_is_a_list_of_one() -> None:
    (example,) = reports(1, vocab=spacy.blank("en").vocab)
    (summary,) = example.reference._.summaries
    assert summary != example.reference.text
    example.reference._.summaries = summary
    assert find_references(example.reference) == [summary]


def test_scores_are_none_without_references() -> None:
    nlp = build()
    examples = reports(3, vocab=nlp.vocab, annotate="salient")
    examples[0].reference._.summaries = [" "]
    assert nlp.evaluate(examples)["rouge1_f"] is None


# Beside the shared encoder


def with_boundaries(nlp: Language, text: str) -> Doc:
    doc = nlp.make_doc(text)
    for token in doc:
        token.is_sent_start = token.i == 0 or doc[token.i - 1].text in ".!"
    return doc


def test_it_listens_to_the_shared_encoder_and_trains_it(build: Build, tmp_path: Path) -> None:
    nlp = build(distilbert_summarizer={"max_sentences": 2})
    doc = with_boundaries(nlp, TEXT)
    reference = doc.copy()
    reference._.summaries = ["A bad actor watched"]
    losses = [nlp.update([Example(doc, reference)], sgd=nlp.create_optimizer(), drop=0.0) for _ in range(8)]
    assert losses[-1]["distilbert_summarizer"] < losses[0]["distilbert_summarizer"]
    assert losses[0]["distilbert"] > 0
    nlp.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    expected = nlp(with_boundaries(nlp, TEXT))
    assert saliences(again(with_boundaries(again, TEXT))) == pytest.approx(saliences(expected), abs=1e-6)
    assert texts(again(with_boundaries(again, TEXT))._.summary) == texts(expected._.summary)
    copied = pickle.loads(pickle.dumps(nlp))
    assert saliences(copied(with_boundaries(copied, TEXT))) == pytest.approx(saliences(expected), abs=1e-6)


def test_two_processes_say_what_one_says(build: Build) -> None:
    nlp = build(distilbert_summarizer={})
    nlp.add_pipe("sentencizer", first=True)
    many = [TEXT, "", "The end."] * 3
    one, two = ([texts(doc._.summary) for doc in nlp.pipe(many, n_process=n, batch_size=2)] for n in (1, 2))
    assert one == two
    assert one[1] == []
