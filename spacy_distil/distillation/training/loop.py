"""The loop of `distil train`: spaCy's own, with a checkpoint at each evaluation, from which a broken run goes on.

`output` says what stands in the folder, and `replay` how a run is resumed.
"""

import sys
from pathlib import Path
from timeit import default_timer as timer
from typing import IO, Any

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training.loop import (
    create_before_to_disk_callback,
    create_evaluation_callback,
    create_train_batches,
    train_while_improving,
    update_meta,
)
from spacy.util import registry, resolve_dot_names
from thinc.api import Model, fix_random_seed, set_gpu_allocator
from wasabi import Printer

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.checkpoint import Checkpoint, read_tensors, settings_of
from spacy_distil.distillation.training.corpora import check_corpora
from spacy_distil.distillation.training.output import Output
from spacy_distil.distillation.training.randomness import RandomState
from spacy_distil.distillation.training.replay import Batches, Replay, record_of
from spacy_distil.distillation.training.state import capture, restore


def train(
    nlp: Language,
    output_path: Path,
    *,
    use_gpu: int = -1,
    resume: bool = False,
    stdout: IO[str] = sys.stdout,
    stderr: IO[str] = sys.stderr,
) -> Language:
    """Train an initialised pipeline, as `spacy.training.loop.train` does.

    `nlp.update` may have more than spaCy's has: `step`, which is set to the number of each step before it; `state_dict()`,
    which gives a dict of arrays for the checkpoint, and `load_state_dict`, which takes it back as numpy arrays; `block`,
    settings that have to be the same on resuming, as JSON can hold them.

    output_path: the folder to save in. What an earlier run saved there is removed, unless it is resumed, right before the first
        step. When the run has come to its end, the tensors of its checkpoint are removed too: the file then only says so.
    resume: go on from the folder's checkpoint. The config has to be the same, but for max_steps, patience and logger; a
        run that has come to its end does not go on with more of them.
    RETURNS: the pipeline. If the run to resume had come to its end, it is its `model-last`.
    RAISES: DistillationError if a corpus has no example, if the run can't be resumed, if a loss is not a number, or if the disk
        is full; what was saved up to the last evaluation stays. Before any other exception, Ctrl-C too, `model-last` is saved,
        as spaCy does.
    """
    msg = Printer(no_print=True)
    config = nlp.config.interpolate()
    if config["training"]["seed"] is not None:
        fix_random_seed(config["training"]["seed"])
    if use_gpu >= 0 and config["training"]["gpu_allocator"]:
        set_gpu_allocator(config["training"]["gpu_allocator"])
    T: dict[str, Any] = registry.resolve(config["training"], schema=ConfigSchemaTraining)  # type: ignore[arg-type]
    train_corpus, dev_corpus = resolve_dot_names(config, [T["train_corpus"], T["dev_corpus"]])
    optimizer, frozen = T["optimizer"], T["frozen_components"]
    before_to_disk = create_before_to_disk_callback(T["before_to_disk"])

    output = Output(output_path)
    past = Checkpoint.read(output.checkpoint) if resume else None
    if past is not None and past.finished:
        past.check_end(T)
        stdout.write(msg.good(f"The run has come to its end already, at step {past.step}", output.last) + "\n")
        return nlp.from_disk(output.last)
    if past is not None:
        past.check(settings_of(nlp))
        stdout.write(msg.info(f"Going on from the checkpoint of step {past.step}") + "\n")
    check_corpora(nlp, {T["train_corpus"]: train_corpus, T["dev_corpus"]: dev_corpus})

    history = [] if past is None else [*past.history]
    corpus_state = RandomState.capture() if past is None else past.corpus
    batches = Batches(nlp, create_train_batches(nlp, train_corpus, T["batcher"], T["max_epochs"]), corpus_state)
    replay = Replay(nlp, create_evaluation_callback(nlp, dev_corpus, T["score_weights"]))
    steps = train_while_improving(
        nlp,
        optimizer,
        batches,
        replay.evaluate,
        dropout=T["dropout"],
        accumulate_gradient=T["accumulate_gradient"],
        patience=T["patience"],
        max_steps=T["max_steps"],
        eval_frequency=T["eval_frequency"],
        exclude=frozen,
        annotating_components=T["annotating_components"],
        before_update=T["before_update"],
    )
    trained = [
        name
        for name, pipe in nlp.pipeline
        if name not in frozen
        and getattr(pipe, "is_trainable", False)
        and isinstance(getattr(pipe, "model", None), Model)
    ]

    stdout.write(msg.info(f"Pipeline: {nlp.pipe_names}") + "\n")
    if frozen:
        stdout.write(msg.info(f"Frozen components: {frozen}") + "\n")
    if T["annotating_components"]:
        stdout.write(msg.info(f"Set annotations on update for: {T['annotating_components']}") + "\n")
    stdout.write(msg.info(f"Initial learn rate: {optimizer.learn_rate}") + "\n")
    with nlp.select_pipes(disable=frozen):
        log_step, finish_log = T["logger"](nlp, stdout, stderr)

    def note_scores(info: dict[str, Any]) -> None:
        with nlp.select_pipes(disable=frozen):
            update_meta(T, nlp, info)

    def show_again(info: dict[str, Any]) -> None:
        note_scores(info)
        log_step({**info, "output_path": str(output.last)})

    try:
        if past is None:
            output.clean()
        else:
            output.recover()
            output.rewrite_log(past.history)
            replay.run(steps, history, show_again)
            restore(nlp, optimizer, trained, read_tensors(output.checkpoint), past.values)
        has_learnt = False
        started = timer() - (history[-1]["seconds"] if history else 0)
        try:
            for _, info, is_best in steps:
                has_learnt = True
                if is_best is not None:
                    info["seconds"] = int(timer() - started)
                    record = record_of(info)
                    note_scores(info)
                    output.save_last(nlp, optimizer.averages, before_to_disk)
                    if is_best:
                        output.keep_best()
                    # Last: a run that goes on from it has its best pipeline.
                    tensors, values = capture(nlp, optimizer, trained)
                    output.save_checkpoint(
                        Checkpoint(settings_of(nlp), [*history, record], corpus_state, values), tensors
                    )
                    history.append(record)
                    output.add_to_log(record)
                    info["output_path"] = str(output.last)
                log_step(info if is_best is not None else None)
        except DistillationError as error:
            raise type(error)(f"Step {batches.step}: {error}") from error
        except BaseException as error:
            if has_learnt:
                reason = f"after {error!r}" if isinstance(error, Exception) else "as asked for"
                where = f"; --resume goes on from step {history[-1]['step']}" if history else ""
                stdout.write(msg.warn(f"Stopping {reason}, and saving the last state{where}") + "\n")
                output.save_last(nlp, optimizer.averages, before_to_disk)
            raise
        output.save_last(nlp, optimizer.averages, before_to_disk)
        limit = batches.ended_by(T)
        values = {"ended_by": [limit, T[limit]]}
        output.save_checkpoint(Checkpoint(settings_of(nlp), history, corpus_state, values, finished=True), {})
    finally:
        finish_log()
    stdout.write(msg.good("Saved pipeline to output directory", output.last) + "\n")
    return nlp
