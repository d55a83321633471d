"""A Hugging Face model with a head, as a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from spacy.language import Language

from spacy_distil.encoder.precision import Precision, check_precision
from spacy_distil.errors import CheckpointError
from spacy_distil.hub.heads import head_of_architecture
from spacy_distil.hub.heads.head import ENCODER, Setting
from spacy_distil.hub.model import read_model
from spacy_distil.languages import make_blank


def import_model(
    name: str,
    *,
    revision: str | None = None,
    lang: str = "en",
    component: str | None = None,
    labels: Sequence[str] | None = None,
    precision: Precision = "float32",
) -> tuple[Language, str]:
    """Read a DistilBERT or BERT with a head into a pipeline that says what transformers' pipelines say.

    name, revision: see `load_checkpoint`.
    lang: the language whose tokens the pipeline has. Pieces are the checkpoint's in any case.
    component: name of the component; None: its factory's.
    labels: names for the rows of a classifier, in their order; None: those of the checkpoint's config.
    precision: of the encoder; in float32 scores equal transformers' to rounding.
    RETURNS: the pipeline, and the name of the head's component in it.
    Raises CheckpointError for everything that is missing, damaged or not supported, EncoderError for an unknown precision.
    """
    check_precision(precision)
    if component == ENCODER:
        raise CheckpointError(f"The encoder is called {component!r} already: give the head's component another name.")
    architecture, source = read_model(name, revision)
    head = head_of_architecture(architecture, name)
    nlp = make_blank(lang, CheckpointError)
    added = head.add(nlp, source, Setting(component, labels, precision))
    nlp.meta["description"] = f"{architecture} of {name}"
    return nlp, added
