"""`python -m spacy distil prune`: a pipeline with the smallest weights of its encoder set to zero."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.outputs import check_apart, check_free, writing

if TYPE_CHECKING:
    from spacy_distil.compression.sparsity.report import Sparsity


@distil.command("prune")
def prune_cli(
    pipeline: Annotated[str, Arg(help="Folder of a trained pipeline, or name of an installed one")],
    output: Annotated[Path, Arg(help="Folder for the pruned pipeline")],
    sparsity: Annotated[
        float | None, Opt("--sparsity", "-s", help="Share of the weights that become zero [default: the pattern's]")
    ] = None,
    method: Annotated[str, Opt("--method", "-m", help="magnitude; movement is for training")] = "magnitude",
    scope: Annotated[
        str, Opt("--scope", help="local: the same share of each matrix, global: of all together")
    ] = "local",
    pattern: Annotated[
        str | None, Opt("--pattern", "-p", help="N:M, such as 2:4, or blocks, such as 32x32 [default: single weights]")
    ] = None,
    embeddings: Annotated[bool, Opt("--embeddings", help="Prune the embeddings too")] = False,
    code_path: Annotated[Path | None, Opt("--code", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
) -> None:
    """
    Set the smallest weights of a pipeline's encoder to zero. No data is needed; the file becomes smaller, the speed stays. The
    zeros stay when the pipeline is trained on, which it should be: above a sparsity of about a half it loses much at once.
    Pruning while it trains, a little at a time, loses less: see the block [pruning] and the callback
    spacy-distil.attach_pruning.v1.

    python -m spacy distil prune training/student/model-best pruned --sparsity 0.6
    """
    import spacy

    from spacy_distil.compression.errors import CompressionError
    from spacy_distil.compression.sparsity.magnitude import prune
    from spacy_distil.compression.sparsity.report import measure_sparsity
    from spacy_distil.compression.sparsity.selection import Selection
    from spacy_distil.compression.sparsity.settings import check_method
    from spacy_distil.drafts import new_folder
    from spacy_distil.errors import CheckpointError, EncoderError
    from spacy_distil.evaluation.measure import size_on_disk

    check_apart(output, [pipeline, code_path])
    check_free(output, force)
    import_code(code_path)
    try:
        check_method(method)
        if method == "movement":
            raise CompressionError(
                "Movement pruning looks at how weights move while they are trained, and this command does not train. Add the "
                'block [pruning] with method = "movement" to a config, and [training.before_update] with @callbacks = '
                '"spacy-distil.attach_pruning.v1", and run `distil train`, or `spacy train`. Or prune by magnitude.'
            )
        selection = Selection.read(sparsity, scope=scope, pattern=pattern, embeddings=embeddings)
        nlp = spacy.load(pipeline)
        prune(nlp, selection)
        figures = measure_sparsity(nlp)
    except (CheckpointError, CompressionError, EncoderError, OSError) as error:
        msg.fail(f"Can't prune {pipeline}", str(error), exits=1)
    before = size_on_disk(nlp.path)
    with writing(output), new_folder(output) as draft:
        nlp.to_disk(draft)
    show(figures)
    msg.good(f"Wrote {output}: {before / 1e6:.1f} MB before, {size_on_disk(output) / 1e6:.1f} MB now")


def show(figures: dict[str, Sparsity]) -> None:
    rows = [
        (kind, f"{counted.weights:,}", f"{counted.weights - counted.zeros:,}", f"{counted.share:.1%}")
        for kind, counted in figures.items()
    ]
    msg.table(rows, header=("matrices", "weights", "not zero", "sparsity"), aligns=("l", "r", "r", "r"), divider=True)
