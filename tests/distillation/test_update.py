"""The update in the stock training loop."""

import copy
import pickle
from pathlib import Path

import pytest
import spacy
from spacy.cli.train import train as spacy_train
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config
from thinc.api import Adam, Config

from spacy_distil.distillation.attach import attach, detach
from spacy_distil.distillation.errors import DistillationError, LabelError, TeacherError
from spacy_distil.distillation.teacher import load_teacher
from spacy_distil.distillation.update import DistillationUpdate

from .toy import HEADS, agreement, attached, build, config, examples, sentences, write_corpus

CALLBACK = """
[distillation]
teacher = ${{paths.teacher}}
{settings}
[initialize]
[initialize.after_init]
@callbacks = "spacy-distil.attach_teacher.v1"
[initialize.components]
"""
LABELS = """
[initialize.components.{name}]
[initialize.components.{name}.labels]
@readers = "spacy-distil.TeacherLabels.v1"
teacher = ${{paths.teacher}}
component = "{name}"
"""


def student_config(
    corpus: Path, teacher_path: Path, *, settings: str = "", labels=HEADS, train="train.spacy", **kwargs
):
    text = config(**kwargs) + CALLBACK.format(settings=settings) + "".join(LABELS.format(name=name) for name in labels)
    paths = {
        "paths.train": str(corpus / train),
        "paths.dev": str(corpus / "dev.spacy"),
        "paths.teacher": str(teacher_path),
    }
    return Config().from_str(text, interpolate=False, overrides=paths)


@pytest.mark.parametrize("shared", [True, False])
def test_student_of_spacy_train_says_what_the_teacher_says(shared, teacher, teacher_path, corpus, tmp_path):
    """By nothing but a config, from text without any annotation."""
    student = student_config(corpus, teacher_path, shared=shared)
    student.to_disk(tmp_path / "config.cfg", interpolate=False)
    before = agreement(init_nlp(student), teacher)
    spacy_train(tmp_path / "config.cfg", tmp_path / "out")
    after = agreement(spacy.load(tmp_path / "out" / "model-last"), teacher)
    for name in HEADS:
        assert before[name] < 0.6 < 0.85 < after[name], (name, before, after)


def test_labelled_text_is_mixed_in(teacher, teacher_path, corpus, tmp_path):
    write_corpus(tmp_path / "train.spacy", sentences(300, seed=4) + sentences(100, seed=5, annotate="sentiment"))
    write_corpus(tmp_path / "dev.spacy", sentences(10, seed=2, annotate="sentiment"))
    student = student_config(tmp_path, teacher_path, settings="gold_weight = 1.0")
    student["training"]["max_steps"] = 120
    nlp = init_nlp(student)
    train(nlp)
    after = agreement(nlp, teacher)
    assert all(share > 0.85 for share in after.values()), after


def test_saved_student_holds_no_trace_of_the_teacher(teacher_path, corpus, tmp_path):
    nlp = init_nlp(student_config(corpus, teacher_path))
    assert isinstance(nlp.update, DistillationUpdate)
    nlp.to_disk(tmp_path)
    text = (tmp_path / "config.cfg").read_text()
    assert str(teacher_path) not in text
    assert "spacy-distil" not in text
    assert str(teacher_path).encode() not in nlp.to_bytes()
    assert load_config(tmp_path / "config.cfg")["paths"]["teacher"] is None
    assert not isinstance(spacy.load(tmp_path).update, DistillationUpdate)


def test_path_that_others_use_too_stays(teacher_path, corpus):
    student = student_config(corpus, teacher_path)
    student["mine"] = {"teacher": "${paths.teacher}"}
    assert init_nlp(student).config["paths"]["teacher"] == str(teacher_path)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda nlp: pickle.loads(pickle.dumps(nlp))])
def test_copy_of_a_student_is_a_plain_pipeline(duplicate, teacher):
    nlp = build()
    stock = len(pickle.dumps(nlp))
    nlp.update = attached(nlp, teacher)
    twin = duplicate(nlp)
    assert twin.update.__func__ is type(nlp).update
    assert twin.update.__self__ is twin
    twin.update(examples(2, seed=0, annotate="sentiment", vocab=twin.vocab), exclude=["textcat_multilabel"])
    assert len(pickle.dumps(nlp)) < stock + 1000
    detach(nlp)
    assert nlp.update.__func__ is type(nlp).update


def weights(nlp):
    models = {name: nlp.get_pipe(name).model for name in nlp.pipe_names}
    return {
        name: [
            node.get_param(key).tobytes() for node in model.walk() for key in node.param_names if node.has_param(key)
        ]
        for name, model in models.items()
    }


def test_excluded_components_do_not_change(teacher):
    for excluded in (["ner"], ["textcat", "textcat_multilabel"], ["tok2vec"], ["textcat", "ner"]):
        nlp = build()
        nlp.update = attached(nlp, teacher)
        before = weights(nlp)
        annotates = ["tok2vec"] if "tok2vec" in excluded else []
        if annotates:  # a frozen encoder must annotate, and come first
            nlp.update(examples(4, seed=1, vocab=nlp.vocab), exclude=nlp.pipe_names, annotates=annotates)
        for seed in range(2):  # textcat's output layer starts from zeros, which hide the encoder
            losses = nlp.update(examples(4, seed=seed, vocab=nlp.vocab), exclude=excluded, annotates=annotates)
        changed = {name for name, value in weights(nlp).items() if value != before[name]}
        quiet = {"tok2vec"} if excluded == ["textcat", "ner"] else set()  # nobody listens
        assert changed == set(nlp.pipe_names) - set(excluded) - quiet
        assert set(losses) == set(nlp.pipe_names) - set(excluded)


def test_optimiser_is_called_as_in_spacy(teacher):
    nlp = build()
    nlp.update = attached(nlp, teacher)
    before = weights(nlp)
    nlp.update(examples(4, seed=1, vocab=nlp.vocab), sgd=False)
    assert weights(nlp) == before
    for name in nlp.pipe_names:
        nlp.get_pipe(name).finish_update(Adam(0.01))
    assert weights(nlp) != before
    before = weights(nlp)
    nlp.update(examples(4, seed=1, vocab=nlp.vocab))
    assert weights(nlp) != before


def test_accumulated_gradients_are_those_of_one_batch(teacher):
    gradients = []
    for sizes in ([8], [4, 4]):
        nlp = build()
        nlp.update = attached(nlp, teacher)
        egs = examples(8, seed=1, vocab=nlp.vocab)
        for size in sizes:
            nlp.update(egs[:size], sgd=False)
            egs = egs[size:]
        gradients.append(nlp.get_pipe("textcat").model.get_ref("output_layer").get_grad("b"))
    assert gradients[0] == pytest.approx(gradients[1], abs=1e-4)


def test_annotating_components_annotate(teacher):
    nlp = build()
    seen = []

    @spacy.Language.component("look")
    def look(doc):
        seen.append(doc.has_annotation("SENT_START"))
        return doc

    nlp.add_pipe("sentencizer", first=True)
    nlp.add_pipe("look", after="sentencizer")
    nlp.update = attached(nlp, teacher)
    nlp.update(examples(2, seed=0, vocab=nlp.vocab), annotates=["sentencizer", "look"])
    assert seen == [True, True]


def test_losses_are_python_floats_and_add_up(teacher):
    nlp = build()
    nlp.update = attached(nlp, teacher)
    losses = {"textcat": 100.0}
    given = nlp.update(examples(2, seed=0, vocab=nlp.vocab), losses=losses, sgd=False)
    assert given is losses
    assert set(losses) == set(nlp.pipe_names)
    assert all(type(loss) is float for loss in losses.values())
    assert losses["textcat"] > 100


def test_texts_without_tokens_are_no_trouble(teacher):
    nlp = build()
    nlp.update = attached(nlp, teacher)
    empty = [spacy.training.Example(nlp.make_doc(""), nlp.make_doc(""))]
    assert nlp.update([]) == dict.fromkeys(nlp.pipe_names, 0.0)
    assert nlp.update(empty) == dict.fromkeys(nlp.pipe_names, 0.0)
    nlp.update(empty + examples(2, seed=0, vocab=nlp.vocab))


def test_nan_stops_before_a_weight_changes_and_names_the_component(teacher):
    nlp = build()
    nlp.update = attached(nlp, teacher)
    layer = nlp.get_pipe("ner").model.get_ref("upper")
    layer.set_param("b", layer.get_param("b") * float("nan"))
    before = weights(nlp)
    with pytest.raises(DistillationError, match="component 'ner' is nan"):
        nlp.update(examples(2, seed=0, vocab=nlp.vocab))
    assert weights(nlp) == before


def test_components_can_be_chosen(teacher, teacher_path, tmp_path, corpus):
    write_corpus(tmp_path / "train.spacy", sentences(20, seed=5, annotate="sentiment"))
    write_corpus(tmp_path / "dev.spacy", sentences(10, seed=2, annotate="sentiment"))
    heads = ("textcat", "ner")
    nlp = init_nlp(student_config(tmp_path, teacher_path, settings='components = ["ner"]', heads=heads, labels=heads))
    assert list(nlp.update.taught) == ["ner"]
    losses = nlp.update(examples(4, seed=0, vocab=nlp.vocab), sgd=False)
    assert losses["textcat"] == 0 < losses["ner"]


def test_settings_of_a_component_that_is_not_there_are_an_error(teacher_path, corpus):
    settings = "[distillation.per_component]\n[distillation.per_component.textcatt]\ntemperature = 1.0\n"
    with pytest.raises(
        DistillationError, match=r"per_component\.textcatt\]: the student has no component 'textcatt'. It has"
    ):
        init_nlp(student_config(corpus, teacher_path, settings=settings))


def test_settings_of_a_component_that_learns_from_no_teacher_are_warned_of(teacher, teacher_path):
    nlp = with_teacher(build(), teacher_path, components=["textcat"], per_component={"ner": {"temperature": 1.0}})
    with pytest.warns(UserWarning, match=r"change nothing: ner\. No teacher.*Taught are: textcat\."):
        attach(nlp)


def test_component_without_teacher_needs_gold(teacher_path, corpus):
    with pytest.raises(DistillationError, match="Nothing to learn from for 'textcat'"):
        init_nlp(student_config(corpus, teacher_path, settings='components = ["ner", "textcat_multilabel"]'))
    with pytest.raises(DistillationError, match="Nothing to learn from for 'textcat', 'textcat_multilabel', 'ner'"):
        init_nlp(student_config(corpus, teacher_path, settings="soft_weight = 0"))


def test_component_that_the_teacher_lacks_learns_from_gold(teacher):
    nlp = build()
    nlp.add_pipe("tagger").add_label("X")
    egs = examples(4, seed=0, vocab=nlp.vocab)
    nlp.get_pipe("tagger").initialize(lambda: egs, nlp=nlp)
    nlp.update = attached(nlp, teacher)
    for eg in egs:
        for token in eg.reference:
            token.tag_ = "X"
    assert nlp.update(egs)["tagger"] == 0  # of one label one is always sure: no loss, but no error


def with_teacher(nlp, teacher_path, **fields):
    nlp.config["distillation"] = {"teacher": str(teacher_path), **fields}
    return nlp


@pytest.mark.parametrize("broken", ["none in common", "unknown name", "frozen", "other type", "no components"])
def test_nothing_to_teach_is_an_error(broken, teacher_path):
    nlp, components = build(), None
    if broken == "none in common":
        for name in HEADS:
            nlp.rename_pipe(name, f"my_{name}")
    elif broken == "unknown name":
        components = ["parser"]
    elif broken == "frozen":
        nlp.config["training"]["frozen_components"] = list(HEADS)
    elif broken == "no components":
        components = []
    else:
        nlp.remove_pipe("textcat")
        nlp.rename_pipe("ner", "textcat")
    with pytest.raises(TeacherError):
        attach(with_teacher(nlp, teacher_path, components=components))
    assert not isinstance(nlp.update, DistillationUpdate)


def test_labels_that_differ_are_an_error(teacher_path):
    nlp = build(shared=False)
    nlp.get_pipe("textcat").cfg["labels"][0] = "SPLENDID"
    with pytest.raises(LabelError, match="'SPLENDID'"):
        attach(with_teacher(nlp, teacher_path))
    nlp = build(shared=False)
    nlp.get_pipe("ner").add_label("MARTIAN")
    with pytest.raises(LabelError, match="'MARTIAN'"):
        attach(with_teacher(nlp, teacher_path))


def test_sourced_component_learns_too(teacher, teacher_path, corpus, tmp_path):
    """Sourced components are disabled while the callback runs."""
    build(heads=("ner",), shared=False).to_disk(tmp_path / "start")
    student = student_config(corpus, teacher_path, heads=("textcat",), labels=("textcat",))
    student["nlp"]["pipeline"].append("ner")
    student["components"]["ner"] = {"source": str(tmp_path / "start")}
    nlp = init_nlp(student)
    assert list(nlp.update.taught) == ["textcat", "ner"]
    before = weights(nlp)
    nlp.update(examples(4, seed=0, vocab=nlp.vocab))
    assert weights(nlp)["ner"] != before["ner"]


def test_teacher_is_not_kept_in_memory_by_the_loader(teacher_path, corpus):
    init_nlp(student_config(corpus, teacher_path))
    assert load_teacher.cache_info().currsize == 0
