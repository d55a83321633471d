"""A `distilbert_qa` learns from another where answers start and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.cli.init_config import fill_config
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import Adam

from spacy_distil.distillation.agreement import Evaluation
from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.attach import attach
from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.gold import has_gold, take_over
from spacy_distil.distillation.hidden_states.losses import cosine, mean_square, relations
from spacy_distil.distillation.hidden_states.states import match_layers
from spacy_distil.distillation.hidden_states.teaching import HiddenTeaching
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.losses import softmax_kl
from spacy_distil.distillation.pipes import find_distiller, question_answering
from spacy_distil.distillation.settings import Settings
from spacy_distil.distillation.teacher import Teacher
from spacy_distil.pipeline.question_answering.gold import cross_entropy
from tests.pipeline.questions import PASSAGES, example, examples, make_nlp

from .gradients import assert_finite_differences, assert_gradients_equal, clear, gradients
from .toy import lesson

NAME = "distilbert_qa"
LONG = "The film in London was great, and the end of the film is un- believable # in Berlin" + " the end" * 12


@pytest.fixture(scope="module")
def teacher(bert_folder: Path) -> Language:
    """A BERT with token types, that has learnt."""
    nlp = make_nlp(bert_folder, no_answer_threshold=0.0)
    optimizer = Adam(0.003)
    for _ in range(60):
        nlp.update(examples(nlp), sgd=optimizer, drop=0.0)
    return nlp


@pytest.fixture
def student(bert_folder: Path) -> Language:
    nlp = make_nlp(bert_folder, encoder={"layers": [0, 2]}, no_answer_threshold=0.0)
    nlp.update(examples(nlp), sgd=Adam(0.001))  # the head starts from zeros, and would send no gradient
    return nlp


def unlabelled(nlp: Language) -> list[Example]:
    made = [(text, [(question, None) for question, _ in questions]) for text, questions in PASSAGES]
    return [example(nlp, text, questions) for text, questions in [*made, (LONG, [("Where?", None), ("a?", None)])]]


def ask(student: Language, teacher: Language, made: list[Example]) -> Lesson:
    premises = question_answering.premises(student.get_pipe(NAME), made)
    return lesson(teacher, NAME, [eg.x for eg in made], premises)


def hear_states(student: Language, teacher: Language, made: list[Example], hidden: HiddenTeaching) -> Lesson:
    premises = question_answering.premises(student.get_pipe(NAME), made)
    pipe = teacher.get_pipe(NAME)
    return Lesson(pipe, question_answering.ask_states(pipe, [], premises, hidden.teacher_layers))


def teaching(**settings: Any) -> HiddenTeaching:
    """Of the student's two layers by the teacher's four."""
    hidden = Settings.from_block({"teacher": "teacher", "hidden": settings}).hidden
    pairs = match_layers(2, 4, hidden.layers)
    return HiddenTeaching(hidden, student=NAME, teacher=NAME, pairs=pairs, widths=(32, 32))


def batch(made: list[Example], **settings: Any) -> Batch:
    return Batch(made, **{"drop": 0.0, "temperature": 2.0, "soft_weight": 1.0, "gold_weight": 0.0, **settings})


def answers(nlp: Language) -> list[str]:
    return [said[0].text for text, asked in PASSAGES for said in nlp(text)._.ask([question for question, _ in asked])]


def test_a_student_learns_from_its_teacher_without_gold_answers(student, teacher):
    pipe = student.get_pipe(NAME)
    distiller = find_distiller(pipe)
    assert distiller is not None
    distiller.check(pipe, teacher.get_pipe(NAME))
    made, optimizer = unlabelled(student), Adam(0.003)
    losses = []
    for _ in range(80):
        losses.append(distiller.update(pipe, [ask(student, teacher, made)], batch(made)))
        pipe.finish_update(optimizer)
    assert losses[-1] < 0.1 * losses[0]
    assert answers(student) == answers(teacher)
    assert len(set(answers(student))) > 3


def test_the_teacher_scores_the_student_s_own_sequences(student, teacher):
    made = unlabelled(student)
    pipe, other = student.get_pipe(NAME), teacher.get_pipe(NAME)
    rows = [[question for question in row] for row in pipe.find_questions(made, answered=False)]
    windows = pipe.make_example_windows(made, rows)
    assert len(windows.questions) > len(windows.docs)  # the long passage has several windows
    expected = other.model.predict(windows.sequences)
    said = np.concatenate([answer["logits"] for answer in ask(student, teacher, made).answers])
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_the_soft_loss_is_the_divergence_over_cls_and_the_passage_of_each_window(student, teacher):
    made = unlabelled(student)
    pipe = student.get_pipe(NAME)
    windows = pipe.make_example_windows(made, pipe.find_questions(made, answered=False))
    own, taught = (nlp.get_pipe(NAME).model.predict(windows.sequences) for nlp in (student, teacher))
    expected = 0.0
    for row, exist in zip(windows.rows, windows.exist, strict=True):
        for column in range(2):
            pair = (logits[row[exist], column][None] for logits in (own, taught))
            expected += softmax_kl(*pair, 2.0)[0]
    loss = question_answering.update(pipe, [ask(student, teacher, made)], batch(made))
    assert loss == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.7, 0.3)])
def test_the_gradient_is_that_of_finite_differences(student, teacher, weights):
    soft, gold = weights
    made = [*examples(student), *unlabelled(student)]
    lessons = [ask(student, teacher, made)]
    mixed = batch(made, soft_weight=soft, gold_weight=gold)
    pipe = student.get_pipe(NAME)
    assert_finite_differences(pipe, lambda: question_answering.update(pipe, lessons, mixed))


def test_gradients_of_the_encoder_add_up_by_weight(student, teacher):
    made = examples(student)
    pipe, lessons = student.get_pipe(NAME), [ask(student, teacher, made)]
    parameters = dict(pipe.shim.encoder.named_parameters())

    def gradient(soft: float, gold: float) -> dict:
        for parameter in parameters.values():
            parameter.grad = None
        clear(pipe)
        question_answering.update(pipe, lessons, batch(made, soft_weight=soft, gold_weight=gold))
        encoder = {name: parameter.grad.numpy().copy() for name, parameter in parameters.items()}
        return {**encoder, **gradients(pipe)}

    parts, whole = (gradient(1.0, 0.0), gradient(0.0, 1.0)), gradient(0.7, 0.3)
    expected = {name: 0.7 * parts[0][name] + 0.3 * parts[1][name] for name in whole}
    assert_gradients_equal(whole, expected, tolerance=1e-3)


def test_gold_alone_is_the_component_s_own_update(student):
    made = examples(student)
    pipe = student.get_pipe(NAME)
    loss = question_answering.update(pipe, [], batch(made, gold_weight=1.0))
    rows = pipe.find_questions(made)
    windows = pipe.make_example_windows(made, rows)
    questions = [question for row in rows for question in row]
    assert loss == pytest.approx(cross_entropy(windows, questions, pipe.model.predict(windows.sequences))[0], rel=1e-4)


@pytest.mark.parametrize("loss", [cosine, mean_square, relations])
@pytest.mark.parametrize("layers", ["uniform", "last", [[0, 0], [1, 3]]])
def test_states_of_every_piece_are_compared_layer_by_layer(student, teacher, loss, layers):
    made = unlabelled(student)
    pipe = student.get_pipe(NAME)
    hidden = teaching(loss=loss.__name__, layers=layers, relation_heads=4)
    heard = hear_states(student, teacher, made, hidden)
    premises = question_answering.premises(pipe, made)
    for answer, plain in zip(heard.answers, question_answering.ask(heard.teacher, [], premises), strict=True):
        np.testing.assert_allclose(answer["logits"], plain["logits"], atol=1e-4)
    sequences = pipe.make_example_windows(made, pipe.find_questions(made, answered=False)).sequences
    own = pipe.shim.predict_states(sequences, hidden.student_layers)
    taught = heard.teacher.shim.predict_states(sequences, hidden.teacher_layers)
    others = [sequences.lengths, 4] if loss is relations else []
    alone = batch(made, soft_weight=0.0, states_weight=0.5, hidden=hidden)
    expected = 0.5 * float(loss(own, taught, *others))
    assert expected > 0
    assert question_answering.update(pipe, [heard], alone) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("layers", ["uniform", "last"])
def test_the_gradient_of_the_states_reaches_the_encoder(student, teacher, layers):
    made = unlabelled(student)
    pipe = student.get_pipe(NAME)
    hidden = teaching(layers=layers)
    heard = hear_states(student, teacher, made, hidden)
    weight = pipe.shim.encoder.layers[0].ffn.lin1.weight

    def loss() -> float:
        return question_answering.update(pipe, [heard], batch(made, soft_weight=0.3, states_weight=2.0, hidden=hidden))

    loss()
    assert weight.grad is not None
    gradient, values, step = weight.grad.clone(), weight.detach().clone(), 1e-3
    direction = gradient / gradient.norm()
    differences = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.copy_(values + sign * step * direction)
        differences.append(sign * loss())
    assert sum(differences) / (2 * step) == pytest.approx(float((gradient * direction).sum()), rel=0.03)


def test_two_teachers_that_agree_teach_as_one(student, teacher):
    made = unlabelled(student)
    pipe, heard = student.get_pipe(NAME), ask(student, teacher, made)
    one = question_answering.update(pipe, [heard], batch(made))
    assert question_answering.update(pipe, [heard, heard], batch(made)) == pytest.approx(one, rel=1e-3)


def test_drawn_questions_are_taught_by_their_own_answers(student, teacher):
    made = unlabelled(student)
    pipe = student.get_pipe(NAME)
    pipe.questions_per_doc = 1
    # A teacher that is the student itself has nothing to say.
    heard = Lesson(pipe, find_distiller(pipe).ask(pipe, [], question_answering.premises(pipe, made)))
    for _ in range(5):
        assert question_answering.update(pipe, [heard], batch(made)) == pytest.approx(0, abs=1e-3)


def test_answers_are_kept(student, teacher, tmp_path):
    made = unlabelled(student)
    premises = question_answering.premises(student.get_pipe(NAME), made)
    keeper = Teacher(teacher, [NAME], AnswerStore(tmp_path, max_bytes=10**6))

    def hear(ask) -> list[np.ndarray]:
        heard = keeper.hear([eg.x for eg in made]).ask(NAME, ask, premises)
        return [answer["logits"] for answer in heard]

    def never(*args):
        raise AssertionError("asked again")

    for one, other in zip(hear(question_answering.ask), hear(never), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


def test_docs_without_questions_and_empty_docs_pass(student, teacher):
    plain = Example(student.make_doc("The film"), student.make_doc("The film"))
    empty = example(student, "", [("Where?", None)])
    for made in ([plain, empty], [plain, *examples(student), empty]):
        heard = ask(student, teacher, made)
        assert len(heard.answers[0]["logits"]) == 0
        question_answering.update(student.get_pipe(NAME), [heard], batch(made, gold_weight=0.5))


def test_another_vocabulary_is_an_error(student, save_checkpoint):
    folder = save_checkpoint("distilbert")
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf8").replace("London\n", "Lisbon\n")
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    other = make_nlp(folder)
    with pytest.raises(
        DistillationError, match=r"other word pieces than the student; 2 differ, such as 'Lisbon', 'London'"
    ):
        question_answering.check(student.get_pipe(NAME), other.get_pipe(NAME))


def test_a_teacher_of_shorter_windows_is_an_error(student, save_checkpoint):
    other = make_nlp(save_checkpoint("bert", max_position_embeddings=32), max_length=32, encoder={"overlap": 8})
    with pytest.raises(DistillationError, match=r"up to 48 pieces, and the teacher takes 32. Set max_length = 32"):
        question_answering.check(student.get_pipe(NAME), other.get_pipe(NAME))


def test_what_counts_as_gold(student):
    pipe = student.get_pipe(NAME)
    for given, expected in (
        ([("Where?", None)], False),
        ([("Where?", [])], True),
        ([("Where?", ["film"])], True),
        ([], False),
    ):
        assert has_gold(pipe, example(student, "The film", given).reference) is expected
    assert not has_gold(pipe, student.make_doc("The film"))


def test_where_nothing_is_answered_the_teacher_s_answers_are_the_measure(student, teacher):
    target = example(teacher, *PASSAGES[0]).reference
    source = teacher("The film in London was great.")
    take_over(teacher.get_pipe(NAME), source, target)
    assert target._.questions == [
        {"id": f"q{i}", "question": question, "answers": [{"text": answer, "start": start}]}
        for i, (question, answer, start) in enumerate([("Where?", "London", 12), ("Which?", "great", 23)])
    ]
    evaluation = Evaluation(teacher, {NAME: teacher})
    made = [eg for eg in unlabelled(teacher) if len(eg.x) < 20]
    assert evaluation(made)["qa_exact_match"] == 1.0


def test_a_student_is_distilled_by_the_stock_training_loop(teacher, bert_folder, tmp_path):
    teacher.to_disk(tmp_path / "teacher")
    DocBin(docs=[eg.reference for eg in examples(teacher)], store_user_data=True).to_disk(tmp_path / "corpus.spacy")
    config = f"""
[paths]
train = null
dev = null

[nlp]
lang = "en"
pipeline = ["{NAME}"]

[components]

[components.{NAME}]
factory = "{NAME}"
max_length = 48
stride = 8
max_answer_length = 6
no_answer_threshold = 0.0

[components.{NAME}.model]
@architectures = "spacy-distil.QuestionAnswering.v1"

[components.{NAME}.model.encoder]
@architectures = "spacy-distil.DistilBert.v1"
name = "{tmp_path / "teacher"}"
layers = [0, 2]
precision = "float32"

[corpora]

[corpora.train]
@readers = "spacy.Corpus.v1"
path = "{tmp_path / "corpus.spacy"}"

[corpora.dev]
@readers = "spacy.Corpus.v1"
path = "{tmp_path / "corpus.spacy"}"

[training]
dropout = 0.0
max_steps = 100
eval_frequency = 50

[training.optimizer]
@optimizers = "Adam.v1"
learn_rate = 0.003

[initialize]

[initialize.after_init]
@callbacks = "spacy-distil.attach_teacher.v1"

[distillation]
teacher = "{tmp_path / "teacher"}"
gold_weight = 0.0
states_weight = 0.1

[distillation.cache]
folder = "{tmp_path / "cache"}"
"""
    (tmp_path / "student.cfg").write_text(config)
    fill_config(tmp_path / "student.cfg", tmp_path / "student.cfg")
    train(tmp_path / "student.cfg", tmp_path / "student")
    student = spacy.load(tmp_path / "student" / "model-best")
    assert str(tmp_path / "teacher") not in student.config.to_str()
    assert len(student.get_pipe(NAME).shim.encoder.layers) == 2
    assert sum(one == other for one, other in zip(answers(student), answers(teacher), strict=True)) >= 5


def attached(teacher: Language, folder: Path, tmp_path: Path, **hidden: Any) -> Language:
    """A student of two layers, 16 wide, that learns the states of the teacher, which is 32 wide."""
    teacher.to_disk(tmp_path / "teacher")
    nlp = make_nlp(folder, encoder={"layers": [0, 2]})
    nlp.config["distillation"] = {"teacher": str(tmp_path / "teacher"), "states_weight": 1.0, "hidden": hidden}
    attach(nlp)
    return nlp


def test_a_narrower_student_learns_states_through_maps(teacher, save_checkpoint, tmp_path):
    folder = save_checkpoint("bert", hidden_size=16, intermediate_size=24)
    nlp = attached(teacher, folder, tmp_path, loss="mean_square")
    made, optimizer = unlabelled(nlp), Adam(0.003)
    losses = [nlp.update(made, sgd=optimizer, drop=0.0)[NAME] for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    state = nlp.update.state_dict()
    assert state[f"{NAME}/map.0"].shape == state[f"{NAME}/map.1"].shape == (16, 32)

    other = attached(teacher, folder, tmp_path, loss="mean_square")
    assert not np.allclose(other.update.state_dict()[f"{NAME}/map.0"], state[f"{NAME}/map.0"])
    other.update.load_state_dict(state)
    restored = other.update.state_dict()
    assert restored.keys() == state.keys()
    assert all(np.array_equal(restored[name], state[name]) for name in state)


def test_a_layer_that_is_not_there_is_an_error_before_training(teacher, bert_folder, tmp_path):
    with pytest.raises(DistillationError, match=r"'distilbert_qa': .* the student has no layer 3"):
        attached(teacher, bert_folder, tmp_path, layers=[[3, 4]])
