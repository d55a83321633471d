"""Scorers: BLEU and chrF of translations, by sacrebleu."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from spacy.training import Example

from spacy_distil.errors import ComponentError


def make_translation_scorer(attribute: str = "translation") -> Callable[..., dict[str, Any]]:
    def score(examples: Iterable[Example], **settings: Any) -> dict[str, Any]:
        return score_translations(examples, attribute)

    return score


def score_translations(examples: Iterable[Example], attribute: str = "translation") -> dict[str, Any]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a corpus, as sacrebleu computes them by default, from 0 to 1.

    Docs without reference are left out; None where all are.
    """
    pairs = [
        (example.predicted._.get(attribute) or "", references)
        for example in examples
        if (references := [text for text in example.reference._.get("translations") or [] if text.strip()])
    ]
    if not pairs:
        return {"bleu": None, "chrf": None}
    sacrebleu = import_sacrebleu()
    hypotheses = [hypothesis for hypothesis, _ in pairs]
    n_references = max(len(references) for _, references in pairs)
    streams = [
        [references[i] if i < len(references) else None for _, references in pairs] for i in range(n_references)
    ]
    return {
        "bleu": sacrebleu.corpus_bleu(hypotheses, streams).score / 100,
        "chrf": sacrebleu.corpus_chrf(hypotheses, streams).score / 100,
    }


def import_sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise ComponentError(
            'BLEU and chrF need sacrebleu, which is not installed: pip install "spacy-distil[translation]".'
        ) from None
    return sacrebleu
