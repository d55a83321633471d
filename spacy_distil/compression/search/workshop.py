"""Where smaller pipelines are made: distilled into fewer layers, pruned of heads and neurons, rounded, one step after the
other, each in a folder of its own.

    held_out.spacy              what all are scored on
    costs.json                  what shapes cost before any training
    cache                       what the whole pipeline says of the corpus
    trials/word-pieces          the whole pipeline without the word pieces that the corpus does not use
    trials/3-layers             trained with three layers, made from the one before
    trials/3-layers-50          half of their multiply-adds, made from trials/3-layers, and trained
    trials/3-layers-50-int8     its weights rounded

A step's folder has its pipeline in `model`, and `trial.json` once it is scored; until then, what its training goes on from if
it is broken.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import Config
from thinc.util import get_torch_default_device

from spacy_distil.compression.budget import check_budget, smallest_parts
from spacy_distil.compression.encoders import check_trainable, find_encoders
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.importance import Importance
from spacy_distil.compression.labels import with_own_labels
from spacy_distil.compression.quantization import quantize
from spacy_distil.compression.retraining import NAME, make_retraining_config
from spacy_distil.compression.search.costs import Stopwatch
from spacy_distil.compression.search.past import check_past, digest_files, read_past
from spacy_distil.compression.search.scores import score
from spacy_distil.compression.search.settings import Settings
from spacy_distil.compression.search.shapes import Shape, depth_of, even_parts, spread_layers
from spacy_distil.compression.search.strategy import make_grid
from spacy_distil.compression.search.trial import FILE, Cost, Trial
from spacy_distil.compression.slim import cut, measure_sample, slim
from spacy_distil.compression.sparsity.attach import CALLBACK as PRUNING_CALLBACK
from spacy_distil.compression.sparsity.attach import check_length
from spacy_distil.compression.sparsity.settings import BLOCK as PRUNING
from spacy_distil.compression.sparsity.settings import Settings as PruningSettings
from spacy_distil.compression.structured import shape_of, whole_layers
from spacy_distil.corpora.text import TextCorpus
from spacy_distil.distillation.settings import BLOCK as DISTILLATION
from spacy_distil.distillation.teacher import Teacher, load_teacher
from spacy_distil.drafts import new_file, new_folder, write_json
from spacy_distil.encoder.int8 import largest_weight
from spacy_distil.encoder.precision import resolve_precision
from spacy_distil.encoder.shim import DistilBertShim
from spacy_distil.evaluation.measure import time_components
from spacy_distil.evaluation.sources import texts_with_questions
from spacy_distil.pipeline.distilbert import DistilBert

WHOLE = "whole"
FEW = 100  # texts
CALIBRATED = 400  # texts
# Unless the config says others: what is left of an encoder learns the whole one's hidden states too.
HIDDEN_WEIGHT = 1.0
STATES_WEIGHT = 0.1  # of questions, whose losses are as many as their pieces
SCRATCH = ".timed-"
LEFT_BEHIND = (f"{SCRATCH}*", ".model-best-*", "trials/*/.*-*/")
"""Folders that a run has not finished and could not take away: it was killed."""
MODEL, UNTRAINED, TRAINING = "model", "untrained", "training"

Train = Callable[[Path, Path, bool], Any]
"""Takes a config, the folder to train in, and whether to go on from the checkpoint that is there."""


class Workshop:
    """Makes the pipelines of a search and measures them. What it finds done in its folder, it does not do again.

    whole: the pipeline that is made smaller. It teaches all that are made of it, without the word pieces that they lack too.
    """

    def __init__(
        self,
        folder: Path,
        pipeline: str,
        corpus: str,
        settings: Settings,
        *,
        train: Train,
        dev: str | None = None,
        config: Config | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """
        dev: the corpus on which all are scored; None: a part of `corpus` that nothing is trained on.
        config: what holds in every training in place of the pipeline's own settings.
        RAISES: CompressionError for a pipeline without an encoder, or with one in int8, numbers of layers that it has not,
            named shapes that can't be made, a [pruning] that can't be done, a corpus on which it has no score, and a folder in
            which another search stands; EncoderError for int8 where it does not run; TeacherError and CorpusError for what
            can't be read.
        """
        self.folder, self.pipeline, self.corpus, self.dev = folder, pipeline, corpus, dev
        self.settings, self.config = settings, config or Config()
        self._train, self._progress = train, progress
        self._importance: dict[Path, dict[str, Importance]] = {}
        self.whole = load_teacher(pipeline)
        encoders = find_encoders(self.whole)
        self.depth = depth_of(encoders)
        for layers in settings.layers or ():
            if not 1 <= layers <= self.depth:
                raise CompressionError(f"layers = {layers}: the pipeline's encoder has {self.depth} layers.")
        check_trainable(encoders)
        if settings.is_grid:
            make_grid(self, settings, settings.layers or ())
        self._check_pruning(encoders)
        self.precisions = choose_precisions(settings)
        of_config = self.config.get("training", {}).get("score_weights", {})
        weights = {**self.whole.config["training"]["score_weights"], **of_config}
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._held_out = folder / "held_out.spacy"
        is_new = not folder.exists() or not any(folder.iterdir())
        try:
            self.cuts_vocabulary = self._check_same()
            if not self._held_out.exists():
                self._write_held_out()
            examples = self._read_held_out(self.whole)
            texts = texts_with_questions(self.whole, examples)
            self._stopwatch = Stopwatch(self.whole, texts)
            self.base = self._try(WHOLE, self._whole_path, None, Shape(self.depth), "auto")
        except BaseException:
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._progress(f"Where its time goes: {describe_shares(time_components(self.whole, texts[:FEW]))}")
        for left in (path for pattern in LEFT_BEHIND for path in folder.glob(pattern)):
            shutil.rmtree(left)

    def _check_pruning(self, encoders: Mapping[str, DistilBertShim]) -> None:
        """Find out now what would break a training, the first or one after it. A block without its callback prunes nothing."""
        config = make_retraining_config(self.whole, pipeline=self.pipeline, teacher=self.pipeline).merge(self.config)
        callback = config["training"]["before_update"] or {}
        if PRUNING not in config or callback.get("@callbacks") != PRUNING_CALLBACK:
            return
        config = config.interpolate()
        pruning = PruningSettings.from_block(config[PRUNING])
        check_length(pruning.schedule.end, config["training"])
        if min(self.settings.compute or (0.0,)) < 1:
            for shim in encoders.values():
                pruning.selection.pattern.check(smallest_parts(shim.encoder.config))

    # What is tried

    def can_make(self, shape: Shape) -> bool:
        """Whether each encoder's layers can lose so much: a head and some neurons of each have to stay."""
        encoders = find_encoders(self.whole)
        for name, layers in spread_layers(encoders, shape.layers).items():
            config = encoders[name].encoder.config
            try:
                check_budget(shape_of(config, whole_layers(config, layers)), shape.compute)
            except CompressionError:
                return False
        return True

    def measure_shape(self, shape: Shape) -> list[Cost]:
        """What it costs in each precision, before any training: whichever heads and neurons stay, it costs the same."""
        file = self.folder / "costs.json"
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf8")) if file.exists() else {}
        costs = known.get(shape.name, {})
        if not set(self.precisions) <= costs.keys():
            self._progress(f"Timing {shape.name}")
            costs = {precision: vars(cost) for precision, cost in self._time(shape).items()}
            write_json(file, {**known, shape.name: costs})
        return [Cost(**costs[precision]) for precision in self.precisions]

    def try_shape(self, shape: Shape) -> list[Trial]:
        """Make a shape and train it, and score it in each precision, after the whole layers that it is made from. The whole
        pipeline as it is is no trial."""
        trials = self.try_shape(shape.whole_layers) if shape.compute < 1 else []
        made, before = self._make(shape)
        for precision in self.precisions:
            if precision != "auto":
                name = f"{shape.name}-{precision}"
                model = self._trial(name) / MODEL
                if not model.exists():
                    self._round(made, precision, model)
                trials.append(self._try(name, model, made, shape, precision))
            elif made != self._whole_path:
                trials.append(self._try(shape.name, made, before, shape, precision))
        return trials

    def read_trials(self) -> list[Trial]:
        """All that have been scored, the whole pipeline first."""
        files = sorted(
            self.folder.glob(f"trials/*/{FILE}"), key=lambda path: (path.parent.name != WHOLE, path.parent.name)
        )
        return [Trial.read(path) for path in files]

    # How it is made

    def _make(self, shape: Shape) -> tuple[Path, Path | None]:
        """The trained pipeline of a shape, and the one that it is made from."""
        if shape == Shape(self.depth):
            return self._start, None if self._start == self._whole_path else self._whole_path
        before = self._start if shape.compute == 1 else self._make(shape.whole_layers)[0]
        folder = self._trial(shape.name)
        if not (folder / MODEL).exists():
            self._progress(f"Making {shape.name} from {before}")
            if not (folder / UNTRAINED).exists():
                self._slim(before, shape, folder / UNTRAINED)
            checkpoint = folder / TRAINING / "checkpoint.safetensors"
            self._train(folder / UNTRAINED / NAME, folder / TRAINING, checkpoint.exists())
            if (folder / TRAINING / "log.jsonl").exists():  # not if a killed run got so far
                os.replace(folder / TRAINING / "log.jsonl", folder / "log.jsonl")
            os.replace(folder / TRAINING / "model-best", folder / MODEL)
        for name in (UNTRAINED, TRAINING):
            shutil.rmtree(folder / name, ignore_errors=True)
        return folder / MODEL, before

    def _slim(self, before: Path, shape: Shape, untrained: Path) -> None:
        nlp = spacy.load(before)
        if shape.compute < 1:
            if before not in self._importance:  # all widths of so many layers are chosen by it
                examples = list(self._read_train(nlp))
                self._importance[before] = measure_sample(nlp, examples, sample=self.settings.sample)
            slim(nlp, compute=shape.compute, importance=self._importance[before])
        else:
            slim(nlp, layers=spread_layers(find_encoders(nlp), shape.layers))
        with new_folder(untrained) as draft:
            nlp.to_disk(draft)
            self._make_config(nlp, untrained).to_disk(draft / NAME, interpolate=False)

    def _make_config(self, nlp: Language, untrained: Path) -> Config:
        """By which it learns from the pipeline that all are made from, which has the same word pieces. All trainings ask for
        the same answers: they are kept."""
        config = make_retraining_config(nlp, pipeline=str(untrained), teacher=str(self._start))
        reader = {"@readers": "spacy-distil.TextCorpus.v1"}
        config["corpora"]["train"] = {**reader, "path": self.corpus, "held_out": self._held_out_share}
        config["corpora"]["dev"] = {**reader, "path": str(self._held_out)}
        config["training"].update(train_corpus="corpora.train", dev_corpus="corpora.dev")
        config[DISTILLATION]["cache"]["folder"] = str(self.folder / "cache")
        if shared := [name for name, pipe in nlp.components if isinstance(pipe, DistilBert)]:
            config[DISTILLATION]["hidden"].update(weight=HIDDEN_WEIGHT, student=shared[0], teacher=shared[0])
        config[DISTILLATION]["states_weight"] = STATES_WEIGHT
        return config.merge(self.config)

    def _round(self, made: Path, precision: str, target: Path) -> None:
        nlp = spacy.load(made)
        examples = list(islice(self._read_train(nlp), CALIBRATED)) if precision == "int8" else []
        quantize(nlp, precision, examples)  # type: ignore[arg-type]
        with new_folder(target) as draft:
            nlp.to_disk(draft)

    @cached_property
    def _start(self) -> Path:
        """The pipeline from which all are made: the whole one, or that without some word pieces."""
        if not self.cuts_vocabulary:
            return self._whole_path
        model = self._trial("word-pieces") / MODEL
        if not model.exists():
            self._progress("Counting word pieces")
            nlp = spacy.load(self._whole_path)
            slim(nlp, list(self._read_train(nlp)), coverage=self.settings.coverage)
            with new_folder(model) as draft:
                nlp.to_disk(draft)
        return model

    @property
    def _whole_path(self) -> Path:
        assert self.whole.path is not None
        return self.whole.path

    def _trial(self, name: str) -> Path:
        return self.folder / "trials" / name

    # How it is measured

    def _time(self, shape: Shape) -> dict[str, Cost]:
        nlp = spacy.load(self._start)
        encoders = find_encoders(nlp)
        for name, layers in spread_layers(encoders, shape.layers).items():
            parts = even_parts(encoders[name].encoder.config, layers, shape.compute)
            cut(nlp, encoders[name], parts)
        costs = {}
        with TemporaryDirectory(prefix=SCRATCH, dir=self.folder) as scratch:
            nlp.to_disk(Path(scratch) / "auto")
            for precision in self.precisions:
                path = Path(scratch) / precision
                if precision != "auto":
                    self._round(Path(scratch) / "auto", precision, path)
                costs[precision] = self._stopwatch.measure(spacy.load(path), path)
        return costs

    def _try(self, name: str, model: Path, made_from: Path | None, shape: Shape, precision: str) -> Trial:
        file = self._trial(name) / FILE
        if not file.exists():
            self._progress(f"Scoring {name}")
            nlp = self.whole if model == self._whole_path else spacy.load(model)
            scores, mean = score(nlp, self._read_held_out(nlp), self._weights)
            trial = Trial(
                name=name,
                folder=str(model),
                made_from=None if made_from is None else str(made_from),
                shape=shape,
                precision=precision,
                cost=self._stopwatch.measure(nlp, model),
                score=mean,
                drop=0.0 if name == WHOLE else 100 * (self.base.score - mean),
                scores=scores,
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            trial.write(file)
        return Trial.read(file)

    # What is read

    def _read_train(self, nlp: Language) -> Iterable[Example]:
        return TextCorpus(self.corpus, held_out=self._held_out_share)(nlp)

    @property
    def _held_out_share(self) -> float:
        return 0.0 if self.dev else self.settings.held_out

    def _read_held_out(self, nlp: Language) -> list[Example]:
        return list(TextCorpus(str(self._held_out))(nlp))

    def _write_held_out(self) -> None:
        """What all are scored on; where the corpus annotates nothing, the whole pipeline's own annotation stands in."""
        settings = self.settings
        if self.dev:
            examples = list(TextCorpus(self.dev)(self.whole))
        else:
            corpus = TextCorpus(self.corpus, held_out=settings.held_out, part="held_out")
            examples = list(corpus(self.whole))
            examples = random.Random(0).sample(examples, min(settings.scored, len(examples)))
        if len(examples) < FEW:
            self._progress(f"Only {len(examples)} texts are held out to score on: small differences will say little")
        labelled = with_own_labels(self.whole, examples)
        if any(new.reference is not old.reference for new, old in zip(labelled, examples, strict=True)):
            self._progress(
                "The corpus does not annotate all components: their scores are agreement with the whole pipeline"
            )
        docs = DocBin(docs=[example.reference for example in labelled], store_user_data=True)
        with new_file(self._held_out) as draft:
            docs.to_disk(draft)

    def _check_same(self) -> bool:
        """What has been done can be used again if it was done with the same pipeline, texts and training.

        RETURNS: whether word pieces are removed: as before, where the settings don't say.
        """
        past = read_past(self.folder)
        vocabulary = self.settings.cuts_vocabulary
        if self.settings.vocabulary is None:
            vocabulary = past.get("vocabulary", vocabulary)
        now = {
            "pipeline": Teacher(self.whole, ()).digest,
            "corpus": digest_files([self.corpus, *([self.dev] if self.dev else [])]),
            "vocabulary": vocabulary,
            **{name: getattr(self.settings, name) for name in ("coverage", "held_out", "scored", "sample")},
            "device": get_torch_default_device().type,
            **{f"[{name}]": block for name, block in self.config.items()},
        }
        check_past(self.folder, past, now)
        return vocabulary


def describe_shares(seconds: Mapping[str, float]) -> str:
    """What each component takes of the time of all, the longest first: what is no encoder hardly becomes faster."""
    total = sum(seconds.values())
    shares = sorted(((of / total, name) for name, of in seconds.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)


def choose_precisions(settings: Settings) -> list[str]:
    """RAISES: EncoderError for int8 where it does not run."""
    device = get_torch_default_device()
    if settings.precisions is None:
        return ["auto", "int8" if device.type == "cpu" and largest_weight() is not None else "bfloat16"]
    if "int8" in settings.precisions:
        resolve_precision("int8", device)
    return list(settings.precisions)
