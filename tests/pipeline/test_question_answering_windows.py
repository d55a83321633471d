"""Windows of question and passage, and the best spans over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from spacy_distil.encoder.tokenizer import PieceTokenizer
from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.question_answering.spans import Spans, find_spans
from spacy_distil.pipeline.question_answering.windows import IMPOSSIBLE, Windows, make_windows

TEXTS = ["The film in London was great. " * 6, "a", "", "Naïve café 中国 don't " * 4, "the the"]
QUESTIONS = [["the film in #?", "which"], ["what?"], ["what?"], [], ["Where?"]]


@pytest.fixture(scope="module")
def tokenizer(bert_folder: Path) -> PieceTokenizer:
    return PieceTokenizer.from_folder(bert_folder, max_length=64)


@pytest.fixture(scope="module")
def windows(tokenizer) -> Windows:
    return make_windows(TEXTS, QUESTIONS, tokenizer, max_length=24, stride=5)


@pytest.mark.parametrize(("max_length", "stride"), [(24, 5), (24, 0), (40, 12), (64, 20)])
def test_sequences_and_types_equal_those_of_transformers(bert_folder, tokenizer, max_length, stride):
    reference = BertTokenizerFast.from_pretrained(bert_folder)
    windows = make_windows(TEXTS, QUESTIONS, tokenizer, max_length=max_length, stride=stride)
    expected_ids, expected_types, expected_chars = [], [], []
    for text, questions in zip(TEXTS, QUESTIONS, strict=True):
        for question in questions if text else []:
            encoded = reference(
                question,
                text,
                truncation="only_second",
                max_length=max_length,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
            expected_ids += encoded["input_ids"]
            expected_types += encoded["token_type_ids"]
            for i, offsets in enumerate(encoded["offset_mapping"]):
                parts = encoded.sequence_ids(i)
                expected_chars.append([pair for pair, part in zip(offsets, parts, strict=True) if part == 1])
    lengths = list(windows.sequences.lengths)
    assert [ids.tolist() for ids in windows.sequences.ids.split(lengths)] == expected_ids
    assert [types.tolist() for types in windows.sequences.types.split(lengths)] == expected_types
    chars = [windows.chars[a:b].tolist() for a, b in zip(windows.starts, windows.ends, strict=True)]
    assert chars == [[list(pair) for pair in row] for row in expected_chars]


def test_an_overlap_leaves_room_where_a_question_is_long(tokenizer):
    question = "the " * 17
    windows = make_windows(["film " * 40], [[question]], tokenizer, max_length=40, stride=19)
    assert max(windows.sequences.lengths) == 40
    steps = np.diff(windows.starts)
    assert (steps == 10).all()  # half of the 20 pieces that are left
    assert windows.ends[-1] == 40


def test_an_empty_passage_has_no_window(windows):
    assert windows.docs.tolist() == [0, 0, 1, 2, 4]
    assert sorted(set(windows.questions.tolist())) == [0, 1, 2, 4]


def test_no_texts_have_no_windows(tokenizer):
    for texts, questions in ([], []), ([""], [["what?"]]), (["film"], [[]]):
        windows = make_windows(texts, questions, tokenizer, max_length=24, stride=5)
        assert len(windows.questions) == 0
        spans = find_spans(windows, np.zeros((0, 2), dtype="f"), top_k=2, max_answer_length=3)
        assert len(spans.scores) == 0


def test_columns_are_cls_and_the_passage(windows, tokenizer):
    ids = windows.sequences.ids.numpy()
    for window, rows in enumerate(windows.rows):
        exist = windows.exist[window]
        length = windows.ends[window] - windows.starts[window]
        assert exist.sum() == 1 + length
        first = windows.first_rows[window]
        inside = ids[first : first + windows.sequences.lengths[window]]
        assert ids[rows[exist]].tolist() == [tokenizer.cls_id, *inside[-1 - length : -1]]


def test_the_gradient_goes_back_where_the_logits_came_from(windows):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(windows.sequences.ids), 2)).astype("f")
    columns = windows.gather(logits)
    assert (columns[:, ~windows.exist] == IMPOSSIBLE).all()
    direction = rng.normal(size=columns.shape).astype("f")
    forward = float((columns * direction)[:, windows.exist].sum())
    backward = float((windows.scatter(direction) * logits).sum())
    assert forward == pytest.approx(backward, rel=1e-4)


@pytest.mark.parametrize("question", ["", "  \n", "\u0001"])
def test_an_empty_question_is_an_error(tokenizer, question):
    with pytest.raises(ComponentError, match="is empty"):
        make_windows(["film"], [[question]], tokenizer, max_length=24, stride=5)


def test_a_question_longer_than_half_a_window_is_an_error(tokenizer):
    make_windows(["film"], [["the " * 9]], tokenizer, max_length=24, stride=5)
    with pytest.raises(ComponentError, match=r"has 10 word pieces, and at most 9 leave room .* max_length = 24"):
        make_windows(["film"], [["the " * 10]], tokenizer, max_length=24, stride=5)


def brute_force(windows: Windows, logits: np.ndarray, max_answer_length: int) -> list[dict[tuple[int, int], float]]:
    """The score of each span, by question."""
    scores: list[dict[tuple[int, int], float]] = [{} for _ in windows.docs]
    columns = windows.gather(logits).astype("float64")
    for window, question in enumerate(windows.questions):
        p = np.exp(columns[:, window]) / np.exp(columns[:, window]).sum(axis=1, keepdims=True)
        length = windows.ends[window] - windows.starts[window]
        for start in range(length):
            for end in range(start, min(length, start + max_answer_length)):
                span = int(windows.starts[window] + start), int(windows.starts[window] + end)
                scores[question][span] = max(scores[question].get(span, 0.0), p[0, start + 1] * p[1, end + 1])
    return scores


def by_question(spans: Spans, n_questions: int) -> list[list[tuple[tuple[int, int], float]]]:
    rows: list[list[tuple[tuple[int, int], float]]] = [[] for _ in range(n_questions)]
    for question, start, end, score in zip(spans.questions, spans.starts, spans.ends, spans.scores, strict=True):
        rows[question].append(((int(start), int(end)), float(score)))
    return rows


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30))
def test_the_best_spans_are_those_of_a_search_through_all(windows, seed, top_k, max_answer_length):
    logits = np.random.default_rng(seed).normal(scale=3, size=(len(windows.sequences.ids), 2)).astype("f")
    spans = find_spans(windows, logits, top_k=top_k, max_answer_length=max_answer_length)
    for found, scores in zip(
        by_question(spans, len(windows.docs)), brute_force(windows, logits, max_answer_length), strict=True
    ):
        expected = sorted(scores.values(), reverse=True)[:top_k]
        assert [score for _, score in found[:top_k]] == pytest.approx(expected, rel=1e-3, abs=1e-12)
        assert all(scores[span] == pytest.approx(score, rel=1e-3, abs=1e-12) for span, score in found[:top_k])
        assert len({span for span, _ in found}) == len(found)


def test_no_answer_has_the_least_score_over_the_windows(windows):
    logits = np.random.default_rng(0).normal(size=(len(windows.sequences.ids), 2)).astype("f")
    spans = find_spans(windows, logits, top_k=1, max_answer_length=3)
    columns = windows.gather(logits).astype("float64")
    p = np.exp(columns) / np.exp(columns).sum(axis=-1, keepdims=True)
    for question in range(len(windows.docs)):
        own = windows.questions == question
        assert spans.null_scores[question] == pytest.approx((p[0, own, 0] * p[1, own, 0]).min(initial=1.0), rel=1e-4)
        assert spans.null_logits[question] == pytest.approx(
            columns[:, own, 0].sum(axis=0).min(initial=np.inf), rel=1e-4
        )
