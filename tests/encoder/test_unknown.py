"""Texts in a script that the vocabulary lacks are told, once."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from thinc.api import Adam

from spacy_distil.encoder.model import get_shim
from tests.pipeline.conftest import LISTENER, Build, build, examples, tagger

__all__ = ["build"]
HINDI = "यह फ़िल्म अच्छी थी"


def told(texts: list[str], nlp: Language) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(nlp.pipe(texts))
    return [str(warning.message) for warning in caught if "unknown" in str(warning.message)]


@pytest.fixture
def nlp(build: Build) -> Language:
    return build(tagger=tagger(LISTENER))


def test_an_unknown_script_is_told_once_with_its_share_and_words(nlp: Language, distilbert_folder: Path) -> None:
    (message,) = told([HINDI, "The film"], nlp)
    assert message.startswith(f"The encoder '{distilbert_folder}' reads texts of which 67% of the pieces are unknown")
    assert "'यह', 'फ़िल्म', 'अच्छी'" in message
    assert "multilingual" in message
    assert not told([HINDI], nlp)


def test_an_unknown_script_is_told_in_training(nlp: Language) -> None:
    made = examples(nlp)
    made[0].predicted = nlp.make_doc(HINDI)
    with pytest.warns(UserWarning, match="of the pieces are unknown"):
        nlp.get_pipe("distilbert").update([made[0]], sgd=Adam(0.001))


@pytest.mark.parametrize(
    "text", ["The film in London was great, a bad story of the end: हिन्दी", "Great ☃ ☂ ♞", "", " \n"]
)
def test_a_foreign_word_or_emoji_is_no_unknown_script(nlp: Language, text: str) -> None:
    assert not told([text], nlp)


def test_another_checkpoint_is_looked_at_anew(nlp: Language, distilbert_folder: Path) -> None:
    from spacy_distil.encoder.checkpoint import load_checkpoint

    assert told([HINDI], nlp)
    get_shim(nlp.get_pipe("distilbert").model).adopt(load_checkpoint(str(distilbert_folder)))
    assert told([HINDI], nlp)


def test_a_masked_language_model_tells_too(distilbert_folder: Path) -> None:
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(distilbert_folder)}
    nlp.add_pipe("distilbert_mlm", config={"model": {"encoder": encoder}})
    nlp.initialize()
    assert len(told([HINDI, HINDI], nlp)) == 1
