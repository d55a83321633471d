"""`python -m spacy distil quantize`: a pipeline whose encoder is stored and runs in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import check_apart, check_free, writing


@distil.command("quantize")
def quantize_cli(
    pipeline: Annotated[str, Arg(help="Folder of a trained pipeline, or name of an installed one")],
    output: Annotated[Path, Arg(help="Folder for the quantised pipeline")],
    corpus: Annotated[
        Path | None, Arg(help="Texts like those it is for, labelled or not: .spacy, .txt, .jsonl, or a folder")
    ] = None,
    precision: Annotated[
        str, Opt("--precision", "-p", help="int8: file and computation; bfloat16: the file alone")
    ] = "int8",
    sample: Annotated[int, Opt("--sample", min=1, help="Texts on which int8 is calibrated")] = 400,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
) -> None:
    """
    Round the weights of a pipeline's encoder, embeddings too, and let its matrix products run in int8, on x86 processors. With
    a corpus the ranges of their inputs are calibrated, which is the fastest; without one each word piece is measured as it
    comes, unless the pipeline is calibrated already. Nothing is trained, and what comes out does not learn: keep the pipeline
    from which it was made. --precision bfloat16 halves the file and changes nothing else.

    python -m spacy distil quantize training/student/model-best quantized corpus/train.spacy
    """
    from itertools import islice

    import spacy

    from spacy_distil.compression.quantization import quantize
    from spacy_distil.corpora.text import TextCorpus
    from spacy_distil.drafts import new_folder
    from spacy_distil.evaluation.measure import size_on_disk

    check_apart(output, [pipeline, corpus, code_path])
    check_free(output, force)
    import_code(code_path)
    try:
        nlp = spacy.load(pipeline)
        examples = [] if corpus is None else list(islice(TextCorpus(str(corpus))(nlp), sample))
        quantized = quantize(nlp, precision, examples)  # type: ignore[arg-type]
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        msg.fail(f"Can't quantise {pipeline}", str(error), exits=1)
    assert nlp.path is not None
    before = size_on_disk(nlp.path)
    with writing(output), new_folder(output) as draft:
        nlp.to_disk(draft)
    rows = [
        (name, f"{encoder.error:.1g}", ("static" if encoder.calibrated else "dynamic") if precision == "int8" else "-")
        for name, encoder in quantized.items()
    ]
    msg.table(rows, header=("encoder", "largest rounding", "inputs"), divider=True, aligns=("l", "r", "l"))
    for name, encoder in quantized.items():
        if examples and not encoder.calibrated:
            msg.warn(f"No text of {corpus} reached the encoder of '{name}': it is not calibrated.")
    msg.good(f"Wrote {output}: {before / 1e6:.1f} MB before, {size_on_disk(output) / 1e6:.1f} MB now")
