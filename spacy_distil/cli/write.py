"""`python -m spacy distil write`: a corpus whose references a pipeline has written."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device
from spacy_distil.cli.outputs import writing

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

    from spacy_distil.pipeline.generation.component import Seq2Seq


@distil.command("write")
def write_cli(
    pipeline: Annotated[str, Arg(help="Folder of a trained pipeline, or package, with a distilbert_seq2seq")],
    input_path: Annotated[Path, Arg(help="Texts: .spacy, .txt, .jsonl, or a folder of them", exists=True)],
    output_path: Annotated[Path, Arg(help="The .spacy file to write", dir_okay=False)],
    keep: Annotated[bool, Opt("--keep", "-k", help="Keep the references that the corpus has, beside the new")] = False,
    component: Annotated[str | None, Opt("--component", help="Name of the component, if there are several")] = None,
    beams: Annotated[int | None, Opt("--beams", "-b", min=1, help="Instead of the component's own number")] = None,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Let a pipeline translate or summarise texts, and write them with what it wrote as their references: a student learns from
    these by plain `spacy train` (distillation at the level of sequences, Kim and Rush 2016).

    python -m spacy distil write training/teacher/model-best train.spacy taught.spacy
    """
    import_code(code_path)

    from dataclasses import replace

    from spacy.tokens import DocBin

    from spacy_distil.distillation.teacher import load_teacher
    from spacy_distil.drafts import new_file

    choose_device(use_gpu)
    try:
        nlp = load_teacher(pipeline)
        pipe = find_writer(nlp, component)
        own = pipe.search
        docs = DocBin(store_user_data=True)
        try:  # the pipeline is loaded once in a process, and others may use it
            pipe.search = own if beams is None else replace(own, beams=beams)
            for doc in write_references(nlp, pipe, input_path, keep=keep):
                docs.add(doc)
        finally:
            pipe.search = own
    except (OSError, ValueError) as error:
        msg.fail("The references can't be written", error, exits=1)
    with writing(output_path), new_file(output_path) as draft:
        docs.to_disk(draft)
    msg.good(f"{output_path}: {len(docs):,} Docs")


def find_writer(nlp: "Language", name: str | None) -> "Seq2Seq":
    """RAISES: ComponentError where there is none, or several and no name."""
    from spacy_distil.errors import ComponentError
    from spacy_distil.pipeline.generation.component import Seq2Seq

    found = {other: pipe for other, pipe in nlp.pipeline if isinstance(pipe, Seq2Seq)}
    if name is not None:
        found = {other: pipe for other, pipe in found.items() if other == name}
    if len(found) != 1:
        has = f"has {', '.join(nlp.pipe_names) or 'no components'}"
        raise ComponentError(
            f"Name one component `distilbert_seq2seq` of the pipeline by --component: it {has}"
            + (f", of which {', '.join(found)} write texts." if found else ".")
        )
    return next(iter(found.values()))


def write_references(nlp: "Language", pipe: "Seq2Seq", path: Path, *, keep: bool) -> "Iterator[Doc]":
    """The Docs of a corpus, each with the text that the pipeline writes for it as its reference; a Doc for which nothing was
    written has none."""
    from spacy_distil.corpora.text import TextCorpus
    from spacy_distil.pipeline.generation.component import EXTENSIONS, REFERENCES
    from spacy_distil.pipeline.references import read_texts

    examples = TextCorpus(str(path))(nlp)
    pairs = ((example.predicted, example.reference) for example in examples)
    for doc, reference in nlp.pipe(pairs, as_tuples=True):
        text = doc._.get(EXTENSIONS[pipe.target])
        own = read_texts(reference, REFERENCES[pipe.target]) if keep else []
        reference._.set(REFERENCES[pipe.target], list(dict.fromkeys([*own, *([text] if text else [])])))
        yield reference
