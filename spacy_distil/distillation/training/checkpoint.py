"""The checkpoint that a broken run goes on from: one file of safetensors, with all that is not a tensor as JSON in its head.

It stands beside `model-best` and `model-last`, which are for use: pipelines with averaged weights, without the optimiser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from spacy.language import Language

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.randomness import RandomState
from spacy_distil.distillation.training.safe_writes import write_file
from spacy_distil.distillation.training.state import Tensors
from spacy_distil.encoder.saved import write_tensors

METADATA, FORMAT = "spacy_distil_checkpoint", "2"
SECTIONS = ("nlp", "components", "corpora", "initialize", "training", "pruning")
# What a run may be resumed with another value of.
FREE = (
    "training.max_steps",
    "training.patience",
    "training.logger",
    "training.gpu_allocator",
    "distillation.cache",
)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds beside its tensors.

    settings: see `settings_of`.
    history: the run's evaluations, the last of which this checkpoint stands at. See `loop.train` for the fields.
    corpus: the random state from which the run drew its first batch.
    values: those of `state.capture`.
    finished: the run has come to its end. Such a checkpoint has no tensors, and as values the limit that ended it.
    """

    settings: dict[str, Any]
    history: list[dict[str, Any]]
    corpus: RandomState
    values: dict[str, Any]
    finished: bool = False

    @property
    def step(self) -> int:
        return self.history[-1]["step"]

    def write(self, path: Path, tensors: Tensors) -> None:
        about = {**vars(self), "format": FORMAT, "corpus": self.corpus.to_json()}
        metadata = {METADATA: json.dumps(about)}
        write_file(path, lambda draft: write_tensors(tensors, draft, metadata))

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """RAISES: DistillationError if the file is not there, damaged, or of another version."""
        if not path.exists():
            raise DistillationError(
                f"There is no checkpoint {str(path)!r} to go on from: the run was broken before its first evaluation, or the "
                "output directory is another one. Train without --resume."
            )
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})[METADATA])
            version = about.pop("format")
        except (SafetensorError, ValueError, KeyError) as error:
            raise DistillationError(
                f"{str(path)!r} is no checkpoint of `distil train`, or damaged ({type(error).__name__}: {error}). "
                "Train without --resume."
            ) from None
        if version != FORMAT:
            raise DistillationError(
                f"{str(path)!r} is of the format {version!r}, and this version of spacy-distil reads {FORMAT!r}. Go on with "
                "the version that wrote it, or train without --resume."
            )
        return cls(**{**about, "corpus": RandomState.from_json(about["corpus"])})

    def check(self, settings: Mapping[str, Any]) -> None:
        """RAISES: DistillationError that names the fields in which settings differ from the checkpoint's."""
        differ = [
            f"{name} = {settings.get(name)!r} (in the checkpoint: {self.settings.get(name)!r})"
            for name in sorted(settings.keys() | self.settings.keys())
            if settings.get(name) != self.settings.get(name)
        ]
        if differ:
            raise DistillationError(
                f"The run can't be resumed with other settings: {'; '.join(differ[:3])}{' and more' * (len(differ) > 3)}. Set "
                "them back, or train without --resume. Only max_steps, patience and logger of [training] may change."
            )

    def check_end(self, training: Mapping[str, Any]) -> None:
        """RAISES: DistillationError if the run has come to its end, and would not have with the limits of [training]."""
        name, limit = self.values["ended_by"]
        if limit and (not training[name] or training[name] > limit):
            raise DistillationError(
                f"The run came to its end at step {self.step}, by {name} = {limit}, and with that went the state from which it "
                f"could go on to {name} = {training[name]}. Train anew, without --resume. Or train what it has learnt on: "
                "another output directory, and a config whose components have its model-last as their source."
            )


def read_tensors(path: Path) -> Tensors:
    with safe_open(path, framework="pt") as file:
        # Tensors come as a view of the file, which the next checkpoint replaces.
        return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def settings_of(nlp: Language) -> dict[str, Any]:
    """What has to be as it was for a run to be resumed: the fields of the config by their dotted names, those that the update
    was made from, the labels of the components, and the teachers' files."""
    config: dict[str, Any] = nlp.config.interpolate()
    chosen = {section: config.get(section, {}) for section in SECTIONS}
    chosen["distillation"] = getattr(nlp.update, "block", {})
    flat = {name: value for name, value in _flatten(chosen) if not f"{name}.".startswith(tuple(f"{f}." for f in FREE))}
    labels = {f"labels of {name}": list(map(str, getattr(pipe, "labels", []))) for name, pipe in nlp.pipeline}
    teachers = getattr(nlp.update, "teachers", [])
    digests = {f"digest of the files of teacher {i}": teacher.digest for i, teacher in enumerate(teachers, start=1)}
    return json.loads(json.dumps({**flat, **labels, **digests}))


def _flatten(block: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in block.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
