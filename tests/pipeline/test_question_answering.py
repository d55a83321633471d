"""The component `distilbert_qa`: it answers as transformers does, learns, and lasts."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import random
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus, Example
from thinc.api import Adam
from transformers import QuestionAnsweringPipeline, pipeline

from spacy_distil.errors import ComponentError, CorpusError
from spacy_distil.hub.importing import import_model
from spacy_distil.pipeline.question_answering.answers import Answer
from spacy_distil.pipeline.question_answering.component import QuestionAnswering
from spacy_distil.pipeline.question_answering.gold import Question, cross_entropy, draw, make_targets
from tests.distillation.gradients import assert_finite_differences
from tests.hub.conftest import model_type, save_head
from tests.pipeline.questions import PASSAGES, TINY, example, examples, make_nlp

__all__ = ["model_type", "save_head"]
TEXT = "The film in London was great, and un- believable # the end: naïve wonderful 2024 stories (actor) don't play. "


@pytest.fixture
def nlp(distilbert_folder: Path) -> Language:
    return make_nlp(distilbert_folder)


@pytest.fixture
def pipe(nlp) -> QuestionAnswering:
    return nlp.get_pipe("distilbert_qa")


def learn(nlp: Language, steps: int = 60) -> None:
    optimizer = Adam(0.003)
    for _ in range(steps):
        nlp.update(examples(nlp), sgd=optimizer, drop=0.0)


def said(nlp: Language) -> list[list[str]]:
    docs = list(nlp.pipe(text for text, _ in PASSAGES))
    return [[answers[0].text for answers in doc._.ask(["Where?", "Which?"])] for doc in docs]


# As transformers


@pytest.mark.parametrize("length", [30, 100, 250])
def test_scores_and_characters_are_those_of_transformers(save_head, model_type, length, monkeypatch):
    folder = save_head(model_type, "QuestionAnswering")
    nlp = import_model(str(folder))[0]
    pipe = nlp.get_pipe(nlp.pipe_names[-1])
    pipe.max_length, pipe.stride = 40, 12
    # transformers adds up the scores of all answers with one text, one span in two windows among them, to more than 1.
    monkeypatch.setattr(QuestionAnsweringPipeline, "get_answer", lambda self, answers, target: None)
    settings = {"max_seq_len": 40, "doc_stride": 12, "max_answer_len": pipe.max_answer_length, "align_to_words": False}
    ask = pipeline("question-answering", model=str(folder), **settings)
    text = (TEXT * 3)[:length]
    for question in ("the film?", "a?", "Where?"):
        best: dict[tuple[int, int], float] = {}
        for answer in ask(question=question, context=text, top_k=5):
            span = answer["start"], answer["end"]
            best[span] = max(best.get(span, 0.0), answer["score"])
        expected = sorted(best.items(), key=lambda item: -item[1])[:3]
        answers = nlp(text)._.ask(question, top_k=5)
        assert [((a.start_char, a.end_char), a.score) for a in answers][: len(expected)] == [
            (span, pytest.approx(score, abs=1e-5)) for span, score in expected
        ]
        assert all(answer.text == text[answer.start_char : answer.end_char] for answer in answers)


# Answers


def test_an_answer_is_a_span_of_tokens_with_the_exact_characters(pipe, nlp):
    doc = nlp("The café:  un- believable")
    answers = pipe.answer([doc], ["Where?"], top_k=50)[0]
    assert len({(answer.start_char, answer.end_char) for answer in answers}) == len(answers) > 20
    for answer in answers:
        assert answer.text == doc.text[answer.start_char : answer.end_char]
        assert answer.span.doc is doc
        assert answer.span.start_char <= answer.start_char < answer.end_char <= answer.span.end_char
        assert answer.start_char < answer.span[0].idx + len(answer.span[0])  # no token too many
        assert answer.span[-1].idx < answer.end_char
    assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)


def test_a_batch_answers_as_its_docs_alone(pipe, nlp):
    docs = [nlp(text) for text, _ in PASSAGES] + [nlp(TEXT)]
    questions = ["Where?", ["a?", "Which?"], [], ["the film?"], "Where?"]
    together = pipe.answer(docs, questions, top_k=2)
    assert [len(row) for row in together] == [2, 2, 0, 1, 2]
    alone = [pipe.answer([doc], [asked], top_k=2)[0] for doc, asked in zip(docs, questions, strict=True)]

    def flat(rows):
        return [answer for row in rows for part in row for answer in (part if isinstance(part, list) else [part])]

    for one, other in zip(flat(together), flat(alone), strict=True):
        assert (one.start_char, one.end_char) == (other.start_char, other.end_char)
        assert one.score == pytest.approx(other.score, rel=1e-4)


def test_each_passage_is_tokenised_once_and_all_in_one_call(pipe, nlp, monkeypatch):
    calls = []
    encode = type(pipe.tokenizer).encode
    monkeypatch.setattr(type(pipe.tokenizer), "encode", lambda self, texts: calls.append(texts) or encode(self, texts))
    pipe.answer([nlp("The film"), nlp("London")], [["Where?", "a?"], ["a?"]])
    assert calls == [["The film", "London", "Where?", "a?", "a?"]]


def test_large_batches_are_encoded_in_parts(pipe, nlp, monkeypatch):
    docs, questions = [nlp(TEXT), nlp("The film")], [["Where?", "a?"], ["a?"]]
    expected = pipe.answer(docs, questions)
    monkeypatch.setattr("spacy_distil.pipeline.question_answering.model.PREDICTED_AT_ONCE", 0.01)
    monkeypatch.setattr("spacy_distil.pipeline.question_answering.spans.WINDOWS_AT_ONCE", 2)
    for one, other in zip(chain(*expected), chain(*pipe.answer(docs, questions)), strict=True):
        assert one[0].text == other[0].text
        assert one[0].score == pytest.approx(other[0].score, rel=1e-4)


def test_the_pipeline_changes_nothing_on_a_doc(nlp):
    doc = nlp("The film")
    assert doc.to_bytes() == nlp.make_doc("The film").to_bytes()


def test_an_empty_doc_has_no_answer(nlp):
    for text in ("", " \n "):
        (answer,) = nlp(text)._.ask("Where?")
        assert (answer.span, answer.start_char, answer.end_char, answer.text, answer.score) == (None, 0, 0, "", 1.0)


def test_no_answer_comes_first_where_cls_exceeds_the_best_span_by_the_threshold(nlp, pipe):
    doc = nlp("The film in London")
    best = pipe.answer([doc], ["Where?"], top_k=3)[0]
    windows = pipe.make_windows([doc], [["Where?"]])
    start, end = windows.gather(pipe.model.predict(windows.sequences))[:, 0]
    null = float(start[0] + end[0])
    margin = null - max(start[i] + end[j] for i in range(1, len(start)) for j in range(i, min(i + 6, len(start))))
    pipe.no_answer_threshold = margin + 0.01
    assert pipe.answer([doc], ["Where?"], top_k=3)[0] == best
    pipe.no_answer_threshold = margin - 0.01
    first, *others = pipe.answer([doc], ["Where?"], top_k=3)[0]
    assert first.span is None
    assert first.score == pytest.approx(
        float(np.exp(start[0]) / np.exp(start).sum() * np.exp(end[0]) / np.exp(end).sum()), rel=1e-4
    )
    assert others == best[:2]
    assert [answer.span for answer in pipe.answer([doc], ["Where?"])[0]] == [None]


@pytest.mark.parametrize("question", ["", " "])
def test_an_empty_question_is_an_error(nlp, question):
    with pytest.raises(ComponentError, match="is empty"):
        nlp("The film")._.ask(question)


@pytest.mark.parametrize("question", [None, 3, ["Where?", None], [["Where?"]], {"question": "Where?"}])
def test_what_is_no_question_is_an_error(nlp: Language, question: Any) -> None:
    with pytest.raises(
        ComponentError, match=r"(None|3|\['Where\?'\]|\{'question': .*\}) is no question: ask with a text"
    ):
        nlp("The film")._.ask(question)


@pytest.mark.parametrize("questions", [None, "a?"])
def test_what_are_no_questions_is_an_error(nlp: Language, pipe: QuestionAnswering, questions: Any) -> None:
    with pytest.raises(ComponentError, match=r"(None|'a\?') are no questions: give a text"):
        pipe.answer([nlp("The film"), nlp("London")], questions)


def test_docs_and_questions_may_come_from_generators(nlp: Language, pipe: QuestionAnswering) -> None:
    docs, questions = [nlp(text) for text, _ in PASSAGES[:2]], ["Where?", ["a?", "Which?"]]
    given = (doc for doc in docs), (each if isinstance(each, str) else iter(each) for each in questions)
    assert pipe.answer(*given) == pipe.answer(docs, questions)


def test_half_of_a_character_in_a_question_is_one_that_is_unknown(nlp: Language) -> None:
    doc = nlp("The film in London")
    assert doc._.ask("Where \ud800?") == doc._.ask("Where \ufffd?")


def test_a_question_longer_than_half_a_window_is_an_error_that_names_it(nlp):
    with pytest.raises(ComponentError, match=r"'the the .*has 30 word pieces, and at most 21 .*max_length = 48"):
        nlp("The film")._.ask("the " * 30)
    with pytest.raises(ComponentError, match="The question 'q0' has 30 word pieces"):
        nlp.evaluate([example(nlp, "The film", [("the " * 30, ["film"])])])


def test_other_bad_arguments_are_errors(pipe, nlp):
    with pytest.raises(ComponentError, match="1 Docs and questions for 2"):
        pipe.answer([nlp("a")], ["a?", "b?"])
    with pytest.raises(ComponentError, match="give a list of Docs"):
        pipe.answer(nlp("a"), ["a?"])
    with pytest.raises(ComponentError, match="top_k = 0"):
        pipe.answer([nlp("a")], ["a?"], top_k=0)
    for settings, message in [
        ({"stride": 24}, r"stride = 24 .* half of max_length = 48"),
        ({"max_answer_length": 0}, "max_answer_length = 0"),
        ({"questions_per_doc": -1}, "questions_per_doc = -1"),
    ]:
        with pytest.raises(ComponentError, match=message):
            QuestionAnswering(nlp.vocab, pipe.model, **{**TINY, **settings})
    with pytest.raises(ComponentError, match=r"architecture spacy-distil\.QuestionAnswering\.v1, not 'distilbert'"):
        QuestionAnswering(nlp.vocab, pipe.model.get_ref("encoder"))


def test_windows_longer_than_the_encoder_takes_are_refused_but_for_the_default(distilbert_folder: Path) -> None:
    for max_length in (64, 384):
        assert make_nlp(distilbert_folder, max_length=max_length).get_pipe("distilbert_qa").window_length == 64
    with pytest.raises(
        ComponentError,
        match=r"max_length = 65 of the component 'distilbert_qa' is more than its .* positions, 64: set it to at most 64",
    ):
        make_nlp(distilbert_folder, max_length=65)


def test_a_component_that_was_saved_with_such_windows_loads_with_a_warning(nlp: Language, tmp_path: Path) -> None:
    nlp.to_disk(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        spacy.load(tmp_path)
    with pytest.warns(
        UserWarning, match="max_length = 65 of the component 'distilbert_qa' is more than its encoder has"
    ):
        loaded = spacy.load(tmp_path, config={"components.distilbert_qa.max_length": 65})
    assert loaded.get_pipe("distilbert_qa").window_length == 64


# Who is asked


def test_a_doc_without_a_component_is_told_what_to_do():
    doc = spacy.blank("en")("The film")
    if Doc.has_extension("ask"):
        with pytest.raises(ComponentError, match="has no component distilbert_qa"):
            doc._.ask("Where?")


def test_a_doc_does_not_keep_its_component_alive(distilbert_folder):
    nlp = make_nlp(distilbert_folder)
    doc = nlp("The film")
    assert doc._.ask("Where?")
    del nlp
    gc.collect()
    with pytest.raises(ComponentError, match="its pipeline is gone"):
        doc._.ask("Where?")


def test_several_components_are_asked_by_name(nlp, distilbert_folder):
    model = {"encoder": {"name": str(distilbert_folder), "layers": [0, 2]}}
    nlp.add_pipe("distilbert_qa", name="small", config={"model": model, **TINY})
    nlp.get_pipe("small").model.initialize()
    doc = nlp(TEXT)
    with pytest.raises(ComponentError, match=r"'distilbert_qa', 'small': name one by `component`"):
        doc._.ask("Where?")
    with pytest.raises(ComponentError, match=r"No component 'large' .*'distilbert_qa', 'small'"):
        doc._.ask("Where?", component="large")
    for name in ("distilbert_qa", "small"):
        assert doc._.ask("Where?", component=name) == nlp.get_pipe(name).answer([doc], ["Where?"])[0]


def test_a_component_of_another_pipeline_answers_in_this_one_by_its_new_name(nlp):
    other = spacy.blank("en")
    other.add_pipe("distilbert_qa", name="questions", source=nlp)
    doc = other("The film in London")
    assert doc._.ask("Where?", component="questions")[0].span.doc is doc


def test_without_weights_it_says_what_to_do(distilbert_folder):
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert_qa", config={"model": {"encoder": {"name": str(distilbert_folder)}}})
    with pytest.raises(ValueError, match="has no weights yet"):
        nlp("The film")._.ask("Where?")


# Learning


def test_it_learns_to_answer_and_that_there_is_no_answer(distilbert_folder):
    nlp = make_nlp(distilbert_folder, no_answer_threshold=0.0)
    before = nlp.evaluate(examples(nlp))
    learn(nlp)
    after = nlp.evaluate(examples(nlp))
    assert before["qa_f1"] < 0.6
    assert after["qa_f1"] == after["qa_exact_match"] == 1.0
    assert nlp("the the the")._.ask("Where?")[0].span is None


def test_targets_are_shares_of_the_answers_and_cls_outside_of_a_window(pipe, nlp):
    doc = nlp("The film in London was great, and the end of the film is un- believable # in Berlin" + " the end" * 20)
    questions = [
        Question.from_dict({"question": "Where?", "answers": answers}, doc.text)
        for answers in (
            [{"text": "film", "start": 4}, {"text": "The film", "start": 0}, {"text": "film", "start": 4}],
            [],
            None,
        )
    ]
    windows = pipe.make_windows([doc], [[question.text for question in questions]])
    targets = make_targets(windows, questions)
    text = {(0, 3): 1, (4, 8): 2}
    assert [tuple(windows.chars[i]) for i in (0, 1)] == list(text)
    first, *rest = np.flatnonzero(windows.questions == 0)
    assert rest  # the passage has several windows, and the answers stand in the first alone
    assert targets[0, first, :4].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 0])
    assert targets[1, first, :4].tolist() == pytest.approx([0, 0, 1, 0])
    assert (targets[:, rest, 0] == 1).all()
    assert (targets[:, windows.questions == 1, 0] == 1).all()
    assert not targets[:, windows.questions == 2].any()
    assert targets[:, windows.questions < 2].sum(axis=-1) == pytest.approx(1)


def test_the_loss_and_its_gradient_are_those_of_torch(pipe, nlp):
    import torch

    made = examples(nlp)
    rows = pipe.find_questions(made)
    windows = pipe.make_example_windows(made, rows)
    questions = [question for row in rows for question in row]
    logits = torch.randn(len(windows.sequences.ids), 2, requires_grad=True)
    loss, gradient = cross_entropy(windows, questions, logits.detach().numpy())
    targets = torch.from_numpy(make_targets(windows, questions))
    columns = logits.T[:, torch.from_numpy(windows.rows)].masked_fill(~torch.from_numpy(windows.exist), -1e4)
    expected = torch.nn.functional.cross_entropy(columns.flatten(0, 1), targets.flatten(0, 1), reduction="sum")
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), atol=1e-5)


def test_the_gradient_of_the_head_is_that_of_finite_differences(pipe, nlp):
    made = examples(nlp)
    learn(nlp, 3)
    assert_finite_differences(pipe, lambda: pipe.update(made)["distilbert_qa"])


def test_an_update_reaches_every_part_of_the_encoder(pipe, nlp):
    learn(nlp, 1)  # the head starts from zeros
    pipe.update(examples(nlp))
    gradients = {name: parameter.grad for name, parameter in pipe.shim.encoder.named_parameters()}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())


def test_questions_are_drawn_at_random_and_in_order():
    random.seed(0)
    draws = [tuple(draw("abcde", 2)) for _ in range(300)]
    assert set(draws) == {(a, b) for a in "abcde" for b in "abcde" if a < b}
    assert draw("abc", 0) == draw("abc", 3) == draw("abc", 5) == ["a", "b", "c"]


def test_an_update_learns_from_the_questions_that_are_drawn(pipe, nlp, monkeypatch):
    pipe.questions_per_doc = 1
    seen = []
    predict = type(pipe).make_example_windows
    monkeypatch.setattr(
        type(pipe),
        "make_example_windows",
        lambda self, made, questions: seen.append([len(row) for row in questions]) or predict(self, made, questions),
    )
    pipe.update(examples(nlp))
    assert seen == [[1, 1, 1, 1]]


def test_without_a_question_that_is_answered_there_is_nothing_to_learn(nlp: Language) -> None:
    plain = Example(nlp.make_doc("The film"), nlp.make_doc("The film"))
    unlabelled = example(nlp, "The film", [("Where?", None)])
    with pytest.raises(ComponentError, match=r"'distilbert_qa' .*none of the 2 examples has .* in `doc._.questions`"):
        nlp.initialize(lambda: [plain, unlabelled])
    nlp.initialize(lambda: [plain, example(nlp, "The film", [("Where?", ["film"])])])
    nlp.config["distillation"] = {"teacher": "somewhere"}
    nlp.initialize(lambda: [plain, unlabelled])


def test_examples_without_questions_and_empty_docs_pass(nlp):
    plain = Example(nlp.make_doc("The film"), nlp.make_doc("The film"))
    empty = example(nlp, "", [("Where?", [])])
    unlabelled = example(nlp, "The film", [("Where?", None)])
    assert nlp.update([plain, empty, unlabelled], sgd=Adam(0.01)) == {"distilbert_qa": 0.0}
    assert nlp.evaluate([plain, unlabelled])["qa_f1"] is None


def test_an_answer_that_is_elsewhere_is_an_error_by_id(nlp):
    made = example(nlp, "The film in London", [("Where?", ["London"])])
    made.reference._.questions[0]["answers"][0]["start"] = 4
    for run in (nlp.update, nlp.evaluate):
        with pytest.raises(CorpusError, match=r"'London' to the question 'q0' is not at the character 4 .*'film i'"):
            run([made])
    made.reference._.questions = [{"answers": []}]
    with pytest.raises(CorpusError, match="is no question: it has to be like"):
        nlp.evaluate([made])


def test_other_texts_than_the_reference_are_an_error(nlp):
    made = example(nlp, "The film in London", [("Where?", ["London"])])
    with pytest.raises(ComponentError, match="differs from the predicted Doc's, 'The film'"):
        nlp.update([Example(nlp.make_doc("The film"), made.reference)])


def test_unanswerable_questions_without_a_threshold_are_a_warning(nlp):
    with pytest.warns(UserWarning, match="set no_answer_threshold"):
        nlp.initialize(lambda: examples(nlp))


# Scores


def test_scores_are_means_over_all_questions_of_the_reference(nlp, pipe, monkeypatch):
    made = [
        example(
            nlp, "The film in London was great", [("Where?", ["London"]), ("Which?", ["great", "London was great"])]
        ),
        example(nlp, "the end", [("Where?", [])]),
    ]
    answers = [[Answer(None, 0, 0, text, 0.5)] for text in ("in London", "was great", "")]
    monkeypatch.setattr(type(pipe), "find_answers", lambda self, docs, windows, top_k: iter(answers))
    scores = nlp.evaluate(made)
    assert scores["qa_exact_match"] == pytest.approx(1 / 3)
    assert scores["qa_f1"] == pytest.approx((2 / 3 + 0.8 + 1) / 3)


# Lasting


def test_it_lasts_on_disk_in_bytes_in_a_pickle_in_a_copy_and_in_two_processes(nlp, tmp_path):
    learn(nlp, 40)
    expected = said(nlp)
    assert len({text for row in expected for text in row}) > 2
    nlp.to_disk(tmp_path / "nlp")
    copies = [
        spacy.load(tmp_path / "nlp"),
        pickle.loads(pickle.dumps(nlp)),
        copy.deepcopy(nlp),
        spacy.util.load_model_from_config(nlp.config, auto_fill=True).from_bytes(nlp.to_bytes()),
    ]
    for other in copies:
        assert said(other) == expected
    docs = list(nlp.pipe([text for text, _ in PASSAGES], n_process=2, batch_size=2))
    assert [[answers[0].text for answers in doc._.ask(["Where?", "Which?"])] for doc in docs] == expected


def test_its_folder_is_a_checkpoint_for_another_of_fewer_layers(nlp, tmp_path):
    learn(nlp, 2)
    nlp.to_disk(tmp_path / "nlp")
    small = make_nlp(tmp_path / "nlp", encoder={"layers": [1, 3]})
    own = nlp.get_pipe("distilbert_qa").shim.encoder.layers[3].ffn.lin1.weight
    taken = small.get_pipe("distilbert_qa").shim.encoder.layers[1].ffn.lin1.weight
    assert (own == taken).all()


def test_references_come_back_from_a_file(nlp, tmp_path):
    made = [eg.reference for eg in examples(nlp)]
    DocBin(docs=made, store_user_data=True).to_disk(tmp_path / "train.spacy")
    read = list(Corpus(tmp_path / "train.spacy")(nlp))
    # msgpack reads tuples for lists.
    assert json.dumps([eg.reference._.questions for eg in read]) == json.dumps([doc._.questions for doc in made])
    assert nlp.update(read, sgd=Adam(0.001))["distilbert_qa"] > 0


def test_analyze_pipes_says_what_it_gives_and_finds_nothing_missing(nlp):
    analysis = nlp.analyze_pipes()
    assert analysis["summary"]["distilbert_qa"]["assigns"] == ["doc._.ask", "doc._.answers"]
    assert not any(analysis["problems"].values())


# Questions that come with a Doc


def ask_docs(nlp: Language) -> list[Doc]:
    docs = list(map(nlp.make_doc, ["The film in London was great.", "A story", ""]))
    docs[0]._.questions = ["Where?", {"id": "1", "question": "Which film?"}]
    docs[2]._.questions = ["Where?"]
    return docs


def test_questions_on_a_doc_are_answered_in_the_pipeline(nlp: Language, pipe: QuestionAnswering) -> None:
    docs = list(nlp.pipe(ask_docs(nlp)))
    for doc, asked in zip(docs, [["Where?", "Which film?"], None, ["Where?"]], strict=True):
        if asked is None:
            assert doc._.answers is None
        else:
            assert doc._.answers == [answer.to_dict() for (answer,) in pipe.answer([doc], [asked])[0]]
    assert nlp(ask_docs(nlp)[0])._.answers == docs[0]._.answers
    again = Doc(nlp.vocab).from_bytes(docs[0].to_bytes())
    assert again._.answers == docs[0]._.answers


@pytest.mark.parametrize("questions", [7, [7], [None], [{"query": "Where?"}], [{"question": 7}]])
def test_what_are_no_questions_on_a_doc_is_an_error(nlp: Language, questions: Any) -> None:
    doc = nlp.make_doc("The film in London")
    doc._.questions = questions
    with pytest.raises(
        ComponentError, match=r"(are no questions: give a list of texts|7 is no question: ask with a text)"
    ):
        nlp(doc)


def test_answers_come_back_from_other_processes(nlp: Language) -> None:
    here = [doc._.answers for doc in nlp.pipe(ask_docs(nlp))]
    there = [doc._.answers for doc in nlp.pipe(ask_docs(nlp), n_process=2)]
    assert there == here


def test_answers_that_stand_on_a_doc_are_scored_and_others_are_asked_for(
    nlp: Language, pipe: QuestionAnswering, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples(nlp)
    scores = pipe.score(given)
    for each in given:
        each.predicted._.questions = [question["question"] for question in each.reference._.questions]
        nlp(each.predicted)
    asked: list[int] = []
    predict = pipe.find_answers
    monkeypatch.setattr(
        pipe, "find_answers", lambda docs, *args, **kw: asked.append(len(docs)) or predict(docs, *args, **kw)
    )
    assert pipe.score(given) == scores
    given[0].predicted._.questions = ["Another?"]
    assert pipe.score(given) == scores
    assert asked == [0, 1]


# An unknown script


HINDI = "यह फ़िल्म कहाँ की है"


@pytest.mark.parametrize(
    ("text", "question", "message"),
    [
        ("The film in London was great.", "फ़िल्म कहाँ?", "is asked questions of which 67% of the pieces are unknown"),
        (HINDI, "Where?", r"reads texts of which \d+% of the pieces are unknown to its vocabulary, such as 'यह'"),
    ],
)
def test_a_question_or_text_in_an_unknown_script_is_told_once(
    nlp: Language, pipe: QuestionAnswering, text: str, question: str, message: str
) -> None:
    with pytest.warns(UserWarning, match=f"'distilbert_qa' {message}"):
        nlp(text)._.ask(question)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp(text)._.ask(question)


def test_an_unknown_script_is_told_in_training(nlp: Language) -> None:
    with pytest.warns(UserWarning, match="'distilbert_qa' reads texts of which"):
        nlp.update([example(nlp, HINDI, [("Where?", [])])], sgd=Adam(0.001))


@pytest.mark.parametrize("questions", ["Where?", {"id": "1", "question": "Where?"}])
def test_a_question_alone_is_a_list_of_one(nlp: Language, pipe: QuestionAnswering, questions: str | dict) -> None:
    doc = nlp.make_doc("The film in London")
    doc._.questions = questions
    nlp(doc)
    assert doc._.answers == [answer.to_dict() for answer in pipe.answer([doc], ["Where?"])[0]]
