"""The block `[distillation]`."""

import pytest
from thinc.api import Config

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.settings import DOCUMENTED, Settings

NER = "[distillation.per_component]\n[distillation.per_component.ner]\n"


def read(text: str) -> Settings:
    block = Config().from_str(text)["distillation"]
    return Settings.from_block(block)


def test_documented_block_is_the_default():
    documented = read(DOCUMENTED)
    plain = read('[distillation]\nteacher = "training/teacher/model-best"\n')
    for name in ("teachers", "components", "inherit", "inherit_heads", "cache"):
        assert getattr(documented, name) == getattr(plain, name)
    for name in ("loss", "layers", "relation_heads", "student", "teacher"):
        assert getattr(documented.hidden, name) == getattr(plain.hidden, name)
    for name in ("temperature", "soft_weight", "gold_weight"):
        assert getattr(documented.weights, name).at(0) == getattr(plain.weights, name).at(0)
    assert documented.hidden.weight.is_zero
    assert plain.hidden.weight.is_zero


def test_schedules_are_read_by_step():
    block = """
[distillation]
teacher = "here"
gold_weight = 0.25
[distillation.soft_weight]
@schedules = "warmup_linear.v1"
initial_rate = 1.0
warmup_steps = 4
total_steps = 8
"""
    weight = read(block).weights.soft_weight
    assert [weight.at(step) for step in (0, 0, 2, 4, 6)] == [0.0, 0.0, 0.5, 1.0, 0.5]
    assert not weight.is_zero


def test_component_overrules_what_it_names_alone():
    block = """
[distillation]
teacher = ["here", "there"]
temperature = 3.0
[distillation.per_component]
[distillation.per_component.ner]
gold_weight = 0.0
"""
    settings = read(block)
    assert settings.teachers == ("here", "there")
    assert settings.weights_of("ner").temperature.at(0) == 3.0
    assert settings.weights_of("ner").gold_weight.at(0) == 0.0
    assert settings.weights_of("parser").gold_weight.at(0) == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("temperature = 0.0", "temperature = 0"),
        ("temperature = -1.0", "temperature = -1"),
        ("temperature = NaN", "temperature = nan"),
        ('temperature = "hot"', "'hot': it must be a number"),
        ("temperature = []", "temperature: its schedule gives None"),
        ('temperature = ["hot"]', "temperature: its schedule gives 'hot'"),
        ("soft_weight = -0.5", "soft_weight = -0.5"),
        ("gold_weight = Infinity", "gold_weight = inf"),
        ("soft_weight = 0\ngold_weight = 0", "both 0"),
        ("temprature = 1", "has no field 'temprature'"),
        ('components = "ner"', "must be a list"),
        ("components = [3]", r"components = \[3\]: it must be a list of a name"),
        ("temperature = true", "temperature = True: it must be a number"),
        ('inherit = "no"', "inherit = 'no': it must be true or false"),
        ("inherit_heads = 1", "inherit_heads = 1: it must be true or false"),
        ("per_component = 2", r"\[distillation.per_component\] must be a block"),
        (f"{NER}temperature = 0", r"\[distillation.per_component.ner\] temperature = 0"),
        (f"{NER}layers = 2", "no field 'layers'"),
        ('[distillation.hidden]\nloss = "l1"', "'l1': it must be one of cosine"),
        ('[distillation.hidden]\nlayers = "first"', "'uniform' or 'last', or pairs"),
        ("[distillation.hidden]\nlayers = [1, 2]", "pairs"),
        ("[distillation.hidden]\nlayers = []", r"layers = \[\]: it must be"),
        ("[distillation.hidden]\nlayers = [[1.5, 2]]", "pairs"),
        ("[distillation.hidden]\nlayers = 3", "layers = 3: it must be"),
        ("[distillation.hidden]\nrelation_heads = 0", "relation_heads = 0"),
        ("[distillation.hidden]\nrelation_heads = true", "relation_heads = True: it must be a whole number"),
        ("[distillation.hidden]\nstudent = 3", r"\[distillation.hidden\] student = 3: it must be a name"),
        ("[distillation.hidden]\nteacher = true", "teacher = True: it must be a name"),
        ("[distillation.cache]\nmax_size = 0", "max_size = 0"),
        ("[distillation.cache]\nmax_size = NaN", "max_size = nan"),
        ('[distillation.cache]\nmax_size = "4GB"', "max_size = '4GB': it must be a number"),
        ("[distillation.cache]\nfolder = 3", "folder = 3: it must be a path"),
    ],
)
def test_fields_that_make_no_sense_are_named(fields, message):
    with pytest.raises(DistillationError, match=message):
        read(f'[distillation]\nteacher = "here"\n{fields}\n')


@pytest.mark.parametrize("teacher", ["3", "[3]", "true"])
def test_teacher_that_is_no_path_is_an_error(teacher):
    with pytest.raises(DistillationError, match=r"teacher = .* it must be a (path|list of a path)"):
        read(f"[distillation]\nteacher = {teacher}\n")


def test_no_teacher_is_an_error():
    with pytest.raises(DistillationError, match="names no teacher"):
        read("[distillation]\ntemperature = 1.0\n")
