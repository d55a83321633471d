"""The block [pruning] in training: `spacy train`, beside a teacher, broken and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_loop
from thinc.api import Config

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.sparsity.attach import CALLBACK
from spacy_distil.compression.sparsity.report import measure_sparsity
from spacy_distil.compression.sparsity.settings import BLOCK, DEFAULTS, DOCUMENTED, Settings
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.update import DistillationUpdate
from spacy_distil.encoder.zeros import Zeros
from tests.distillation.conftest import teacher, teacher_path
from tests.distillation.test_resume import assert_same_run, train, until
from tests.distillation.test_update import student_config
from tests.distillation.toy import config, sentences, write_corpus

__all__ = ["teacher", "teacher_path"]
HEADS = ("textcat", "ner")
PRUNING = {"sparsity": 0.8, "begin": 1, "end": 8, "every": 2}
SHARE = pytest.approx(0.8, abs=1e-3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    write_corpus(path / "train.spacy", sentences(40, seed=1, annotate="sentiment"))
    write_corpus(path / "dev.spacy", sentences(20, seed=2, annotate="sentiment"))
    return path


def pruned_config(student: Config, encoder: Path, slot: str, **block: Any) -> Config:
    """A config on a DistilBERT, with the callback in `training.before_update` or `initialize.after_init`."""
    model = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(encoder), "precision": "float32"}
    student["nlp"]["lang"] = "xx"
    student["components"]["tok2vec"] = {"factory": "distilbert", "model": model}
    for head in HEADS:
        student["components"][head]["model"]["tok2vec"]["width"] = 32
    student["training"].update({"eval_frequency": 4, "max_steps": 12})
    section, name = slot.split(".")
    student.setdefault(section, {})[name] = {"@callbacks": CALLBACK}
    student[BLOCK] = {**PRUNING, **block}
    return student


def from_gold(corpus: Path, encoder: Path, slot: str = "training.before_update", **block: Any) -> Config:
    student = Config().from_str(config(heads=HEADS), interpolate=False)
    student["paths"].update(train=str(corpus / "train.spacy"), dev=str(corpus / "dev.spacy"))
    return pruned_config(student, encoder, slot, **block)


def from_teacher(corpus: Path, encoder: Path, teacher_path: Path, **block: Any) -> Config:
    student = student_config(corpus, teacher_path, heads=HEADS, labels=HEADS)
    return pruned_config(student, encoder, "training.before_update", **block)


def sparsity(path: Path) -> float:
    counted = measure_sparsity(spacy.load(path))
    layers = [counted[kind] for kind in ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2")]
    return sum(kind.zeros for kind in layers) / sum(kind.weights for kind in layers)


@pytest.mark.parametrize("slot", ["training.before_update", "initialize.after_init"])
def test_spacy_train_prunes_by_nothing_but_a_config(distilbert_folder, corpus, tmp_path, slot):
    from_gold(corpus, distilbert_folder, slot).to_disk(tmp_path / "config.cfg")
    spacy_train(tmp_path / "config.cfg", tmp_path / "out")
    assert sparsity(tmp_path / "out" / "model-best") == SHARE
    assert sparsity(tmp_path / "out" / "model-last") == SHARE
    nlp = spacy.load(tmp_path / "out" / "model-last")
    assert nlp.meta["requirements"] == ["spacy-distil>=0.2.0"]
    assert nlp.evaluate.__func__ is Language.evaluate  # type: ignore[attr-defined]
    assert type(nlp.get_pipe("tok2vec").shim.zeros) is Zeros  # type: ignore[attr-defined]


def test_the_best_pipeline_is_one_that_is_pruned(distilbert_folder, corpus, tmp_path):
    """However good it was before, and however little patience there is."""
    student = from_gold(corpus, distilbert_folder)
    student["training"].update(patience=5, max_steps=20)
    nlp = init_nlp(student)
    falling = iter([0.9, 0.8, 0.1, 0.2, 0.15, 0.15])
    nlp.evaluate = lambda examples: {"cats_score": next(falling), "ents_f": 0.0}  # type: ignore[method-assign]
    (tmp_path / "out").mkdir()
    spacy_loop(nlp, tmp_path / "out")
    meta = json.loads((tmp_path / "out" / "model-best" / "meta.json").read_text())
    assert meta["performance"]["cats_score"] == 0.2
    assert sparsity(tmp_path / "out" / "model-best") == SHARE


@pytest.fixture(scope="module")
def unbroken(distilbert_folder, corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    train(init_nlp(from_gold(corpus, distilbert_folder)), output)
    return output


def broken(nlp: Language, output: Path, step: int) -> None:
    nlp.update = until(step, nlp.update, KeyboardInterrupt())  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        train(nlp, output)


@pytest.mark.parametrize("step", [3, 6, 11])
def test_a_broken_run_goes_on(distilbert_folder, corpus, unbroken, tmp_path, step):
    """From before the first choice, from the middle of pruning, and from its end: evaluations are every fourth step."""
    broken(init_nlp(from_gold(corpus, distilbert_folder)), tmp_path, step)
    train(init_nlp(from_gold(corpus, distilbert_folder)), tmp_path, resume=True)
    assert_same_run(tmp_path, unbroken)
    assert sparsity(tmp_path / "model-best") == SHARE


def test_a_run_does_not_go_on_with_another_sparsity(distilbert_folder, corpus, tmp_path):
    broken(init_nlp(from_gold(corpus, distilbert_folder)), tmp_path, 2)
    with pytest.raises(DistillationError, match=r"other settings: pruning\.sparsity = 0\.7"):
        train(init_nlp(from_gold(corpus, distilbert_folder, sparsity=0.7)), tmp_path, resume=True)


def test_a_student_is_pruned_under_its_teacher_and_goes_on(distilbert_folder, teacher_path, corpus, tmp_path):
    def make() -> Language:
        return init_nlp(from_teacher(corpus, distilbert_folder, teacher_path))

    train(make(), tmp_path / "unbroken")
    nlp = make()
    assert isinstance(nlp.update, DistillationUpdate)
    update, calls = DistillationUpdate.__call__, iter(range(6))

    def stop(self, *args: Any, **kwargs: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return update(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationUpdate, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            train(nlp, tmp_path / "broken")
    train(make(), tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken")
    assert sparsity(tmp_path / "broken" / "model-last") == SHARE


def begun(student: Config) -> Language:
    """Trained for a step, unless that is refused."""
    nlp = init_nlp(student)
    nlp.update = until(1, nlp.update, KeyboardInterrupt())  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        spacy_loop(nlp)
    return nlp


def test_a_schedule_that_training_does_not_reach_is_an_error(distilbert_folder, corpus):
    with pytest.raises(CompressionError, match=r"end = 13 lies behind the last step of training, max_steps = 12"):
        begun(from_gold(corpus, distilbert_folder, end=13))


def test_a_schedule_that_epochs_may_cut_off_is_a_warning(distilbert_folder, corpus, caplog):
    student = from_gold(corpus, distilbert_folder)
    begun(student)
    assert "max_epochs" not in caplog.text
    student["training"].update(max_epochs=1, max_steps=0)
    begun(student)
    assert (
        "[pruning] ends at step 8. If max_epochs = 1 ends training before, the pipeline is less sparse" in caplog.text
    )


def test_an_encoder_that_is_not_trained_is_an_error(distilbert_folder, corpus):
    student = from_gold(corpus, distilbert_folder)
    student["training"]["frozen_components"] = ["tok2vec"]
    with pytest.raises(CompressionError, match=r"'tok2vec' is one of the frozen_components"):
        begun(student)


def test_no_block_is_an_error(distilbert_folder, corpus):
    student = from_gold(corpus, distilbert_folder)
    del student[BLOCK]
    with pytest.raises(CompressionError, match=r"no block \[pruning\]"):
        begun(student)


# The block


def test_what_is_documented_is_the_default():
    assert dict(Config().from_str(DOCUMENTED)[BLOCK]) == {**DEFAULTS, "sparsity": 0.9}
    assert Settings.from_block(Config().from_str(DOCUMENTED)[BLOCK]).schedule.end == 1500


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ({"sparsitty": 0.5}, r"\[pruning\] has no field 'sparsitty'. Its fields are sparsity, method"),
        ({}, r"\[pruning\] No sparsity is given"),
        ({"sparsity": 1.0}, r"\[pruning\] sparsity = 1.0"),
        ({"sparsity": 0.5, "method": "luck"}, r"method = 'luck' is not known. Known are magnitude, movement"),
        ({"sparsity": 0.5, "scope": "all"}, r"\[pruning\] scope = 'all'"),
        ({"pattern": "5:4"}, r"\[pruning\] The pattern 5:4"),
        ({"sparsity": 0.5, "components": "distilbert"}, r"must be a list of names"),
        ({"sparsity": 0.5, "begin": -1}, r"\[pruning\] begin = -1: it must be a whole number, 0 or more"),
        ({"sparsity": 0.5, "every": 0}, r"\[pruning\] every = 0: it must be a whole number, 1 or more"),
        ({"sparsity": 0.5, "end": 1.5}, r"\[pruning\] end = 1.5"),
        ({"sparsity": 0.5, "begin": 9, "end": 9}, r"end = 9 has to come after begin = 9"),
        ({"sparsity": 0.5, "scores": {"rate": 1}}, r"\[pruning\.scores\] must be an optimiser of thinc's"),
    ],
)
def test_a_field_that_makes_no_sense_is_an_error(block, error):
    with pytest.raises(CompressionError, match=error):
        Settings.from_block(block)
