"""`python -m spacy distil export`: a component as a Hugging Face folder, and as ONNX."""

from pathlib import Path
from typing import Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import check_free, writing


@distil.command("export")
def export_cli(
    pipeline: Annotated[str, Arg(help="Folder of a pipeline, or name of an installed one")],
    output: Annotated[Path, Arg(help="Folder for config.json, model.safetensors and the tokenizer")],
    component: Annotated[
        str | None, Opt("--component", "-n", help="The component [default: the only one with a head, else the encoder]")
    ] = None,
    onnx: Annotated[bool, Opt("--onnx", help="Write model.onnx too, and run it against the component")] = False,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
) -> None:
    """
    Write a component of a pipeline, with the encoder below it, as the folder that transformers' AutoModelFor… classes load. Of
    a component that they have no class for, the encoder alone is written.

    python -m spacy distil export training/ewt/distilled/1/model-best folder --component tagger --onnx
    """
    import spacy

    from spacy_distil.drafts import new_folder
    from spacy_distil.errors import CheckpointError, EncoderError, ExportError
    from spacy_distil.hub.exporting import prepare_export
    from spacy_distil.hub.onnx import check_packages

    check_free(output, force)
    import_code(code_path)
    try:
        nlp = spacy.load(pipeline)
    except OSError as error:
        msg.fail(f"Can't load {pipeline}", str(error), exits=1)
    try:
        if onnx:
            check_packages()
        export = prepare_export(nlp, component)
        if component is None:
            msg.info(f"Writes {export.name}, {_why(export.has_head)}: name another by --component")
        with writing(output), new_folder(output) as draft:
            export.write(draft)
            difference = export.write_onnx(draft, nlp) if onnx else None
    except (CheckpointError, EncoderError, ExportError) as error:
        msg.fail(f"Can't export {pipeline}", str(error), exits=1)
    for note in export.notes:
        msg.warn(note)
    msg.good(f"Wrote {output}: {export.written} as {export.folder.architecture}")
    if difference is not None:
        whole = "component" if export.is_whole else "encoder"
        msg.good(
            f"Wrote {output / 'model.onnx'}: in ONNX Runtime it differs from the {whole} by at most {difference:.1e}"
        )


def _why(has_head: bool) -> str:
    if has_head:
        return "the only component with a head of Hugging Face's"
    return "the only encoder, since no component has a head of Hugging Face's"
