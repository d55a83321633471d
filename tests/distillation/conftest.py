from pathlib import Path

import pytest
from spacy.language import Language

from .toy import sentences, train_teacher, write_corpus


@pytest.fixture(scope="session")
def teacher() -> Language:
    return train_teacher()


@pytest.fixture(scope="session")
def teacher_path(teacher: Language, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "model-best"
    teacher.to_disk(path)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.spacy, unlabelled, and dev.spacy."""
    path = tmp_path_factory.mktemp("corpus")
    write_corpus(path / "train.spacy", sentences(400, seed=1))
    write_corpus(path / "dev.spacy", sentences(20, seed=2, annotate="sentiment"))
    return path
