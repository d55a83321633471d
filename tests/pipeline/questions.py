"""Questions about made-up films: tiny passages with the answers that stand in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.training import Example

TINY = {"max_length": 48, "stride": 8, "max_answer_length": 6}
PASSAGES = [
    ("The film in London was great.", [("Where?", ["London"]), ("Which?", ["great"])]),
    ("A bad movie in Berlin, and the end is endless.", [("Where?", ["Berlin"]), ("Which?", ["bad", "endless"])]),
    ("The story of a café in London", [("Where?", ["London", "a café in London"])]),
    ("the the the", [("Where?", [])]),
]


def make_nlp(
    folder: Path, *, name: str = "distilbert_qa", encoder: dict[str, Any] | None = None, **config: Any
) -> Language:
    """A pipeline of the component alone, on a tiny random encoder."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    model = {"encoder": {"name": str(folder), "precision": "float32", **(encoder or {})}}
    nlp.add_pipe("distilbert_qa", name=name, config={"model": model, **TINY, **config})
    nlp.initialize()
    return nlp


def example(nlp: Language, text: str, questions: list[tuple[str, list[str] | None]]) -> Example:
    """Answers stand where they first occur; None for a question whose answers nobody has said."""
    doc = nlp.make_doc(text)
    doc._.questions = [
        {"id": f"q{i}", "question": question}
        | ({} if answers is None else {"answers": [{"text": a, "start": text.index(a)} for a in answers]})
        for i, (question, answers) in enumerate(questions)
    ]
    return Example(nlp.make_doc(text), doc)


def examples(nlp: Language) -> list[Example]:
    return [example(nlp, text, questions) for text, questions in PASSAGES]  # type: ignore[arg-type]
