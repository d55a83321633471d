"""The commands are tested with the toy pipelines of the distillation's tests."""

from collections.abc import Iterator

import pytest
from spacy.util import logger

from tests.distillation.conftest import corpus, teacher, teacher_path

__all__ = ["corpus", "teacher", "teacher_path"]


@pytest.fixture(autouse=True)
def spacys_log() -> Iterator[None]:
    """A command sets how much spaCy's log tells, for the whole process."""
    level = logger.level
    yield
    logger.setLevel(level)
