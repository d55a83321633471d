"""`python -m spacy distil import`: a Hugging Face model with a head, as a spaCy pipeline."""

import warnings
from pathlib import Path
from typing import Annotated

from spacy.cli._util import Arg, Opt
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import check_free, writing


@distil.command("import")
def import_cli(
    name: Annotated[str, Arg(help="Hub id, folder, or package:module/folder of a DistilBERT or BERT")],
    output: Annotated[Path, Arg(help="Folder for the pipeline")],
    lang: Annotated[str, Opt("--lang", help="The pipeline's language, as in spacy.blank")] = "en",
    revision: Annotated[str | None, Opt("--revision", help="Branch, tag or commit of a hub id")] = None,
    component: Annotated[str | None, Opt("--name", "-n", help="Name of the component [default: its factory's]")] = None,
    labels: Annotated[
        str | None, Opt("--labels", help="Names for the labels, in the order of the head's rows, with commas between")
    ] = None,
    precision: Annotated[
        str, Opt("--precision", help="What the encoder computes in: float32, bfloat16, auto")
    ] = "float32",
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
) -> None:
    """
    Turn a DistilBERT or BERT of Hugging Face's into a ready pipeline. Sequence classification becomes textcat_exclusive, or
    textcat_multilabel; token classification entity_tagger, or tagger where the labels are no entities; question answering
    distilbert_qa; masked language modelling distilbert_mlm. In float32 the scores are those of transformers' pipelines.

    python -m spacy distil import distilbert-base-uncased-finetuned-sst-2-english sentiment --name sentiment
    """
    from spacy_distil.drafts import new_folder
    from spacy_distil.errors import CheckpointError, ComponentError, EncoderError
    from spacy_distil.hub.importing import import_model

    check_free(output, force)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            nlp, added = import_model(
                name,
                revision=revision,
                lang=lang,
                component=component,
                labels=None if labels is None else [label.strip() for label in labels.split(",")],
                precision=precision,  # type: ignore[arg-type]
            )
        except (CheckpointError, ComponentError, EncoderError) as error:
            msg.fail(f"Can't import {name}", str(error), exits=1)
    for warning in caught:
        if warning.category is UserWarning:
            msg.warn(str(warning.message))
    with writing(output), new_folder(output) as draft:
        nlp.to_disk(draft)
    msg.good(f"Wrote {output}: {', '.join(nlp.pipe_names)}")
    if tags := getattr(nlp.get_pipe(added), "labels", ()):
        msg.text(f"Labels of {added}: {', '.join(tags)}")
