"""The config that trains a pipeline on, under a teacher."""

from __future__ import annotations

from spacy.language import Language
from thinc.api import Config

from spacy_distil.distillation.attach import CALLBACK
from spacy_distil.distillation.settings import BLOCK, DOCUMENTED

NAME = "retrain.cfg"


def make_retraining_config(nlp: Language, *, pipeline: str, teacher: str) -> Config:
    """The config that the pipeline was trained by, with all components as they are now, and a teacher for those that learn.

    pipeline: where the pipeline is saved.
    teacher: folder of a trained pipeline, or name of an installed package.
    RETURNS: not interpolated; `paths.pipeline` and `paths.teacher` can be overridden on the command line.
    """
    config = nlp.config.copy()
    config["paths"] = {**config["paths"], "pipeline": pipeline, "teacher": teacher}
    config["components"] = {name: {"source": "${paths.pipeline}"} for name in nlp.component_names}
    config["initialize"].update(components={}, init_tok2vec=None, after_init={"@callbacks": CALLBACK})
    config[BLOCK] = Config().from_str(DOCUMENTED, interpolate=False)[BLOCK]
    config[BLOCK]["teacher"] = "${paths.teacher}"
    return config
