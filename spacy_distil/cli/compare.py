"""`python -m spacy distil compare`: what students keep of their teacher, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacy.cli._util import Arg, Opt, import_code, setup_gpu
from wasabi import msg

from spacy_distil.cli import distil

if TYPE_CHECKING:
    from spacy_distil.evaluation.compare import Source

CHECKPOINTS = ("model-best", "model-last")


@distil.command("compare")
def compare_cli(
    teacher: Annotated[str, Arg(help="The teacher: folder of a pipeline, or name of an installed one")],
    students: Annotated[list[str], Arg(help="The students, in the same way; NAME=FOLDER gives a name")],
    corpus: Annotated[Path, Arg(help="Annotated texts to compare on: a .spacy file or a folder of them")],
    output: Annotated[Path, Opt("--output", "-o", help="Folder for report.md and report.json")],
    title: Annotated[str, Opt("--title", "-t", help="Title of report.md")] = "Teacher and students",
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Compare a teacher with its students: each score and what is kept of the teacher's, parameters, size on disk, words per
    second and latency, all measured in turn.

    Students of the same name are runs of one kind, such as three seeds: they get mean and standard deviation.

    python -m spacy distil compare training/teacher distilled=training/student-1 distilled=training/student-2 corpus/test.spacy
    --output training
    """
    from spacy_distil.evaluation.compare import CompareError, compare
    from spacy_distil.evaluation.report import make_table, write_report

    check_output(output)
    import_code(code_path)
    setup_gpu(use_gpu)
    try:
        comparison = compare(
            parse_source(teacher), [parse_source(student) for student in students], corpus, progress=msg.text
        )
    except CompareError as error:
        msg.fail("Can't compare", str(error), exits=1)
    header, *rows = make_table(comparison)
    msg.table(rows, header=header, divider=True, aligns=["l", *"r" * (len(header) - 1)])
    for path in write_report(comparison, output, title=title):
        msg.good(f"Wrote {path}")


def parse_source(text: str) -> Source:
    """`NAME=FOLDER`, or a folder or package whose own name will do: `student` for `training/student/model-best`."""
    from spacy_distil.evaluation.compare import Source

    name, is_named, path = text.partition("=")
    if is_named and not Path(text).exists():
        return Source(name, path)
    folder = Path(text).resolve()
    return Source(folder.parent.name if folder.name in CHECKPOINTS else folder.name, text)


def check_output(output: Path) -> None:
    """End the program, before any long work, where the reports can't be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        (draft := output / ".report.draft").touch()
        draft.unlink()
    except OSError as error:
        msg.fail(f"The reports can't be written to {output}", f"{error}. Name another folder by --output.", exits=1)
