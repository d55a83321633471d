"""Runs that are broken, by a real SIGKILL among others, and resumed."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import spacy
from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from thinc.api import Adam, Config, Optimizer, fix_random_seed

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training import loop
from spacy_distil.distillation.training.checkpoint import Checkpoint, read_tensors
from spacy_distil.distillation.training.output import Output
from spacy_distil.distillation.training.replay import Replay
from spacy_distil.distillation.training.state import capture, restore
from spacy_distil.distillation.update import DistillationUpdate

from .test_update import student_config
from .toy import build, config, examples, sentences, write_corpus

EVERY, STEPS = 4, 12


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Three batches to an epoch."""
    path = tmp_path_factory.mktemp("corpus")
    write_corpus(path / "train.spacy", sentences(40, seed=1, annotate="sentiment"))
    write_corpus(path / "dev.spacy", sentences(20, seed=2, annotate="sentiment"))
    return path


def make(corpus: Path, *, heads=("textcat", "ner"), encoder: Path | None = None, **training) -> Language:
    """An initialised student, which learns from gold labels."""
    student = Config().from_str(config(heads=heads), interpolate=False)
    student["nlp"]["lang"] = "xx"  # whose tokenizer has next to no exceptions, and loads at once
    student["paths"].update(train=str(corpus / "train.spacy"), dev=str(corpus / "dev.spacy"))
    student["training"].update({"eval_frequency": EVERY, "max_steps": STEPS, **training})
    if encoder is not None:
        model = {"@architectures": "spacy-distil.DistilBert.v1", "name": str(encoder), "precision": "float32"}
        student["components"]["tok2vec"] = {"factory": "distilbert", "model": model}
        for head in heads:
            student["components"][head]["model"]["tok2vec"]["width"] = 32
    return init_nlp(student)


def train(nlp: Language, output: Path, **settings) -> str:
    """What is printed."""
    output.mkdir(exist_ok=True)
    stdout = io.StringIO()
    loop.train(nlp, output, stdout=stdout, stderr=stdout, **settings)
    return stdout.getvalue()


def weights(path: Path) -> dict[tuple[str, int, str], numpy.ndarray]:
    nlp = spacy.load(path)
    return {
        (name, i, key): value
        for name, pipe in nlp.pipeline
        for i, node in enumerate(pipe.model.walk())
        for key, value in (
            *((key, node.get_param(key)) for key in node.param_names if node.has_param(key)),
            *((key, p.detach().numpy()) for shim in node.shims for key, p in shim.encoder.named_parameters()),
        )
    }


def rows(output: Path) -> list[dict]:
    """The log, without what the machine's speed decides."""
    found = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    for row in found:
        assert row.pop("seconds") >= 0
        row["scores"].pop("speed", None)
    return found


def assert_same_run(output: Path, unbroken: Path) -> None:
    assert [row["step"] for row in rows(output)] == list(range(0, STEPS + 1, EVERY))
    assert rows(output) == rows(unbroken)
    for name in ("model-last", "model-best"):
        expected = weights(unbroken / name)
        for key, value in weights(output / name).items():
            numpy.testing.assert_allclose(value, expected[key], rtol=1e-5, atol=1e-7, err_msg=str(key))
        assert (output / name / "meta.json").read_text() == (unbroken / name / "meta.json").read_text()
    assert sorted(path.name for path in output.iterdir()) == sorted(path.name for path in unbroken.iterdir())


@pytest.fixture(scope="module")
def unbroken(corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    train(make(corpus), output)
    return output


@pytest.fixture(scope="module")
def stopped_once(corpus, tmp_path_factory) -> Path:
    nlp, output = make(corpus), tmp_path_factory.mktemp("stopped")
    nlp.update = until(6, nlp.update, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(nlp, output)
    return output


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    """The folder of a run that was stopped by Ctrl-C in step 6, after the evaluation of step 4."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def until(step: int, update, error: BaseException):
    """An update that learns, and raises an error in a step."""
    calls = iter(range(step))

    def learn(*args, **kwargs):
        if next(calls, None) is None:
            raise error
        return update(*args, **kwargs)

    return learn


# Killed


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_kill(run: Callable[[], object]) -> None:
    """Runs in a process of its own, and checks that it was killed."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def before_an_update(patch) -> None:
    patch.setattr(Language, "update", nth(7, Language.update, before=kill))


def in_the_middle_of_model_last(patch) -> None:
    patch.setattr(Language, "to_disk", nth(3, Language.to_disk, after=kill))


def while_a_folder_steps_aside(patch) -> None:
    """The one moment without a `model-last` of that name."""
    patch.setattr(os, "rename", nth(3, os.rename, after=kill))


def between_pipelines_and_checkpoint(patch) -> None:
    patch.setattr(Output, "save_checkpoint", nth(3, Output.save_checkpoint, before=kill))


def in_the_middle_of_a_checkpoint(patch) -> None:
    patch.setattr(safetensors.torch, "save_file", nth(3, safetensors.torch.save_file, instead=save_half_and(kill)))


def before_the_end_is_told(patch) -> None:
    patch.setattr(Output, "save_checkpoint", nth(5, Output.save_checkpoint, before=kill))


def save_half_and(end: Callable[[], None]):
    def save(tensors, path, metadata):
        data = safetensors.torch.save(tensors, metadata)
        Path(path).write_bytes(data[: len(data) // 2])
        end()

    return save


def nth(n: int, function, *, before=lambda: None, instead=None, after=lambda: None):
    """A function, with something else around its nth call."""
    calls = iter(range(n - 1))

    def wrapped(*args, **kwargs):
        if next(calls, None) is not None:
            return function(*args, **kwargs)
        before()
        result = (instead or function)(*args, **kwargs)
        after()
        return result

    return wrapped


KILLS = [
    before_an_update,
    in_the_middle_of_model_last,
    while_a_folder_steps_aside,
    between_pipelines_and_checkpoint,
    in_the_middle_of_a_checkpoint,
    before_the_end_is_told,
]


@pytest.mark.parametrize("breaks", KILLS)
def test_killed_run_ends_as_the_unbroken_one(breaks, corpus, unbroken, tmp_path):
    fork_and_kill(lambda: broken(breaks, make(corpus), tmp_path))
    train(make(corpus), tmp_path, resume=True)
    assert_same_run(tmp_path, unbroken)


def broken(breaks, nlp: Language, output: Path, **settings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch)
        train(nlp, output, **settings)


def test_run_can_be_killed_again_while_it_is_resumed(corpus, unbroken, tmp_path):
    def in_the_replay(patch) -> None:
        patch.setattr(Replay, "_learn_nothing", nth(3, Replay._learn_nothing, before=kill))

    fork_and_kill(lambda: broken(before_an_update, make(corpus), tmp_path))
    fork_and_kill(lambda: broken(in_the_replay, make(corpus), tmp_path, resume=True))
    fork_and_kill(lambda: broken(before_an_update, make(corpus), tmp_path, resume=True))
    train(make(corpus), tmp_path, resume=True)
    assert_same_run(tmp_path, unbroken)


def test_another_interpreter_goes_on(corpus, unbroken, tmp_path):
    fork_and_kill(lambda: broken(in_the_middle_of_a_checkpoint, make(corpus), tmp_path))
    assert (tmp_path / "checkpoint.safetensors.draft").exists()
    code = (
        "import sys; from pathlib import Path; from tests.distillation.test_resume import make, train; "
        "train(make(Path(sys.argv[1])), Path(sys.argv[2]), resume=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(corpus), str(tmp_path)], cwd=Path(__file__).parents[2], check=True)
    assert_same_run(tmp_path, unbroken)


def test_run_without_a_seed_goes_on(corpus, tmp_path):
    """Then the checkpoint knows what the order of the batches began with."""

    def make_and_train(seed: int, run: Callable[..., object], *args, **settings) -> None:
        fix_random_seed(seed)
        run(*args, make(corpus, seed=None), **settings)

    make_and_train(5, train, output=tmp_path / "unbroken")
    fork_and_kill(lambda: make_and_train(5, broken, before_an_update, output=tmp_path / "killed"))
    make_and_train(6, train, output=tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "killed", tmp_path / "unbroken")


def test_state_of_a_torch_encoder_goes_on(distilbert_folder, corpus, tmp_path):
    nlps = [make(corpus, encoder=distilbert_folder) for _ in range(3)]
    train(nlps[0], tmp_path / "unbroken")
    nlps[1].update = until(6, nlps[1].update, SystemExit())
    with pytest.raises(SystemExit):
        train(nlps[1], tmp_path / "broken")
    train(nlps[2], tmp_path / "broken", resume=True)
    assert_same_run(tmp_path / "broken", tmp_path / "unbroken")


def test_student_of_a_teacher_goes_on(teacher_path, corpus, tmp_path):
    def make_student(**settings) -> Language:
        student = student_config(corpus, teacher_path, heads=("textcat", "ner"), labels=("textcat", "ner"))
        student["training"].update(eval_frequency=EVERY, max_steps=STEPS)
        schedule = {"@schedules": "warmup_linear.v1", "initial_rate": 1.0, "warmup_steps": 2, "total_steps": 20}
        student["distillation"].update({"soft_weight": schedule, **settings})
        return init_nlp(student)

    def in_an_update(patch) -> None:
        patch.setattr(DistillationUpdate, "__call__", nth(7, DistillationUpdate.__call__, before=kill))

    train(make_student(), tmp_path / "unbroken")
    fork_and_kill(lambda: broken(in_an_update, make_student(), tmp_path / "killed"))
    refused(make_student(gold_weight=0.1), tmp_path / "killed", "distillation.gold_weight = 0.1")
    other = make_student()
    other.update.teachers[0].digest = "0f"
    refused(other, tmp_path / "killed", "digest of the files of teacher 1 = '0f' (in the checkpoint:")
    train(make_student(), tmp_path / "killed", resume=True)
    assert_same_run(tmp_path / "killed", tmp_path / "unbroken")


# As spaCy


def test_trains_as_spacy_does(corpus, tmp_path):
    """To the last bit where updates draw nothing from the generator that shuffles the corpus, as `ner` does."""
    stdout = io.StringIO()
    (tmp_path / "theirs").mkdir()
    spacy_train(make(corpus, heads=("textcat",)), tmp_path / "theirs", stdout=stdout, stderr=stdout)
    text = train(make(corpus, heads=("textcat",)), tmp_path / "ours")
    assert text.replace("ours", "theirs") == stdout.getvalue()
    for name in ("model-last", "model-best"):
        theirs = weights(tmp_path / "theirs" / name)
        for key, value in weights(tmp_path / "ours" / name).items():
            assert value.tobytes() == theirs[key].tobytes()


def test_resumed_run_shows_the_whole_table(stopped, corpus, tmp_path):
    whole = train(make(corpus), tmp_path / "whole").splitlines()
    text = train(make(corpus), stopped, resume=True)
    assert "Going on from the checkpoint of step 4" in text
    start = next(i for i, line in enumerate(whole) if line.startswith("E "))
    assert whole[start:-1] == text.splitlines()[start + 1 : -1]


def test_log_is_json_where_a_score_is_no_number(tmp_path):
    record = {"step": 0, "score": float("nan"), "scores": {"f": float("inf"), "p": 0.5, "each": {"A": 1.0}}}
    Output(tmp_path).add_to_log(record)
    line = (tmp_path / "log.jsonl").read_text()
    assert json.loads(line) == {"step": 0, "score": None, "scores": {"f": None, "p": 0.5}}


def test_patience_counts_over_the_break(corpus, tmp_path):
    def run(resume: bool) -> None:
        nlp = make(corpus, patience=8, max_steps=0)
        nlp.evaluate = lambda _: {"cats_score": 0.5}
        if not resume:
            nlp.update = until(6, nlp.update, KeyboardInterrupt())
        train(nlp, tmp_path, resume=resume)

    with pytest.raises(KeyboardInterrupt):
        run(resume=False)
    run(resume=True)
    assert [row["step"] for row in rows(tmp_path)] == [0, 4, 8]


def test_new_run_removes_what_an_old_one_left(stopped, corpus):
    (stopped / "model-best" / "stale").mkdir()
    nlp = make(corpus)
    nlp.update = until(0, nlp.update, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(nlp, stopped)
    assert list(stopped.iterdir()) == []


@pytest.mark.parametrize("name", ["train", "dev"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_that_can_not_start_removes_nothing(name, is_there, stopped, corpus, tmp_path):
    if is_there:
        write_corpus(tmp_path / "missing.spacy", [])
    nlp, before = make(corpus), contents(stopped)
    nlp.config["paths"][name] = str(tmp_path / "missing.spacy")
    with pytest.raises((DistillationError, FileNotFoundError), match=r"missing\.spacy"):
        train(nlp, stopped)
    assert contents(stopped) == before


def test_ctrl_c_saves_the_last_state_and_says_how_to_go_on(corpus, tmp_path):
    nlp = make(corpus)
    nlp.update = until(6, nlp.update, KeyboardInterrupt())
    stdout = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        loop.train(nlp, tmp_path, stdout=stdout, stderr=stdout)
    assert "--resume goes on from step 4" in " ".join(stdout.getvalue().split())
    assert Checkpoint.read(tmp_path / "checkpoint.safetensors").step == 4
    last, of_step_4 = weights(tmp_path / "model-last"), averages(tmp_path)
    assert any((last[key] != of_step_4[key]).any() for key in last)


def averages(output: Path) -> dict[tuple[str, int, str], numpy.ndarray]:
    """The averaged weights in a checkpoint, by the keys of `weights`."""
    found = {}
    tensors = read_tensors(output / "checkpoint.safetensors")
    for name, tensor in tensors.items():
        if name.startswith("weights/"):
            _, component, node, parameter = name.split("/")
            average = tensors.get(name.replace("weights/", "averages/"), tensor)
            found[component, int(node), parameter] = average.numpy()
    return found


# Full disk, NaN


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name", "file"),
    [
        (Language, "to_disk", "model-last"),
        (shutil, "copyfile", "model-best"),
        (safetensors.torch, "save_file", "checkpoint.safetensors"),
    ],
)
def test_full_disk_loses_nothing(owner, name, file, corpus, unbroken, tmp_path):
    def fills(patch) -> None:
        half = save_half_and(full) if name == "save_file" else full
        n = len(contents(unbroken / "model-best")) + 5 if name == "copyfile" else 2
        patch.setattr(owner, name, nth(n, getattr(owner, name), instead=half))

    with pytest.raises(DistillationError, match=rf"Step \d+: '.*{file}' can't be written: .*No space left on device"):
        broken(fills, make(corpus), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in unbroken.iterdir()}
    assert not Checkpoint.read(tmp_path / "checkpoint.safetensors").finished
    for pipeline in ("model-last", "model-best"):
        spacy.load(tmp_path / pipeline)
    train(make(corpus), tmp_path, resume=True)
    assert_same_run(tmp_path, unbroken)


def test_loss_that_is_no_number_keeps_the_last_good_state(corpus, unbroken, tmp_path):
    nlp = make(corpus)
    nlp.update = until(6, nlp.update, DistillationError("The loss of component 'ner' is nan"))
    with pytest.raises(DistillationError, match="Step 6: The loss of component 'ner' is nan"):
        train(nlp, tmp_path)
    of_step_4 = averages(tmp_path)
    for key, value in weights(tmp_path / "model-last").items():
        assert value.tobytes() == of_step_4[key].tobytes()
    spacy.load(tmp_path / "model-best")
    train(make(corpus), tmp_path, resume=True)
    assert_same_run(tmp_path, unbroken)


# What can't be resumed


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(nlp: Language, output: Path, *words: str) -> None:
    """An error, and nothing touched."""
    before = contents(output)
    with pytest.raises(DistillationError) as error:
        train(nlp, output, resume=True)
    for word in words:
        assert word in str(error.value)
    after = contents(output)
    assert {path: data for path, data in after.items() if not path.endswith("log.jsonl")} == {
        path: data for path, data in before.items() if not path.endswith("log.jsonl")
    }


def test_no_checkpoint_is_an_error(corpus, tmp_path):
    refused(make(corpus), tmp_path, str(tmp_path / "checkpoint.safetensors"), "without --resume")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-8], lambda data: data[:100], lambda data: b"", lambda data: b"{}" * 500]
)
def test_damaged_checkpoint_is_an_error(damage, stopped, corpus):
    file = stopped / "checkpoint.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    refused(make(corpus), stopped, str(file), "damaged")


def test_weights_are_no_checkpoint(stopped, corpus):
    safetensors.torch.save_file({}, stopped / "checkpoint.safetensors", metadata={"format": "pt"})
    refused(make(corpus), stopped, "is no checkpoint of `distil train`")


def test_other_settings_are_named(stopped, corpus):
    refused(make(corpus, dropout=0.3), stopped, "training.dropout = 0.3 (in the checkpoint: 0.1)")
    nlp = make(corpus)
    nlp.update = Stateful(nlp, {"temperature": 3.0})
    refused(nlp, stopped, "distillation.temperature = 3.0 (in the checkpoint: None)")


def test_other_labels_are_named(stopped, corpus):
    nlp = make(corpus)
    nlp.get_pipe("textcat").cfg["labels"] = ["SOSO", "GOOD", "BAD"]
    refused(nlp, stopped, "labels of textcat", "['SOSO', 'GOOD', 'BAD']")


def test_other_corpus_is_an_error(stopped, corpus, tmp_path):
    nlp = make(corpus)
    data = (corpus / "train.spacy").read_bytes()
    write_corpus(corpus / "train.spacy", sentences(40, seed=7, annotate="sentiment"))
    try:
        refused(nlp, stopped, "The corpus is not the one")
    finally:
        (corpus / "train.spacy").write_bytes(data)


def test_end_before_the_checkpoint_is_an_error(stopped, corpus):
    refused(make(corpus, max_steps=2), stopped, "before step 4", "training.max_steps")


def test_more_steps_and_another_patience_are_welcome(corpus, unbroken, tmp_path):
    nlp = make(corpus, max_steps=7, patience=100)
    nlp.update = until(6, nlp.update, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(nlp, tmp_path)
    train(make(corpus), tmp_path, resume=True)
    assert rows(tmp_path) == rows(unbroken)


def test_run_that_has_come_to_its_end_stays_as_it_is(corpus, unbroken):
    before = contents(unbroken)
    assert (unbroken / "checkpoint.safetensors").stat().st_size < 100_000
    nlp = make(corpus)
    text = train(nlp, unbroken, resume=True)
    assert "come to its end already, at step 12" in text
    assert contents(unbroken) == before
    expected = weights(unbroken / "model-last")
    layer = nlp.get_pipe("textcat").model.get_ref("output_layer")
    assert any(layer.get_param("W").tobytes() == value.tobytes() for value in expected.values())


@pytest.mark.parametrize(
    ("ends", "more"),
    [
        ({"max_steps": 4}, {"max_steps": 8}),
        ({"max_steps": 4}, {"max_steps": 0}),
        ({"patience": 4}, {"patience": 8}),
        ({"max_epochs": 1}, {"max_epochs": 2}),
    ],
)
def test_run_that_has_come_to_its_end_does_not_go_on(ends, more, corpus, tmp_path):
    def make_nlp(**training) -> Language:
        nlp = make(corpus, heads=("textcat",), **training)
        nlp.evaluate = lambda _: {"cats_score": 0.5}
        return nlp

    train(make_nlp(**ends), tmp_path)
    (name, limit), (_, larger) = *ends.items(), *more.items()
    refused(make_nlp(**more), tmp_path, f"by {name} = {limit}", f"{name} = {larger}", "without --resume", "model-last")
    other = {"patience": 100} if name == "max_steps" else {"max_steps": 100}  # with which it would have ended as well
    assert "come to its end already" in train(make_nlp(**ends, **other), tmp_path, resume=True)


# The state


class Stateful:
    """An update that has more than spaCy's has."""

    def __init__(self, nlp: Language, block: dict) -> None:
        self.nlp, self.block = nlp, block
        self.step, self.steps, self.total = None, [], numpy.zeros(1, "float32")

    def __call__(self, examples, **settings):
        self.steps.append(self.step)
        self.total = self.total + len(examples)
        return Language.update(self.nlp, examples, **settings)

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state) -> None:
        self.total = state["total"]


def test_state_of_the_update_goes_on(corpus, tmp_path):
    def run(name: str, **settings) -> Stateful:
        nlp = make(corpus)
        nlp.update = update = Stateful(nlp, {"temperature": 2.0})
        if name == "broken":
            nlp.evaluate = nth(3, nlp.evaluate, before=full)
            with pytest.raises(OSError, match="No space"):
                train(nlp, tmp_path / "resumed")
        else:
            train(nlp, tmp_path / name, **settings)
        assert nlp.update is update
        return update

    unbroken, broken, resumed = run("unbroken"), run("broken"), run("resumed", resume=True)
    assert unbroken.steps == list(range(13))
    assert broken.steps == list(range(9))
    assert resumed.steps == list(range(5, 13))
    assert resumed.total == unbroken.total


def test_moments_fade_and_weights_decay_as_if_there_had_been_no_break():
    """thinc steps on with a gradient of zeros, where a batch adds nothing to one that a parameter once had."""
    run, resumed = [(build(heads=("textcat", "ner")), Adam(0.02, L2=0.1)) for _ in range(2)]
    components = run[0].pipe_names

    def step(nlp: Language, optimizer: Optimizer) -> None:
        for name in components:
            nlp.get_pipe(name).finish_update(optimizer)

    run[0].update(examples(4, seed=1, annotate="sentiment", vocab=run[0].vocab), sgd=False)
    step(*run)
    tensors, values = capture(*run, components)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    restore(*resumed, components, {name: tensor.clone() for name, tensor in tensors.items()}, values)
    step(*run)
    step(*resumed)
    expected, expected_values = capture(*run, components)
    found, found_values = capture(*resumed, components)
    assert found_values["updates"] == expected_values["updates"]
    assert set(found_values["updates"].values()) == {2}
    assert not expected["weights/tok2vec/13/E"].equal(before["weights/tok2vec/13/E"])
    for name, tensor in expected.items():
        assert tensor.equal(found[name])
