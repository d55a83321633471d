"""`python -m spacy distil convert`: files of questions, summaries or translations to a `.spacy` file."""

import warnings
from enum import Enum
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from spacy.cli._util import Arg, Opt
from wasabi import msg

from spacy_distil.cli import distil

CONVERTERS = {
    "squad": "spacy_distil.corpora.squad",
    "summaries": "spacy_distil.corpora.summaries",
    "parallel": "spacy_distil.corpora.parallel",
}
"""The module of each; its `read(path, nlp)` gives Docs."""
Converter = Enum("Converter", {name: name for name in CONVERTERS}, type=str)  # type: ignore[misc]


class OnError(str, Enum):
    fail = "fail"
    skip = "skip"


@distil.command("convert")
def convert_cli(
    input_path: Annotated[Path, Arg(help="The file to convert", exists=True, dir_okay=False)],
    output_path: Annotated[Path, Arg(help="The .spacy file to write", dir_okay=False)],
    converter: Annotated[Converter, Opt("--converter", "-c", help="The kind of the file")],
    lang: Annotated[str, Opt("--lang", "-l", help="Language of the texts")] = "en",
    on_error: Annotated[
        OnError | None, Opt("--on-error", help="What to do with questions whose answers are not in their passage")
    ] = None,
) -> None:
    """Convert a corpus to spaCy's format.

    squad: JSON of SQuAD 1.1 or 2.0; questions and answers go to `doc._.questions`. summaries: JSONL of texts and summaries.
    parallel: sentences and their translations, with a tab between. `spacy.Corpus.v1` reads what is written.
    """
    from spacy_distil.errors import CorpusError

    try:
        n_docs, told = convert(input_path, output_path, converter.value, lang, on_error.value if on_error else None)
    except (CorpusError, OSError) as error:
        what, *lines = str(error).split("\n")
        msg.fail("The file can't be converted", what)
        print_lines(lines)
        raise typer.Exit(1) from None
    for warning in told:
        what, *lines = warning.split("\n")
        msg.warn(what)
        print_lines(lines)
    msg.good(f"{output_path}: {n_docs} Docs")


def print_lines(lines: list[str]) -> None:
    """A report, a line for each fault: wasabi would wrap it into a paragraph."""
    for line in lines:
        print(f"  {line}")


def convert(
    input_path: Path, output_path: Path, converter: str, lang: str, on_error: str | None
) -> tuple[int, list[str]]:
    """RETURNS: the number of Docs, and what the converter warned of. Raises CorpusError, and OSError where the disk does not
    take what is written."""
    from spacy.tokens import DocBin

    from spacy_distil.drafts import new_file
    from spacy_distil.errors import CorpusError
    from spacy_distil.languages import make_blank

    read = import_module(CONVERTERS[converter]).read
    options: dict[str, Any] = {} if on_error is None else {"on_error": on_error}
    unknown = options.keys() - signature(read).parameters.keys()
    if unknown:
        raise CorpusError(f"The converter {converter!r} has no option --on-error.")
    nlp = make_blank(lang, CorpusError)
    docs = DocBin(store_user_data=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for doc in read(input_path, nlp, **options):
            docs.add(doc)
    if not len(docs):
        raise CorpusError(f"There is no text in '{input_path}'.")
    with new_file(output_path) as draft:
        docs.to_disk(draft)
    return len(docs), [str(warning.message) for warning in caught]
