"""A `distilbert_seq2seq` learns from another what to write next."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import spacy
import torch
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from thinc.api import Adam, Config

from spacy_distil.distillation.agreement import Evaluation
from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.batch import Batch
from spacy_distil.distillation.bucketed import bucketed_kl, name_likeliest
from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.gold import has_gold, take_over
from spacy_distil.distillation.lessons import Lesson
from spacy_distil.distillation.losses import softmax_kl
from spacy_distil.distillation.pipes import find_distiller, seq2seq
from spacy_distil.distillation.student import make_student_config, to_text
from spacy_distil.distillation.teacher import Teacher
from spacy_distil.pipeline.generation.component import Seq2Seq
from spacy_distil.pipeline.generation.model import get_decoder, get_encoder
from tests.pipeline.generation import PAIRS, assert_torch_gradients, build, examples

from .toy import lesson

NAME = "distilbert_seq2seq"


@pytest.fixture(scope="module")
def teacher_folder(distilbert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that has learnt its four sentences."""
    nlp, _ = build(distilbert_folder, random=False)
    optimizer = Adam(0.003)
    for _ in range(100):
        nlp.update(examples(nlp), sgd=optimizer, drop=0.0)
    folder = tmp_path_factory.mktemp("seq2seq_teacher")
    nlp.to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Language:
    return spacy.load(teacher_folder)


def make_student(teacher_folder: Path, *, random: bool = False) -> Language:
    block = {"decoder": str(teacher_folder), "decoder_layers": [0]}
    return build(teacher_folder / NAME, encoder={"layers": [0, 2]}, model=block, random=random)[0]


@pytest.fixture
def student(teacher_folder: Path) -> Language:
    return make_student(teacher_folder)


def ask(student: Language, teacher: Language, made: list[Example]) -> Lesson:
    premises = seq2seq.premises(student.get_pipe(NAME), made)  # type: ignore[arg-type]
    return lesson(teacher, NAME, [eg.x for eg in made], premises)


def batch(made: list[Example], **settings: float) -> Batch:
    return Batch(made, **{"drop": 0.0, "temperature": 1.0, "soft_weight": 1.0, "gold_weight": 0.0, **settings})


def clear(pipe: Seq2Seq) -> None:
    for module in (get_encoder(pipe.model).encoder, get_decoder(pipe.model).decoder):
        module.zero_grad()


# The mathematics


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_with_all_classes_named_the_loss_is_softmax_kl(temperature: float) -> None:
    student, teacher = torch.randn(6, 9), 3 * torch.randn(6, 9)
    loss, gradient = bucketed_kl(student, *name_likeliest(teacher, 100), temperature)
    expected, d_expected = softmax_kl(student.numpy(), teacher.numpy(), temperature)
    assert loss == pytest.approx(expected, rel=1e-4)
    numpy.testing.assert_allclose(gradient, d_expected, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_gradient_of_the_bucketed_loss_is_that_of_finite_differences(temperature: float) -> None:
    student, teacher = torch.randn(4, 20, dtype=torch.float64), 3 * torch.randn(4, 20, dtype=torch.float64)
    named = name_likeliest(teacher, 5)
    _, gradient = bucketed_kl(student, *named, temperature)
    for row, column in [(0, int(named[0][0, 0])), (1, int(named[0][1, 4])), (2, 3), (3, 19), (0, 7)]:
        differences = []
        for sign in (1, -1):
            moved = student.clone()
            moved[row, column] += sign * 1e-5
            differences.append(sign * bucketed_kl(moved, *named, temperature)[0])
        assert sum(differences) / 2e-5 == pytest.approx(float(gradient[row, column]), abs=1e-6)


def test_named_classes_are_the_likeliest_and_the_probabilities_sum_to_one() -> None:
    logits = 4 * torch.randn(3, 50)
    classes, values = name_likeliest(logits, 7)
    assert torch.equal(classes, logits.topk(7, dim=1).indices)
    torch.testing.assert_close(values.exp().sum(dim=1), torch.ones(3))
    torch.testing.assert_close(values[:, :-1], logits.log_softmax(dim=1).gather(1, classes))


# The component


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.7, 0.4)])
def test_the_gradient_is_that_of_finite_differences(
    teacher_folder: Path, teacher: Language, weights: tuple[float, float]
) -> None:
    student = make_student(teacher_folder, random=True)
    pipe, made = student.get_pipe(NAME), examples(student)
    assert isinstance(pipe, Seq2Seq)
    lessons = [ask(student, teacher, made)]
    this = batch(made, temperature=2.0, soft_weight=weights[0], gold_weight=weights[1])

    def loss() -> float:
        kept = [parameter.grad for parameter in parameters]
        clear(pipe)
        value = seq2seq.update(pipe, lessons, this)
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
        return value

    parameters = [
        *get_encoder(pipe.model).encoder.parameters(),
        *get_decoder(pipe.model).decoder.parameters(),
    ]
    assert_torch_gradients(pipe, lambda: seq2seq.update(pipe, lessons, this), loss)


def test_gold_alone_is_the_components_own_update(student: Language) -> None:
    pipe, made = student.get_pipe(NAME), examples(student)
    assert isinstance(pipe, Seq2Seq)
    loss = seq2seq.update(pipe, [], batch(made, gold_weight=1.0))
    weight = get_decoder(pipe.model).decoder.layers[0].ffn.lin1.weight
    gradient = weight.grad.clone()
    clear(pipe)
    assert pipe.update(made)[NAME] == pytest.approx(loss)
    torch.testing.assert_close(weight.grad, gradient)


def test_two_teachers_teach_their_mean(student: Language, teacher: Language, distilbert_folder: Path) -> None:
    pipe, made = student.get_pipe(NAME), examples(student)
    assert isinstance(pipe, Seq2Seq)
    lessons = [ask(student, teacher, made), ask(student, student, made)]
    weight = get_decoder(pipe.model).decoder.layers[0].ffn.lin1.weight
    each = []
    for one in lessons:
        clear(pipe)
        seq2seq.update(pipe, [one], batch(made))
        each.append(weight.grad.clone())
    clear(pipe)
    seq2seq.update(pipe, lessons, batch(made))
    torch.testing.assert_close(weight.grad, (each[0] + each[1]) / 2, rtol=1e-3, atol=1e-5)


def test_a_student_with_fewer_layers_learns_its_teachers_texts(student: Language, teacher: Language) -> None:
    """From references that are not those which the teacher has learnt: it judges their pieces."""
    pipe, optimizer = student.get_pipe(NAME), Adam(0.003)
    made = examples(student)
    distiller = find_distiller(pipe)
    assert distiller is not None
    distiller.check(pipe, teacher.get_pipe(NAME))
    lessons = [ask(student, teacher, made)]
    losses = []
    for _ in range(120):
        losses.append(distiller.update(pipe, lessons, batch(made)))
        pipe.finish_update(optimizer)
    assert losses[-1] < 0.1 * losses[0]
    expected = [doc._.translation for doc in teacher.pipe([source for source, _ in PAIRS])]
    assert [doc._.translation for doc in student.pipe([source for source, _ in PAIRS])] == expected


def test_answers_are_small_and_can_be_kept(student: Language, teacher: Language, tmp_path: Path) -> None:
    made = examples(student, [*PAIRS, ("The film", ""), (" ", "Der Film")])
    store = AnswerStore(tmp_path, max_bytes=1 << 24)
    pipe = student.get_pipe(NAME)
    assert isinstance(pipe, Seq2Seq)
    premises = seq2seq.premises(pipe, made)
    docs = [eg.x for eg in made]
    fresh = Teacher(teacher, [NAME], store).hear(docs).ask(NAME, seq2seq.ask, premises)
    kept = Teacher(teacher, [NAME], store).hear(docs).ask(NAME, lambda *_: pytest.fail("asked again"), premises)
    lengths = [sum(len(ids) + 1 for ids in row) for row in pipe.find_targets(made)]
    assert [len(answer["pieces"]) for answer in kept] == [*lengths[:4], 0, 0]
    for one, other in zip(fresh, kept, strict=True):
        assert one["pieces"].shape[1] <= seq2seq.N_NAMED
        numpy.testing.assert_array_equal(one["pieces"], other["pieces"])
        numpy.testing.assert_allclose(one["logits"], other["logits"], rtol=2e-3)


def test_several_references_of_a_doc_are_judged_one_by_one(student: Language, teacher: Language) -> None:
    both, apart = examples(student)[:1], examples(student)[:1]
    both[0].reference._.translations = [PAIRS[0][1], "London"]
    (one,), (other,) = ask(student, teacher, both).answers, ask(student, teacher, apart).answers
    n = len(other["pieces"])
    assert len(one["pieces"]) > n
    numpy.testing.assert_array_equal(one["pieces"][:n], other["pieces"])


def test_texts_without_references_teach_nothing_and_that_is_told(student: Language, teacher: Language) -> None:
    pipe, made = student.get_pipe(NAME), examples(student, [("The film", "")])
    assert isinstance(pipe, Seq2Seq)
    with pytest.warns(UserWarning, match="learns nothing from texts without references"):
        assert seq2seq.update(pipe, [ask(student, teacher, made)], batch(made)) == 0.0


def test_other_vocabularies_and_other_targets_are_an_error(
    student: Language, teacher: Language, distilbert_folder: Path
) -> None:
    other = build(distilbert_folder, model={"vocabulary_size": 50})[1]
    with pytest.raises(DistillationError, match=r"writes other pieces than the student.*set `decoder`"):
        seq2seq.check(other, teacher.get_pipe(NAME))  # type: ignore[arg-type]
    summarizer = build(distilbert_folder, target="summary")[1]
    with pytest.raises(DistillationError, match="target = 'summary', the teacher 'translation'"):
        seq2seq.check(summarizer, teacher.get_pipe(NAME))  # type: ignore[arg-type]


def test_a_teachers_translation_stands_in_for_a_reference(student: Language, teacher: Language) -> None:
    pipe = student.get_pipe(NAME)
    bare, labelled = examples(student, [("London", ""), ("London", "London")])
    assert not has_gold(pipe, bare.reference)
    assert has_gold(pipe, labelled.reference)
    said = teacher("London")
    take_over(pipe, said, bare.reference)
    assert bare.reference._.translations == [said._.translation]
    scores = Evaluation(student, {NAME: teacher})(examples(student, [(source, "") for source, _ in PAIRS]))
    assert 0.0 <= scores["bleu"] <= 1.0


def test_a_student_is_distilled_by_the_config_that_init_config_writes(
    teacher_folder: Path, teacher: Language, tmp_path: Path
) -> None:
    made = examples(teacher)
    DocBin(docs=[example.reference for example in made], store_user_data=True).to_disk(tmp_path / "corpus.spacy")
    config = Config().from_str(to_text(make_student_config(str(teacher_folder))), interpolate=False)
    config["paths"].update(train=str(tmp_path / "corpus.spacy"), dev=str(tmp_path / "corpus.spacy"))
    config["corpora"] = {
        part: {"@readers": "spacy.Corpus.v1", "path": f"${{paths.{part}}}"} for part in ("train", "dev")
    }
    config["training"].update(dropout=0.0, max_steps=120, eval_frequency=60)
    config["training"]["optimizer"]["learn_rate"] = 0.003
    config["distillation"].update(temperature=1.0, cache={"folder": str(tmp_path / "cache")})
    config.to_disk(tmp_path / "student.cfg")
    train(tmp_path / "student.cfg", tmp_path / "student")
    student = spacy.load(tmp_path / "student" / "model-best")
    texts = [source for source, _ in PAIRS]
    assert [doc._.translation for doc in student.pipe(texts)] == [doc._.translation for doc in teacher.pipe(texts)]
    assert len(get_encoder(student.get_pipe(NAME).model).encoder.layers) == 2
    assert str(teacher_folder) not in student.config.to_str()


def test_the_layers_of_the_decoder_can_be_chosen(teacher_folder: Path) -> None:
    model = make_student_config(str(teacher_folder))["components"][NAME]["model"]
    assert (model["decoder"], model["decoder_layers"]) == (str(teacher_folder / NAME), None)
    model = make_student_config(str(teacher_folder), n_decoder_layers=1)["components"][NAME]["model"]
    assert (model["decoder"], model["decoder_layers"]) == (str(teacher_folder / NAME), [0])
    with pytest.raises(DistillationError, match=rf"3 layers of the decoder of '{NAME}', which has 2\. Ask for 1 to 2"):
        make_student_config(str(teacher_folder), n_decoder_layers=3)


def test_a_teacher_of_chosen_layers_gives_its_student_all_of_them(teacher_folder: Path, tmp_path: Path) -> None:
    teacher = make_student(teacher_folder)
    teacher.config["components"][NAME]["model"]["decoder_layers"] = [1]
    teacher.to_disk(tmp_path / "teacher")
    model = make_student_config(str(tmp_path / "teacher"))["components"][NAME]["model"]
    assert (model["decoder"], model["decoder_layers"]) == (str(tmp_path / "teacher" / NAME), None)
