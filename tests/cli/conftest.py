"""The commands are tested with the toy pipelines of the distillation's tests."""

from tests.distillation.conftest import corpus, teacher, teacher_path

__all__ = ["corpus", "teacher", "teacher_path"]
