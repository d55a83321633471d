"""`python -m spacy distil compare`: what students keep of their teacher, where they disagree with it, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device
from spacy_distil.cli.outputs import writing

if TYPE_CHECKING:
    from spacy_distil.evaluation.sources import Source


@distil.command("compare")
def compare_cli(
    teacher: Annotated[str, Arg(help="The teacher: folder of a pipeline, or name of an installed one")],
    students: Annotated[list[str], Arg(help="The students, in the same way; NAME=FOLDER gives a name")],
    corpus: Annotated[Path, Arg(help="Texts to compare on: a .spacy, .txt or .jsonl file, or a folder of them")],
    output: Annotated[Path, Opt("--output", "-o", help="Folder for report.md, report.html and report.json")],
    title: Annotated[str, Opt("--title", "-t", help="Title of the reports")] = "Teacher and students",
    labels: Annotated[bool, Opt("--labels", "-l", help="Print the scores of each label too")] = False,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Compare a teacher with its students: each score and what is kept of the teacher's, how far they agree, parameters, size
    on disk, words per second, latency and peak memory, all measured in turn. The reports have intervals, the scores of
    each label, and the texts on which they disagree most. Without gold labels, agreement stands alone.

    Students of the same name are runs of one kind, such as three seeds: they get mean and standard deviation.

    python -m spacy distil compare training/teacher distilled=training/student-1 distilled=training/student-2 corpus/test.spacy
    --output training
    """
    from spacy_distil.errors import CorpusError
    from spacy_distil.evaluation.compare import compare
    from spacy_distil.evaluation.costs import Setting
    from spacy_distil.evaluation.report import write_report
    from spacy_distil.evaluation.sources import CompareError
    from spacy_distil.evaluation.tables import make_label_tables, make_table

    check_output(output)
    import_code(code_path)
    choose_device(use_gpu)
    try:
        comparison = compare(
            parse_source(teacher),
            [parse_source(student) for student in students],
            corpus,
            setting=Setting(use_gpu, code_path),
            progress=msg.text,
        )
    except (CompareError, CorpusError) as error:
        msg.fail("Can't compare", str(error), exits=1)
    print_table(make_table(comparison, intervals=False))
    if labels:
        for name, table in make_label_tables(comparison, intervals=False).items():
            msg.divider(name)
            print_table(table)
    with writing(output):
        for path in write_report(comparison, output, title=title):
            msg.good(f"Wrote {path}")


def parse_source(text: str) -> Source:
    """`NAME=FOLDER`, or a folder or package whose own name will do: `student` for `training/student/model-best`."""
    from spacy_distil.evaluation.sources import CHECKPOINTS, Source

    name, is_named, path = text.partition("=")
    if is_named and not Path(text).exists():
        return Source(name, path)
    folder = Path(text).resolve()
    return Source(folder.parent.name if folder.name in CHECKPOINTS else folder.name, text)


def print_table(table: list[list[str]]) -> None:
    header, *rows = table
    msg.table(rows, header=header, divider=True, aligns=["l", *"r" * (len(header) - 1)])


def check_output(output: Path) -> None:
    """End the program, before any long work, where the reports can't be written. The folder is made with them."""
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    try:
        (draft := there / ".report.draft").touch()
        draft.unlink()
    except OSError as error:
        msg.fail(f"The reports can't be written to {output}", f"{error}. Name another folder by --output.", exits=1)
