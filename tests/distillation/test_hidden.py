"""Hidden states that teach, from the config's block to the weights of the student's encoder."""

from pathlib import Path

import numpy
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Adam, fix_random_seed

from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.attach import make_hidden, make_teachers
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.hidden_states.teaching import HiddenTeaching
from spacy_distil.distillation.settings import Settings
from spacy_distil.distillation.update import HIDDEN, DistillationUpdate

from .toy import SENTIMENTS, build, examples, sentences, settings

TOK2VEC = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "depth": 1, "embed_size": 100}
TOK2VEC |= {"window_size": 1, "maxout_pieces": 2, "subword_features": False}


def on_distilbert(folder: Path, layers: list[int] | None = None, **encoder) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "distilbert", config={"model": {"name": str(folder), "precision": "float32", "layers": layers, **encoder}}
    )
    add_textcat(nlp, {"@architectures": "spacy-distil.DistilBertListener.v1"})
    return nlp


def on_tok2vec(width: int) -> Language:
    fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": {**TOK2VEC, "width": width}})
    add_textcat(nlp, {"@architectures": "spacy.Tok2VecListener.v1", "width": width})
    return nlp


def add_textcat(nlp: Language, listener: dict) -> None:
    model = {"@architectures": "spacy.TextCatReduce.v1", "exclusive_classes": True, "tok2vec": listener}
    pooling = {"use_reduce_first": False, "use_reduce_last": False, "use_reduce_max": False, "use_reduce_mean": True}
    nlp.add_pipe("textcat", config={"model": {**model, **pooling}})
    nlp.config["initialize"]["components"]["textcat"] = {"labels": list(SENTIMENTS)}
    nlp.initialize(lambda: examples(5, seed=0, vocab=nlp.vocab), sgd=Adam(0.01))


def taught(student: Language, teacher: Language, store: AnswerStore | None = None, /, **hidden) -> DistillationUpdate:
    block: Settings = settings(hidden={"weight": 1.0, "relation_heads": 4, **hidden})
    teaching = make_hidden(student, teacher, block.hidden)
    teachers = make_teachers([teacher], {"textcat": [0]}, block, teaching)
    teachers[0].store = store
    return DistillationUpdate(student, teachers, {"textcat": [0]}, block, teaching)


@pytest.mark.parametrize("loss", ["cosine", "mean_square", "relations"])
@pytest.mark.parametrize("widths", ["equal", "other"])
def test_states_come_nearer_to_the_teachers(loss, widths, distilbert_folder, save_checkpoint):
    folder = distilbert_folder if widths == "equal" else save_checkpoint("distilbert", dim=16, hidden_dim=24)
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(folder, layers=[0, 2])
    student.update = taught(student, teacher, loss=loss)
    losses = [student.update(examples(8, seed=7, vocab=student.vocab))[HIDDEN] for _ in range(15)]
    assert losses[-1] < 0.8 * losses[0]


def test_gradient_of_the_encoder_equals_finite_differences(distilbert_folder):
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0, 2])
    update = taught(student, teacher, layers=[[0, 1], [1, 3], [2, 4]], loss="mean_square")
    update.settings.weights.soft_weight._value = update.settings.weights.gold_weight._value = 0.0
    encoder = student.get_pipe("distilbert").shim.encoder
    egs = examples(4, seed=7, vocab=student.vocab)
    egs[1].predicted = Doc(student.vocab, words=["a", "\u200b", " ", "b"])  # two tokens without pieces
    egs[1] = type(egs[1])(egs[1].predicted, egs[1].predicted.copy())
    update(egs, sgd=False)
    torch.manual_seed(1)
    parameters = [encoder.layers[0].ffn.lin2.weight, encoder.layers[1].attention.q_lin.weight]
    for parameter, gradient in [(parameter, parameter.grad.clone()) for parameter in parameters]:
        direction = torch.randn_like(parameter)
        differences = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                parameter += step * direction
            differences.append(update(egs, sgd=False)[HIDDEN])
            with torch.no_grad():
                parameter -= step * direction
        expected = float((gradient * direction).sum())
        assert (differences[0] - differences[1]) / 2e-3 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("teacher_has", ["layers", "one output"])
def test_tok2vec_learns_and_teaches_by_its_output(teacher_has, distilbert_folder):
    teacher = on_distilbert(distilbert_folder) if teacher_has == "layers" else on_tok2vec(24)
    student = on_tok2vec(16)
    student.update = taught(student, teacher)
    losses = [student.update(examples(8, seed=7, vocab=student.vocab))[HIDDEN] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_states_come_from_the_cache_as_from_the_teacher(distilbert_folder, tmp_path, monkeypatch):
    losses = []
    for _ in range(2):
        teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0, 2])
        update = taught(student, teacher, AnswerStore(tmp_path, max_bytes=10**7))
        if losses:
            monkeypatch.setattr(update.teachers[0], "annotate", None)
        losses.append(update(examples(8, seed=7, vocab=student.vocab))[HIDDEN])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_encoder_runs_once_for_scores_and_states(distilbert_folder, monkeypatch):
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0])
    shim, runs = teacher.get_pipe("distilbert").shim, []
    predict = shim.predict
    monkeypatch.setattr(shim, "predict", lambda docs, **kw: runs.append(len(docs)) or predict(docs, **kw))
    taught(student, teacher)(examples(8, seed=7, vocab=student.vocab))
    assert runs == [8]
    assert teacher.get_pipe("distilbert").keep == "tokens"


def test_weight_scales_and_zero_costs_nothing(distilbert_folder):
    teacher = on_distilbert(distilbert_folder)
    losses = []
    for weight in (1.0, 0.25):
        student = on_distilbert(distilbert_folder, layers=[0])
        losses.append(taught(student, teacher, weight=weight)(examples(4, seed=7, vocab=student.vocab))[HIDDEN])
    assert losses[1] == pytest.approx(0.25 * losses[0], rel=1e-4)
    student = on_distilbert(distilbert_folder, layers=[0])
    update = taught(student, teacher, weight=0.0)
    assert update.hidden is None
    assert HIDDEN not in update(examples(4, seed=7, vocab=student.vocab))


def test_frozen_encoder_learns_nothing_and_stays_still(distilbert_folder):
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0], freeze="all")
    student.update = taught(student, teacher)
    before = student.get_pipe("distilbert").model.to_bytes()
    student.update(examples(4, seed=7, vocab=student.vocab))
    assert student.get_pipe("distilbert").model.to_bytes() == before


def test_maps_go_on_where_they_were():
    block = settings(hidden={"weight": 1.0}).hidden
    torch.manual_seed(0)
    states = [(torch.randn(2, 5, 4), torch.randn(2, 5, 6)) for _ in range(6)]
    one, other = (
        HiddenTeaching(block, student="a", teacher="b", pairs=[(1, 1), (2, 2)], widths=(4, 6)) for _ in range(2)
    )
    for student, teacher in states[:3]:
        one.compare(student, teacher, [2, 3])
    other.load_state_dict(one.state_dict())
    for student, teacher in states[3:]:
        assert one.compare(student, teacher, [2, 3])[0] == other.compare(student, teacher, [2, 3])[0]
    assert one.state_dict().keys() == other.state_dict().keys()


def test_what_can_not_be_compared_is_an_error(distilbert_folder):
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0])
    for fields, message in (
        ({"student": "tok2vec"}, "student has no shared encoder named 'tok2vec'"),
        ({"loss": "relations", "relation_heads": 5}, "32 wide"),
        ({"layers": [[2, 1]]}, "student has no layer 2"),
        ({"layers": [[1, 5]]}, "teacher has no layer 5"),
    ):
        with pytest.raises(DistillationError, match=message):
            taught(student, teacher, **fields)
    with pytest.raises(DistillationError, match="teacher has no shared encoder to"):
        taught(student, build(shared=False))


def test_nan_in_the_states_names_them(distilbert_folder):
    teacher, student = on_distilbert(distilbert_folder), on_distilbert(distilbert_folder, layers=[0])
    with torch.no_grad():
        teacher.get_pipe("distilbert").shim.encoder.layers[0].ffn.lin1.bias.fill_(float("nan"))
    update = taught(student, teacher)
    update.settings.weights.soft_weight._value = 0.0
    docs = sentences(2, seed=1, annotate="sentiment", vocab=student.vocab)
    with pytest.raises(DistillationError, match="hidden states is nan"):
        update([spacy.training.Example(Doc(student.vocab, words=[t.text for t in doc]), doc) for doc in docs])
    assert numpy.isfinite(update.nlp.get_pipe("distilbert").shim.encoder.layers[0].ffn.lin1.bias.detach().numpy()).all()
