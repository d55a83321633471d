"""The output folder of a run. What stands in it is whole at any moment:

model-best, model-last      as `spacy train` writes them, at each evaluation
checkpoint.safetensors      the state at the last evaluation, about four times the size of the weights
log.jsonl                   a line for each evaluation: step, epoch, score, scores, losses, and the words and seconds
                            since the start; of the scores all that are numbers
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.training.loop import DIR_MODEL_BEST, DIR_MODEL_LAST, clean_output_dir

from spacy_distil.distillation.errors import DistillationError
from spacy_distil.distillation.training.checkpoint import Checkpoint
from spacy_distil.distillation.training.safe_writes import recover, write_file, write_folder
from spacy_distil.distillation.training.state import Tensors
from spacy_distil.drafts import reason_of

Record = dict[str, Any]


class Output:
    """Saving raises a DistillationError where there is no room."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best, self.last = path / DIR_MODEL_BEST, path / DIR_MODEL_LAST
        self.checkpoint, self.log = path / "checkpoint.safetensors", path / "log.jsonl"

    def clean(self) -> None:
        """A folder without what an earlier run has left; first goes the checkpoint, which belongs to the rest."""
        self.path.mkdir(parents=True, exist_ok=True)
        for file in (self.checkpoint, self.log):
            file.unlink(missing_ok=True)
        self.recover()
        clean_output_dir(self.path)

    def recover(self) -> None:
        """Put in order what a killed run has left."""
        for path in (self.checkpoint, self.log, self.best, self.last):
            recover(path)

    def save_last(self, nlp: Language, averages: Any, before_to_disk: Callable[[Language], Language]) -> None:
        with _saving(self.last), nlp.use_params(averages):
            write_folder(self.last, before_to_disk(nlp).to_disk)

    def keep_best(self) -> None:
        """`model-last` is the best so far."""
        with _saving(self.best):
            write_folder(self.best, lambda draft: shutil.copytree(self.last, draft))

    def save_checkpoint(self, checkpoint: Checkpoint, tensors: Tensors) -> None:
        with _saving(self.checkpoint):
            checkpoint.write(self.checkpoint, tensors)

    def add_to_log(self, record: Record) -> None:
        with _saving(self.log), self.log.open("a", encoding="utf8") as file:
            file.write(_line(record))

    def rewrite_log(self, history: Iterable[Record]) -> None:
        text = "".join(map(_line, history))
        with _saving(self.log):
            write_file(self.log, lambda draft: draft.write_text(text, encoding="utf8"))


def _line(record: Record) -> str:
    numbers = {name: value for name, value in record["scores"].items() if isinstance(value, int | float)}
    line = json.dumps({**record, "scores": numbers})
    return json.dumps(json.loads(line, parse_constant=lambda _: None)) + "\n"  # NaN is no JSON


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DistillationError(
            f"{str(path)!r} can't be written: {reason_of(error)}. What was saved before is complete. Make room if the disk is "
            "full (the folder takes twice its size for a moment), and go on with --resume."
        ) from error
