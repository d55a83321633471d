"""Sizes against counts by hand, memory against arrays of known size."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example

from spacy_distil.evaluation import measure
from spacy_distil.evaluation.measure import count_parameters, in_child, peak_memory, size_on_disk
from spacy_distil.evaluation.sources import AnnotatedCorpus
from tests.pipeline.questions import PASSAGES, make_nlp
from tests.pipeline.questions import examples as question_examples

MB = 1_000_000


def add_listener(
    nlp: Language, component: str, labels: list[str], architecture: str = "spacy.Tok2VecListener.v1"
) -> None:
    """A softmax on the shared encoder's vectors."""
    tok2vec = {"@architectures": architecture, "width": 32}
    nlp.add_pipe("tagger", name=component, config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec}})
    for label in labels:
        nlp.get_pipe(component).add_label(label)  # type: ignore[attr-defined]


@pytest.fixture
def nlp(distilbert_folder: Path) -> Language:
    """A DistilBERT 32 wide, to which two taggers listen, of 2 and of 3 labels."""
    nlp = spacy.blank("en")
    nlp.add_pipe("distilbert", config={"model": {"name": str(distilbert_folder)}})
    add_listener(nlp, "two", ["A", "B"])
    add_listener(nlp, "three", ["A", "B", "C"])
    examples = [Example.from_dict(nlp.make_doc("a"), {"tags": ["A"]})]
    nlp.initialize(lambda: examples)
    return nlp


def count_encoder(folder: Path) -> int:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).num_parameters()


def test_parameters_are_thincs_and_torchs(nlp: Language, distilbert_folder: Path) -> None:
    heads = (32 + 1) * 2 + (32 + 1) * 3
    assert count_parameters(nlp) == count_encoder(distilbert_folder) + heads


def test_frozen_and_disabled_parameters_count(nlp: Language) -> None:
    n_parameters = count_parameters(nlp)
    nlp.get_pipe("distilbert").shim.encoder.requires_grad_(False)  # type: ignore[attr-defined]
    with nlp.select_pipes(disable=["distilbert", "two"]):
        assert count_parameters(nlp) == n_parameters


def test_a_copy_of_the_encoder_counts_by_itself(nlp: Language, distilbert_folder: Path) -> None:
    n_parameters = count_parameters(nlp)
    nlp.replace_listeners("distilbert", "three", ["model.tok2vec"])
    assert count_parameters(nlp) == n_parameters + count_encoder(distilbert_folder)


def test_a_model_in_two_components_counts_once(nlp: Language) -> None:
    n_parameters = count_parameters(nlp)
    nlp.get_pipe("two").model = nlp.get_pipe("three").model  # type: ignore[attr-defined]
    assert count_parameters(nlp) == n_parameters - (32 + 1) * 2


def test_components_without_a_model_have_no_parameters() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    assert count_parameters(nlp) == 0


def test_size_is_that_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one").write_bytes(b"12345")
    (tmp_path / "sub" / "two").write_bytes(b"67")
    assert size_on_disk(tmp_path) == size_on_disk(str(tmp_path)) == 7


def test_size_of_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        size_on_disk(tmp_path / "nowhere")


def test_white_space_is_no_word() -> None:
    assert measure.count_words(spacy.blank("en"), ["Two  words", " \n ", "and one."]) == 5


def test_words_per_second_are_words_over_the_median_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 2.0, 9.0, 4.0])  # the first is the warm-up
    monkeypatch.setattr(measure, "time_call", lambda function: next(times))
    nlp = spacy.blank("en")
    assert measure.words_per_second(nlp, ["one two", "three four"], repeats=3) == 1.0


def test_each_component_is_timed_with_all_texts_after_a_warm_up(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    times = iter([100.0, 100.0, 100.0, 1.0, 2.0, 3.0, 0.1, 0.2, 0.3])

    def time_call(function: Any) -> float:
        function()
        docs = function.func.__self__
        assert all(doc.has_annotation("TAG") == (len(seen) % 3 > 0) for doc in docs)
        seen.append(tuple(doc.text for doc in docs))
        return next(times)

    monkeypatch.setattr(measure, "time_call", time_call)
    seconds = measure.time_components(nlp, ["a", "b b", "c"], batch_size=2)
    assert seconds == pytest.approx({"distilbert": 1.1, "two": 2.2, "three": 3.3})
    assert seen == [("a", "b b")] * 6 + [("c",)] * 3


def test_latency_is_the_median_of_calls_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nlp = spacy.blank("en")
    times = iter([1.0, 9.0, 2.0])
    seen: list[str] = []
    monkeypatch.setattr(type(nlp), "__call__", lambda self, text: seen.append(text))

    def time_call(function: Callable[[], None]) -> float:
        assert len(seen) >= 3  # the warm-up
        function()
        return next(times)

    monkeypatch.setattr(measure, "time_call", time_call)
    assert measure.latency(nlp, "a text", calls=3) == 2.0
    assert [str(text) for text in seen] == ["a text"] * 6


def test_time_is_in_seconds() -> None:
    assert 0.02 <= measure.time_call(lambda: time.sleep(0.02)) < 2.0


def allocate(megabytes: int) -> int:
    return int(np.ones(megabytes * MB, dtype="uint8").sum())


def test_peak_memory_is_what_a_call_held_at_most() -> None:
    result, peak = peak_memory(lambda: allocate(100))
    assert result == 100 * MB
    assert 90 * MB < peak < 160 * MB


def test_an_earlier_peak_does_not_count() -> None:
    allocate(300)
    assert peak_memory(lambda: allocate(50))[1] < 150 * MB


def test_peak_memory_is_sampled_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_reset_peak", lambda: False)
    assert 90 * MB < peak_memory(lambda: [allocate(100) for _ in range(5)])[1] < 160 * MB


def test_an_error_ends_the_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_reset_peak", lambda: False)
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert peak_memory(lambda: 1)[0] == 1


def test_resident_memory_holds_what_is_kept() -> None:
    before = measure.current_memory()
    kept = torch.ones(100 * MB, dtype=torch.uint8)
    assert measure.current_memory() - before > 90 * MB
    assert len(kept)


def test_a_child_is_a_process_of_its_own() -> None:
    assert in_child(os.getpid) != os.getpid()
    assert in_child(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        in_child(divmod, 1, 0)


def test_questions_about_a_text_are_answered_while_a_pipeline_is_measured(
    distilbert_folder: Path, tmp_path: Path
) -> None:
    nlp = make_nlp(distilbert_folder)
    corpus = tmp_path / "corpus.spacy"
    DocBin(docs=[example.reference for example in question_examples(nlp)], store_user_data=True).to_disk(corpus)
    annotated = AnnotatedCorpus(nlp, corpus)
    annotated.drop_vectors()
    assert [list(text.questions) for text in annotated.texts if isinstance(text, measure.AskedText)] == [
        [question for question, _ in questions] for _, questions in PASSAGES
    ]
    copied = pickle.loads(pickle.dumps(annotated.texts[0]))
    assert copied.questions == annotated.texts[0].questions  # type: ignore[attr-defined]
    asked: list[str] = []
    pipe: Any = nlp.get_pipe("distilbert_qa")
    answer = pipe.answer
    pipe.answer = lambda docs, questions: asked.extend(q for row in questions for q in row) or answer(docs, questions)
    measure.time_pipe(nlp, annotated.texts)
    assert len(asked) == sum(len(questions) for _, questions in PASSAGES)
