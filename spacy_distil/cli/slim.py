"""`python -m spacy distil slim`: a pipeline with fewer layers, heads, neurons and word pieces in its encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from spacy.cli._util import Arg, Opt, import_code
from wasabi import msg

from spacy_distil.cli import distil
from spacy_distil.cli.options import choose_device, read_numbers
from spacy_distil.cli.outputs import check_apart, check_free, writing

if TYPE_CHECKING:
    from spacy_distil.compression.slim import Slimmed

ARROW = "->"
LAYERS = "Name layers by their numbers with commas between, as in 0,2,4."


@distil.command("slim")
def slim_cli(
    pipeline: Annotated[str, Arg(help="Folder of a trained pipeline, or name of an installed one")],
    output: Annotated[Path, Arg(help="Folder for the smaller pipeline")],
    corpus: Annotated[
        Path | None, Arg(help="Texts like those it is for, labelled or not: .spacy, .txt, .jsonl, or a folder")
    ] = None,
    compute: Annotated[
        float, Opt("--compute", help="Share of the encoder's multiply-adds that may stay; heads and neurons go")
    ] = 1.0,
    seconds: Annotated[
        bool, Opt("--seconds", help="--compute is a share of the time that the encoder takes on this machine")
    ] = False,
    layers: Annotated[str | None, Opt("--layers", "-l", help="Layers that stay, as in 0,2,4 [default: all]")] = None,
    vocabulary: Annotated[
        bool, Opt("--vocabulary", help="Remove the word pieces that the corpus does not use")
    ] = False,
    coverage: Annotated[
        float, Opt("--coverage", help="With --vocabulary: share of the pieces in the corpus that stay pieces")
    ] = 1.0,
    sample: Annotated[int, Opt("--sample", min=1, help="Texts on which importance is measured")] = 1000,
    code_path: Annotated[Path | None, Opt("--code", "-c", help="Python file with registered functions")] = None,
    force: Annotated[bool, Opt("--force", "-F", help="Overwrite the folder, if it is there")] = False,
    use_gpu: Annotated[int, Opt("--gpu-id", "-g", help="GPU ID or -1 for CPU")] = -1,
) -> None:
    """
    Remove from a pipeline's encoder what its components need least, for good: the matrices become smaller. Which heads and
    neurons those are, the gradients of the components' own losses say, on labels or on what the pipeline itself says of the
    texts. The folder has a retrain.cfg, by which `distil train` trains it on under the pipeline that it comes from.

    python -m spacy distil slim training/student/model-best slim corpus/train.spacy --compute 0.5 --vocabulary
    """
    import spacy

    from spacy_distil.compression.budget import multiply_adds
    from spacy_distil.compression.retraining import NAME, make_retraining_config
    from spacy_distil.compression.slim import slim
    from spacy_distil.corpora.text import TextCorpus
    from spacy_distil.drafts import new_folder
    from spacy_distil.evaluation.measure import count_parameters, size_on_disk

    if coverage != 1 and not vocabulary:
        msg.fail(f"--coverage {coverage}", "It is the share of the word pieces that stay by --vocabulary.", exits=1)
    check_apart(output, [pipeline, corpus, code_path])
    check_free(output, force)
    import_code(code_path)
    choose_device(use_gpu)
    spacy.util.fix_random_seed(0)  # some losses mask at random
    try:
        nlp = spacy.load(pipeline)
    except OSError as error:
        msg.fail(f"Can't load {pipeline}", str(error), exits=1)
    assert nlp.path is not None
    parameters, disk = count_parameters(nlp), size_on_disk(nlp.path)
    try:
        slimmed = slim(
            nlp,
            [] if corpus is None else list(TextCorpus(str(corpus))(nlp)),
            compute=compute,
            layers=None if layers is None else read_numbers("--layers", layers, int, LAYERS),
            coverage=coverage if vocabulary else None,
            sample=sample,
            cost="seconds" if seconds else multiply_adds,
            progress=msg.text,
        )
    except (OSError, ValueError) as error:  # as spaCy and this package call what the user can mend
        msg.fail(f"Can't make {pipeline} smaller", str(error), exits=1)
    with writing(output), new_folder(output) as draft:
        nlp.to_disk(draft)
        make_retraining_config(nlp, pipeline=str(output), teacher=pipeline).to_disk(draft / NAME, interpolate=False)
    for name, encoder in slimmed.items():
        print_shape(name, encoder)
    msg.divider("Pipeline")
    rows = [
        ("parameters", f"{parameters / 1e6:.2f} M", f"{count_parameters(nlp) / 1e6:.2f} M"),
        ("size on disk", f"{disk / 1e6:.1f} MB", f"{size_on_disk(output) / 1e6:.1f} MB"),
    ]
    msg.table(rows, header=("", "before", "after"), divider=True, aligns=("l", "r", "r"))
    msg.good(f"Wrote {output}")
    msg.text(f"python -m spacy distil train {output / NAME} --output {output}-retrained", spaced=True)


def print_shape(name: str, encoder: Slimmed) -> None:
    """A table of an encoder before and after: its layers, its multiply-adds, its word pieces."""
    from spacy_distil.compression.budget import LENGTH, multiply_adds

    msg.divider(f"Encoder: {name}")
    kept = {part.layer: part for part in encoder.parts}
    rows = [("layer", "heads", "neurons")]
    for i, layer in enumerate(encoder.before.layers):
        part = kept.get(i)
        heads, neurons = (0, 0) if part is None else (len(part.heads), len(part.neurons))
        rows.append((str(i), f"{layer.n_heads} {ARROW} {heads}", f"{layer.ffn_width} {ARROW} {neurons}"))
    msg.table(rows[1:], header=rows[0], divider=True, aligns=("r", "r", "r"))
    before, after = multiply_adds(encoder.before), multiply_adds(encoder.after)
    msg.text(
        f"Multiply-adds of a piece, {LENGTH} in a sequence: {before / 1e6:.2f} M {ARROW} {after / 1e6:.2f} M "
        f"({100 * after / before:.1f} %). Word pieces: {encoder.before.vocab_size:,} {ARROW} {encoder.after.vocab_size:,}."
    )
    if encoder.cost is not multiply_adds:
        first, last = encoder.cost(encoder.before), encoder.cost(encoder.after)
        msg.text(f"A batch: {1e3 * first:.1f} ms {ARROW} {1e3 * last:.1f} ms ({100 * last / first:.1f} %).")
