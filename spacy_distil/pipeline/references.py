"""Gold data that spaCy's Docs have no place for, as extensions on the reference Docs of a corpus.

`doc._.questions`: a list of `{"id": str, "question": str, "answers": [{"text": str, "start": int}, …]}`, without answers where
the text has none. `doc._.summaries`: a list of reference summaries. `doc._.salient`: the indices of the sentences that belong
to an extract. `doc._.translations`: a list of reference translations of the whole Doc. None where nothing is given.

They are plain data: `DocBin(store_user_data=True)` keeps them, and `spacy.Corpus.v1` gives them back.
"""

from collections.abc import Callable, Iterable
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_distil.errors import ComponentError

EXTENSIONS = ("questions", "summaries", "salient", "translations")
PLACEHOLDER = ["x", "y", "z"]
"""The words of the only Doc that a component sees where `nlp.initialize()` is called without examples."""


def register_references() -> None:
    for name in EXTENSIONS:
        if not Doc.has_extension(name):
            Doc.set_extension(name, default=None)


def as_list(given: Any) -> list[Any]:
    """What stands in an extension: a string or a question alone is a list of one, None an empty one."""
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, (str, dict)) else [given]


def read_texts(doc: Doc, extension: str) -> list[str]:
    """The texts of an extension that are more than white space.

    RAISES: ComponentError for what is no text.
    """
    texts = as_list(doc._.get(extension))
    for text in texts:
        if not isinstance(text, str):
            raise ComponentError(f"{text!r:.80} in doc._.{extension} is no text: give a list of texts.")
    return [text for text in texts if text.strip()]


def check_references(
    name: str,
    what: str,
    has_reference: Callable[[Doc], bool],
    get_examples: Callable[[], Iterable[Example]],
    nlp: Language | None,
) -> None:
    """Whether a component has something to learn from. The corpus is read until it has.

    name: of the component.
    what: it has to find on a reference Doc, for the error.
    RAISES: ComponentError where no example has it, unless there are no examples at all, or the config has a teacher:
        `check_gold` looks then at what the teacher leaves to the corpus.
    """
    if nlp is not None and "distillation" in nlp.config:
        return
    n_examples, words = 0, []
    for n_examples, example in enumerate(get_examples(), start=1):  # noqa: B007
        if has_reference(example.reference):
            return
        words = [token.text for token in example.reference]
    if n_examples == 1 and words == PLACEHOLDER:
        return
    raise ComponentError(
        f"The component '{name}' has nothing to learn from: none of the {n_examples} examples has {what}. Set it on the "
        "reference Docs and save them by DocBin(store_user_data=True), convert the corpus with `python -m spacy distil "
        "convert`, or let the component learn from a teacher by a block [distillation] in the config. Of "
        "a streamed corpus, max_epochs = -1, `initialize` sees the first 100 examples alone: let one of these have it."
    )
