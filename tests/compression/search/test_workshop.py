"""Pipelines made one step after the other, from a tiny random one."""

from __future__ import annotations

import contextlib
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import DocBin
from thinc.api import Config

from spacy_distil.cli.train import train
from spacy_distil.compression.budget import multiply_adds
from spacy_distil.compression.encoders import set_freeze, set_precision
from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.importance import measure_importance
from spacy_distil.compression.search import costs
from spacy_distil.compression.search.scores import score
from spacy_distil.compression.search.settings import Settings
from spacy_distil.compression.search.shapes import Shape
from spacy_distil.compression.search.workshop import Workshop, describe_shares
from spacy_distil.distillation.teacher import load_teacher
from tests.compression.conftest import build, nlp
from tests.pipeline.conftest import TEXTS, examples

__all__ = ["build", "nlp"]
STEPS = {"training": {"max_steps": 4, "eval_frequency": 2, "optimizer": {"learn_rate": 0.01}}}


@pytest.fixture(autouse=True)
def no_teacher_is_kept():
    yield
    load_teacher.cache_clear()


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch):
    monkeypatch.setattr(costs, "SECONDS", 0.02)


@pytest.fixture
def pipeline(nlp, tmp_path) -> str:
    nlp.config["training"]["score_weights"] = {"tag_acc": 0.5, "cats_macro_f": 0.5, "cats_score_desc": None}
    nlp.to_disk(tmp_path / "nlp")
    return str(tmp_path / "nlp")


@pytest.fixture
def labelled(nlp, tmp_path) -> str:
    docs = [example.reference for example in examples(nlp)]
    for doc, example in zip(docs, examples(nlp), strict=True):
        assert doc.text == example.predicted.text
    DocBin(docs=docs * 3).to_disk(tmp_path / "labelled.spacy")
    return str(tmp_path / "labelled.spacy")


@pytest.fixture
def bare(tmp_path) -> str:
    texts = [" ".join(text.split()) for text in TEXTS for _ in range(3)]  # spaCy scores no white space
    (tmp_path / "bare.txt").write_text("\n".join(texts) + "\n", encoding="utf8")
    return str(tmp_path / "bare.txt")


class Trainer:
    """Trains, and remembers what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, config: Path, folder: Path, resume: bool) -> Any:
        self.calls.append((folder.parent.name, resume))
        return train(config, folder, resume=resume)


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


@pytest.fixture
def make(pipeline, labelled, trainer, tmp_path):
    def make(**settings: Any) -> Workshop:
        given = {"max_drop": 50.0, "precisions": ["auto", "bfloat16"], **settings}
        return Workshop(
            tmp_path / "out",
            pipeline,
            labelled,
            Settings.from_block(given),
            train=trainer,
            dev=labelled,
            config=Config(STEPS),
        )

    return make


def shape_in(folder: str | Path) -> Any:
    return spacy.load(folder).get_pipe("distilbert").shim.encoder.config


def test_a_shape_is_made_step_by_step_each_in_its_folder(make, trainer, tmp_path):
    workshop = make(vocabulary=True)
    trials = {trial.name: trial for trial in workshop.try_shape(Shape(2, 0.5))}
    assert list(trials) == ["2-layers", "2-layers-bfloat16", "2-layers-50", "2-layers-50-bfloat16"]
    assert trainer.calls == [("2-layers", False), ("2-layers-50", False)]
    out = tmp_path / "out" / "trials"
    chain = ["2-layers-50-bfloat16", "2-layers-50", "2-layers", "word-pieces"]
    for name, before in pairwise(chain):
        assert trials[name].made_from == str(out / before / "model")
        assert trials[name].folder == str(out / name / "model")
    whole, cut = shape_in(workshop.pipeline), shape_in(out / "word-pieces" / "model")
    assert cut.vocab_size < whole.vocab_size
    flat, narrow = shape_in(trials["2-layers"].folder), shape_in(trials["2-layers-50"].folder)
    assert len(flat.layers) == len(narrow.layers) == 2
    assert flat.layers[0] == whole.layers[0]
    assert 0.3 < multiply_adds(narrow) / multiply_adds(flat) <= 0.5
    assert narrow.vocab_size == cut.vocab_size
    sizes = [trials[name].cost.disk for name in ("2-layers", "2-layers-50", "2-layers-50-bfloat16")]
    assert sizes == sorted(sizes, reverse=True)
    assert {path.name for path in (out / "2-layers").iterdir()} == {"model", "log.jsonl", "trial.json"}


def test_it_has_asked_the_whole_pipeline(make):
    workshop = make()
    workshop.try_shape(Shape(2))
    assert any(path.is_file() for path in (workshop.folder / "cache").rglob("*"))


def test_scores_and_drops_are_the_weighted_means(make, labelled):
    workshop = make()
    trial = workshop.try_shape(Shape(2))[0]
    model = spacy.load(trial.folder)
    weights = {name: weight for name, weight in model.config["training"]["score_weights"].items() if weight}
    scores, mean = score(model, workshop._read_held_out(model), weights)
    assert trial.scores == pytest.approx(scores)
    of_scores = [weights[name] for name in scores]
    assert trial.score == pytest.approx(mean) == pytest.approx(np.average(list(scores.values()), weights=of_scores))
    assert len(set(of_scores)) > 1
    assert trial.drop == pytest.approx(100 * (workshop.base.score - trial.score))
    assert workshop.base.drop == 0


def test_what_is_done_is_not_done_again(make, trainer):
    first = make().try_shape(Shape(2))
    again = make()
    assert again.try_shape(Shape(2)) == first
    assert trainer.calls == [("2-layers", False)]
    assert [trial.name for trial in again.read_trials()] == ["whole", "2-layers", "2-layers-bfloat16"]


def test_a_broken_training_goes_on_from_its_checkpoint(make, trainer, tmp_path, monkeypatch):
    from spacy_distil.distillation.training.output import Output

    saved = Output.save_checkpoint

    def break_down(self: Output, *args: Any) -> None:
        saved(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Output, "save_checkpoint", break_down)
    with pytest.raises(KeyboardInterrupt):
        make().try_shape(Shape(2))
    monkeypatch.undo()
    assert not (tmp_path / "out" / "trials" / "2-layers" / "model").exists()
    trials = make().try_shape(Shape(2))
    assert trainer.calls == [("2-layers", False), ("2-layers", True)]
    assert Path(trials[0].folder).is_dir()


def test_a_run_killed_between_the_renames_goes_on(make, trainer, tmp_path, monkeypatch):
    renamed = os.replace

    def stop(source: Any, target: Any) -> None:
        if Path(target).name == "model":
            raise KeyboardInterrupt
        renamed(source, target)

    workshop = make()
    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        workshop.try_shape(Shape(2))
    monkeypatch.undo()
    assert (tmp_path / "out" / "trials" / "2-layers" / "log.jsonl").exists()
    assert Path(make().try_shape(Shape(2))[0].folder).is_dir()


def test_what_a_killed_run_has_left_half_made_goes(make, tmp_path):
    make().try_shape(Shape(2))
    left = [tmp_path / "out" / name for name in (".timed-x", ".model-best-x", "trials/2-layers/.model-x")]
    for folder in left:
        (folder / "auto").mkdir(parents=True)
    before = {path for path in (tmp_path / "out").rglob("*") if not any(map(path.is_relative_to, left))}
    make()
    assert set((tmp_path / "out").rglob("*")) == before


def test_importance_is_measured_once_for_all_widths_of_a_depth(make, monkeypatch):
    measured = []

    def measure(nlp: Language, *args: Any) -> Any:
        measured.append(nlp.path)
        return measure_importance(nlp, *args)

    monkeypatch.setattr("spacy_distil.compression.slim.measure_importance", measure)
    workshop = make(precisions=["auto"])
    workshop.try_shape(Shape(2, 0.7))
    workshop.try_shape(Shape(2, 0.5))
    assert measured == [workshop.folder / "trials" / "2-layers" / "model"]


def test_a_pipeline_with_frozen_layers_is_made_smaller_too(make, nlp, pipeline):
    set_freeze(nlp, nlp.get_pipe("distilbert").shim, 2)
    nlp.to_disk(pipeline)
    workshop = make(precisions=["auto"])
    assert workshop.measure_shape(Shape(1))
    (trial,) = workshop.try_shape(Shape(1))
    assert spacy.load(trial.folder).get_pipe("distilbert").shim.options.freeze == 1  # layer 0 of those


def test_a_whole_pipeline_is_only_rounded(make, trainer):
    workshop = make()
    (half,) = workshop.try_shape(Shape(4))
    assert trainer.calls == []
    assert half.cost.disk < 0.75 * workshop.base.cost.disk
    assert half.made_from == workshop.pipeline


def test_weights_of_scores_in_the_config_hold_for_all(pipeline, labelled, trainer, tmp_path):
    weights = {"tag_acc": 1.0, "cats_score": 0.0, "cats_macro_f": 0.0}
    workshop = Workshop(
        tmp_path / "out",
        pipeline,
        labelled,
        Settings.from_block({"max_drop": 50.0, "precisions": ["auto"]}),
        train=trainer,
        dev=labelled,
        config=Config({"training": {**STEPS["training"], "score_weights": weights}}),
    )
    assert list(workshop.base.scores) == ["tag_acc"]
    assert list(workshop.try_shape(Shape(2))[0].scores) == ["tag_acc"]


def test_what_can_be_made(make):
    workshop = make()
    assert workshop.can_make(Shape(4, 0.5))
    assert not workshop.can_make(Shape(4, 0.1))  # of 4 heads and 48 neurons one and 16 have to stay


def test_costs_are_timed_once_and_kept(make, monkeypatch):
    timed = make().measure_shape(Shape(2, 0.5))
    assert timed[1].disk < timed[0].disk
    monkeypatch.setattr(Workshop, "_time", None)
    assert make().measure_shape(Shape(2, 0.5)) == timed


def test_the_size_of_a_shape_is_known_before_it_is_trained(make):
    workshop = make()
    timed = workshop.measure_shape(Shape(2, 0.5))
    made = [trial for trial in workshop.try_shape(Shape(2, 0.5)) if trial.shape.compute == 0.5]
    for cost, trial in zip(timed, made, strict=True):
        assert cost.disk == pytest.approx(trial.cost.disk, rel=0.12)


def test_a_corpus_without_labels_is_scored_by_agreement(pipeline, bare, trainer, tmp_path):
    said: list[str] = []
    workshop = Workshop(
        tmp_path / "out",
        pipeline,
        bare,
        Settings.from_block({"max_drop": 50.0, "precisions": ["auto"], "held_out": 0.5}),
        train=trainer,
        config=Config(STEPS),
        progress=said.append,
    )
    assert workshop.base.scores["tag_acc"] == 1.0
    assert any("agreement" in line for line in said)
    trained, held_out = (
        {example.reference.text for example in corpus}
        for corpus in (workshop._read_train(workshop.whole), workshop._read_held_out(workshop.whole))
    )
    assert trained
    assert held_out
    assert not trained & held_out
    assert 0 <= workshop.try_shape(Shape(1))[0].score <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": 0.9}, r"was made with coverage = 1.0, and not 0.9"),
        ({"vocabulary": True}, "vocabulary = False, and not True"),
    ],
)
def test_another_search_does_not_go_on_with_it(make, change, message):
    make()
    with pytest.raises(CompressionError, match=message):
        make(**change)


def test_another_pipeline_does_not_go_on_with_it(make, nlp, pipeline):
    make()
    load_teacher.cache_clear()
    nlp.meta["description"] = "trained again"
    nlp.to_disk(pipeline)
    with pytest.raises(CompressionError, match="was made with another"):
        make()


def test_a_corpus_that_was_written_again_is_another(make, labelled, nlp):
    make()
    DocBin(docs=[example.reference for example in examples(nlp)]).to_disk(labelled)
    with pytest.raises(CompressionError, match="was made with another corpus"):
        make()


def test_a_pipeline_in_int8_is_refused_before_anything_is_done(make, nlp, pipeline, tmp_path):
    set_precision(nlp, "int8")
    nlp.to_disk(pipeline)
    with pytest.raises(CompressionError, match="'distilbert' is in int8, which does not learn"):
        make()
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(make, tmp_path):
    (tmp_path / "out" / "model-best").mkdir(parents=True)
    with pytest.raises(CompressionError, match="There is no search in"):
        make()
    assert list((tmp_path / "out").rglob("*")) == [tmp_path / "out" / "model-best"]


def test_word_pieces_stay_as_they_were_where_the_settings_do_not_say(make):
    assert make(size="1GB").cuts_vocabulary
    assert make().cuts_vocabulary


def test_limits_may_change(make):
    make()
    assert make(max_drop=1.0, speedup=3.0, trials=1).settings.trials == 1


def test_layers_that_are_not_there(make):
    with pytest.raises(CompressionError, match="layers = 9: the pipeline's encoder has 4 layers"):
        make(layers=[9])


def test_a_named_shape_that_can_not_be_made(make, tmp_path):
    with pytest.raises(CompressionError, match=r"compute = 0\.001: with 2 layers, each of which keeps a head"):
        make(layers=[2], compute=[0.001])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pruning", "compute", "error"),
    [
        ({"pattern": "32x32"}, [0.5], "Blocks of 32x32 do not divide 8 rows of q_lin, k_lin and v_lin, which is 8x32"),
        ({"pattern": "8x32"}, [0.5], "Blocks of 8x32 do not divide 8 columns of out_lin, which is 32x8"),
        ({"pattern": "8x8"}, [0.5], None),
        ({"pattern": "32x16"}, [1.0], None),
        ({"sparsity": 1.5}, [1.0], r"\[pruning\] sparsity = 1\.5: it is the share of weights to prune"),
        ({"end": 10_000}, [1.0], r"\[pruning\] end = 10000 lies behind the last step of training"),
    ],
)
def test_pruning_that_would_break_a_later_training(pipeline, labelled, trainer, tmp_path, pruning, compute, error):
    block = {"sparsity": 0.5, "begin": 0, "end": 2, **pruning}
    callback = {"@callbacks": "spacy-distil.attach_pruning.v1"}

    def start(folder: Path, training: dict[str, Any]) -> None:
        settings = Settings.from_block({"layers": [2], "compute": compute})
        config = Config({"training": training, "pruning": block})
        Workshop(folder, pipeline, labelled, settings, train=trainer, dev=labelled, config=config)

    with contextlib.nullcontext() if error is None else pytest.raises(CompressionError, match=error):
        start(tmp_path / "out", {**STEPS["training"], "before_update": callback})
    assert (tmp_path / "out").exists() == (error is None)
    start(
        tmp_path / "not pruned", STEPS["training"]
    )  # a block alone, as in the config of a pipeline that was pruned once


def test_a_corpus_that_gives_no_score(make, nlp, pipeline, tmp_path):
    nlp.config["training"]["score_weights"] = {**dict.fromkeys(nlp.config["training"]["score_weights"]), "ents_f": 1.0}
    nlp.to_disk(pipeline)
    with pytest.raises(CompressionError, match=r"no score that has a weight.*ents_f"):
        make()
    assert not (tmp_path / "out").exists()


def test_weights_can_be_pruned_on_the_way(pipeline, labelled, trainer, tmp_path):
    pruning = {"sparsity": 0.5, "method": "magnitude", "begin": 0, "end": 2, "every": 1}
    callback = {"@callbacks": "spacy-distil.attach_pruning.v1"}
    workshop = Workshop(
        tmp_path / "out",
        pipeline,
        labelled,
        Settings.from_block({"layers": [2], "compute": [1.0], "precisions": ["auto", "bfloat16"]}),
        train=trainer,
        dev=labelled,
        config=Config({"training": {**STEPS["training"], "before_update": callback}, "pruning": pruning}),
    )
    auto, half = workshop.try_shape(Shape(2))
    for trial in (auto, half):
        weight = spacy.load(trial.folder).get_pipe("distilbert").shim.encoder.layers[0].ffn.lin1.weight
        assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)
    assert half.cost.disk < auto.cost.disk < workshop.base.cost.disk


def test_shares_of_the_time_are_told_from_the_longest() -> None:
    assert describe_shares({"ner": 1.0, "distilbert": 2.99, "sentencizer": 0.01}) == "distilbert 75%, ner 25%"
