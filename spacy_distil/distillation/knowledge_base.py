"""An entity linker's knowledge base, which student and teacher have to share."""

from collections.abc import Callable

import spacy
from spacy.kb import KnowledgeBase
from spacy.vocab import Vocab

from spacy_distil.distillation.errors import TeacherError
from spacy_distil.distillation.labels import find_pipe

KB_READER = "spacy-distil.TeacherKB.v1"


@spacy.registry.misc(KB_READER)
def teacher_kb(teacher: str | list[str], component: str) -> Callable[[Vocab], KnowledgeBase]:
    """A copy of a teacher's knowledge base, for `[initialize.components.NAME.kb_loader]`.

    teacher (Union[str, List[str]]): folder or package of a trained pipeline; of several, the first that has the component.
    component (str): the component's name in it.
    RAISES: TeacherError if a teacher can't be loaded, none has such a component, or it has no knowledge base.
    """

    def load(vocab: Vocab) -> KnowledgeBase:
        kb = getattr(find_pipe(teacher, component, "a knowledge base"), "kb", None)
        if kb is None:
            raise TeacherError(
                f"Component '{component}' of the teacher {teacher!r} has no knowledge base. Remove the block "
                f"[initialize.components.{component}.kb_loader], or give another loader there."
            )
        for string in (*kb.get_entity_strings(), *kb.get_alias_strings()):
            vocab.strings.add(string)
        copy = type(kb)(vocab, entity_vector_length=kb.entity_vector_length)
        copy.from_bytes(kb.to_bytes())
        return copy

    return load
