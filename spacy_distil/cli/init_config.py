"""`python -m spacy distil init-config`: a student's config from its teacher."""

from pathlib import Path
from typing import Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil


@distil.command("init-config")
def init_config_cli(
    teacher: Annotated[str, Arg(help="The teacher: folder of a trained pipeline, or name of an installed one")],
    output: Annotated[Path, Arg(help="Where to write the student's config")],
    layers: Annotated[int | None, Opt("--layers", "-l", min=1, help="Layers of the student [default: half]")] = None,
    decoder_layers: Annotated[
        int | None, Opt("--decoder-layers", min=1, help="Layers of the decoder of a distilbert_seq2seq [default: all]")
    ] = None,
    lang: Annotated[str | None, Opt("--lang", help="The student's language [default: the teacher's]")] = None,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the file, if it is there")] = False,
) -> None:
    """
    Write the config of a student for a teacher: the same components, on one DistilBERT with some of the teacher's layers,
    and the block [distillation] with every field explained.

    python -m spacy distil init-config training/teacher/model-best student.cfg --layers 3
    """
    from spacy_distil.distillation.errors import DistillationError
    from spacy_distil.distillation.student import make_student_config, to_text
    from spacy_distil.errors import EncoderError

    if output.exists() and not force:
        msg.fail(f"{output} is there already", "Name another file, or overwrite it by --force.", exits=1)
    import_code(code_path)
    try:
        text = to_text(make_student_config(teacher, n_layers=layers, n_decoder_layers=decoder_layers, lang=lang))
    except (DistillationError, EncoderError) as error:
        msg.fail("The student's config can't be made", str(error), exits=1)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf8")
    msg.good(f"Wrote {output}")
    msg.text(
        f"python -m spacy distil train {output} --output student --paths.train texts.jsonl --paths.dev dev.spacy",
        spaced=True,
    )
