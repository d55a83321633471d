"""ROUGE (Lin 2004) of summaries against references, by the library rouge-score."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.mean_score import MeanScore
from spacy_distil.pipeline.references import read_texts

TYPES = ("rouge1", "rouge2", "rougeL")
REMEMBERED = 2**16
"""Texts and scores that are kept: training and evaluation ask for the same ones in each epoch."""
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""Characters of scripts without spaces between words count as words."""


def score(prediction: str, reference: str, lang: str, types: Sequence[str] = TYPES) -> dict[str, float]:
    """F of each type, from 0 to 1."""
    return dict(_score(find_words(prediction, lang), find_words(reference, lang), tuple(types)))


def score_best(prediction: str, references: Sequence[str], lang: str) -> dict[str, float]:
    """F of `TYPES` against the reference that is nearest by ROUGE-1, as SciTLDR counts several (Cachola et al. 2020).

    references: at least one.
    """
    return max((score(prediction, reference, lang) for reference in references), key=lambda scores: scores["rouge1"])


def mean_scores(scored: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """`rouge1_f`, `rouge2_f` and `rougeL_f`, the means of what `score_best` gives for some texts; None where there are none."""
    return {f"{kind}_f": MeanScore.of([scores[kind] for scores in scored]) for kind in TYPES}


def score_summaries(examples: Iterable[Example], **_: Any) -> dict[str, Any]:
    """The mean over the Docs that have reference summaries: `rouge1_f`, `rouge2_f`, `rougeL_f`, from 0 to 1; None where no
    Doc has any, or the component has not run."""
    found = []
    for example in examples:
        summary, references = example.predicted._.summary, find_references(example.reference)
        if summary is not None and references:
            found.append(score_best(" ".join(span.text for span in summary), references, example.reference.lang_))
    return mean_scores(found)


def make_summary_scorer() -> Callable[..., dict[str, Any]]:
    """`spacy-distil.summary_scorer.v1`, see `score_summaries`."""
    return score_summaries


def find_references(reference: Doc) -> list[str]:
    """The reference summaries that have a word in them."""
    return [summary for summary in read_texts(reference, "summaries") if any(map(str.isalnum, summary))]


@lru_cache(REMEMBERED)
def find_words(text: str, lang: str) -> str:
    """What ROUGE compares, with spaces between: of English the library's own stems, as papers report them; of other languages,
    of which the library would drop every letter but a to z, the words in lower case.

    RAISES: ComponentError where the library is not installed.
    """
    if lang != "en":
        return " ".join(WORD.findall(text.lower()))
    return " ".join(_english().tokenize(text))


@lru_cache(REMEMBERED)
def _score(prediction: str, reference: str, types: tuple[str, ...]) -> dict[str, float]:
    """The same of words with spaces between."""
    return {kind: score.fmeasure for kind, score in _scorer(types).score(reference, prediction).items()}


class _Words:
    """A tokenizer of the library's kind, for words with spaces between."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


@cache
def _scorer(types: tuple[str, ...]) -> Any:
    return _library().rouge_scorer.RougeScorer(list(types), tokenizer=_Words())


@cache
def _english() -> Any:
    return _library().tokenizers.DefaultTokenizer(use_stemmer=True)


def _library() -> Any:
    try:
        import rouge_score.rouge_scorer
        import rouge_score.tokenizers
    except ImportError as error:
        raise ComponentError(
            "ROUGE, for scores and for labels from reference summaries, needs the library rouge-score: "
            'pip install "spacy-distil[summarization]".'
        ) from error
    return rouge_score
