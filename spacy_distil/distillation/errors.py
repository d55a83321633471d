"""The errors of distillation: each says what was wrong, which value, and what to do."""


class DistillationError(ValueError):
    """A distillation that can't start or can't go on."""


class TeacherError(DistillationError):
    """A teacher that can't be loaded, or that has nothing to teach to this student."""


class LabelError(DistillationError):
    """Teacher, student and corpus don't know the same labels."""
