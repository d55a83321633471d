"""Scorers: BLEU and chrF of translations, by sacrebleu; ROUGE of summaries, as the extractive summariser has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.training import Example

from spacy_distil.errors import ComponentError
from spacy_distil.pipeline.references import read_texts
from spacy_distil.pipeline.summarization.rouge import find_references, mean_scores, score_best


def make_generation_scorer() -> Callable[..., dict[str, Any]]:
    """`spacy-distil.generation_scorer.v1`, see `score_texts`."""
    return score_texts


def score_texts(examples: Iterable[Example], *, target: str = "translation", **_: Any) -> dict[str, Any]:
    """The scores of what was written, from 0 to 1, over the Docs that have references; none where no Doc has any."""
    return score_abstracts(examples) if target == "summary" else score_translations(examples)


def score_translations(examples: Iterable[Example]) -> dict[str, Any]:
    """`bleu` (Papineni et al. 2002) and `chrf` (Popović 2015) of the corpus, as sacrebleu computes them by default. A Doc on
    which the component has not run counts as one without a word."""
    pairs = [
        (example.predicted._.translation or "", references)
        for example in examples
        if (references := read_texts(example.reference, "translations"))
    ]
    if not pairs:
        return {}
    sacrebleu = _sacrebleu()
    hypotheses, streams = [hypothesis for hypothesis, _ in pairs], to_streams([rows for _, rows in pairs])
    return {
        "bleu": sacrebleu.corpus_bleu(hypotheses, streams).score / 100,
        "chrf": sacrebleu.corpus_chrf(hypotheses, streams).score / 100,
    }


def to_streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """The references as sacrebleu takes them: a list of all texts' first, one of their second, and so on."""
    n_streams = max(map(len, references))
    return [[rows[i] if i < len(rows) else None for rows in references] for i in range(n_streams)]


def score_abstracts(examples: Iterable[Example]) -> dict[str, Any]:
    """`rouge1_f`, `rouge2_f` and `rougeL_f`, means over Docs. One on which the component has not run counts as one without a
    word."""
    found = [
        score_best(example.predicted._.abstract or "", references, example.reference.lang_)
        for example in examples
        if (references := find_references(example.reference))
    ]
    return mean_scores(found) if found else {}


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise ComponentError(
            'BLEU and chrF need the library sacrebleu: pip install "spacy-distil[translation]".'
        ) from error
    return sacrebleu
