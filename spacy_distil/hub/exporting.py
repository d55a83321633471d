"""A component, as a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spacy.language import Language

from spacy_distil.encoder.checkpoint import fill_up, write_checkpoint
from spacy_distil.errors import ExportError
from spacy_distil.hub.encoders import find_encoder, in_float32
from spacy_distil.hub.heads import HEADS, bare, head_of_component
from spacy_distil.hub.heads.head import Head
from spacy_distil.hub.model import HubFolder
from spacy_distil.hub.onnx import load_onnx, write_onnx

TOLERANCE = 1e-3
SAMPLES = (
    "The staff at the Hotel Marlow in Bruges were kind.",
    "€180 for a room this noisy is a joke [MASK]",
    "Naïve café, 中国: don't!",
)


@dataclass(frozen=True)
class Export:
    """A component on its way out.

    name: of the component.
    head: what it is written as.
    folder: what is written.
    is_whole: the whole component is written, and not only the encoder of one that Hugging Face has no head for.
    """

    name: str
    head: Head
    folder: HubFolder
    is_whole: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        return self.folder.notes

    @property
    def has_head(self) -> bool:
        return self.head.suffix != bare.SUFFIX

    @property
    def written(self) -> str:
        """What to call in a message what is written."""
        return self.name if self.is_whole else f"the encoder of {self.name}"

    def write(self, path: Path) -> None:
        """Write the folder, all or nothing. Raises CheckpointError where Hugging Face has no config for the encoder's shape, or
        the folder has something in it."""
        checkpoint = self.folder.checkpoint
        write_checkpoint(
            path,
            checkpoint.build(),
            checkpoint.tokenizer,
            head=self.folder.head if self.has_head else None,
            architectures=[self.folder.architecture],
            **self.folder.config,
        )

    def write_onnx(self, path: Path, nlp: Language) -> float:
        """Write `model.onnx` into the folder that `write` wrote.

        nlp: the pipeline, for the check.
        RETURNS: the largest difference between what the component, or the encoder where that alone is written, says of some
            texts and what it would say after ONNX Runtime's outputs, both in float32.
        Raises ExportError where that is more than rounding.
        """
        model = write_onnx(path, self.folder.architecture, self.head.outputs)
        shim = find_encoder(nlp, self.name)
        assert shim is not None
        with in_float32(shim):
            difference = self.head.difference(
                nlp, self.name, SAMPLES, load_onnx(model, self.folder.checkpoint.tokenizer)
            )
        if not difference <= TOLERANCE:
            raise ExportError(
                f"In ONNX Runtime the outputs differ from those of {self.written} by {difference:.1e}: nothing was written. "
                f"At most {TOLERANCE:.0e} is rounding. Try other versions of torch and onnxruntime."
            )
        return difference


def prepare_export(nlp: Language, component: str | None = None) -> Export:
    """Find out what a component is written as.

    component: None: the only one with a head of Hugging Face's, or where there is none the encoder.
    Raises ExportError where there is no such component, several could be meant, or it has another encoder.
    """
    name = _choose(nlp) if component is None else component
    if name not in nlp.component_names:
        raise ExportError(f"The pipeline has no component {name!r}. It has {', '.join(nlp.component_names)}.")
    shim = find_encoder(nlp, name)
    if shim is None:
        raise ExportError(
            f"The component {name!r} neither has an encoder of the architecture spacy-distil.DistilBert.v1 nor listens to one: "
            "there is nothing in it that Hugging Face's classes know."
        )
    pipe: Any = nlp.get_pipe(name)
    head = head_of_component(pipe)
    if head is not None:
        return Export(name, head, _fill_up(head.write(pipe, shim)))
    (encoder,) = (head for head in HEADS if head.suffix == bare.SUFFIX)
    folder = bare.write(pipe, shim)
    architecture = nlp.config["components"].get(name, {}).get("model", {}).get("@architectures")
    note = (
        f"Hugging Face has no head for {name!r}, a {type(pipe).__name__} of the architecture {architecture}: what is written "
        f"is the encoder alone, a {folder.architecture}. There is one for text classifiers of spacy-distil.TextCatCls.v1, and "
        "for tagger and entity_tagger of spacy.Tagger.v2."
    )
    return Export(
        name, encoder, _fill_up(HubFolder(folder.checkpoint, folder.architecture, notes=(note,))), is_whole=False
    )


def _fill_up(folder: HubFolder) -> HubFolder:
    checkpoint = fill_up(folder.checkpoint)
    if checkpoint is folder.checkpoint:
        return folder
    note = (
        "The encoder's layers were made smaller, which no config.json can say: what is missing of their heads, and of their "
        "neurons up to those of the widest layer, is written as zeros. The scores are the same, at the size of whole layers."
    )
    return replace(folder, checkpoint=checkpoint, notes=(*folder.notes, note))


def _choose(nlp: Language) -> str:
    heads = {name: head_of_component(pipe) for name, pipe in nlp.pipeline if find_encoder(nlp, name) is not None}
    found = [name for name, head in heads.items() if head is not None and head.suffix != bare.SUFFIX]
    if len(found) > 1:
        raise ExportError(
            f"The pipeline has {len(found)} components with a head of Hugging Face's: {', '.join(found)}. A folder holds one: "
            "name it by --component."
        )
    encoders = [name for name, head in heads.items() if head is not None and head.suffix == bare.SUFFIX]
    if not found and len(encoders) != 1:
        raise ExportError(
            f"The pipeline has no component that Hugging Face's classes know, and {len(encoders)} encoders. It has "
            f"{', '.join(nlp.component_names) or 'no components'}. Name one by --component."
        )
    return found[0] if found else encoders[0]
