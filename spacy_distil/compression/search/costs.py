"""What a pipeline costs beside the whole one, measured in turn with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from spacy.language import Language

from spacy_distil.compression.search.trial import Cost
from spacy_distil.evaluation import measure

ROUNDS = 3
SECONDS = 1.5  # of a round, for the whole pipeline
MOST = 4096  # texts
FIRST = 16  # texts by which it is found how many take so long
CALLS = 15  # of the text by which latency is measured


class Stopwatch:
    """Times pipelines on the same texts, each in turn with the whole one, so that what else the machine does meets both."""

    def __init__(self, whole: Language, texts: Sequence[str]) -> None:
        """texts: the first of them are timed, as many as take about SECONDS, over again where they are too few."""
        self.whole = whole
        measure.time_pipe(whole, texts[:FIRST])  # warm up
        each = measure.time_pipe(whole, texts[:FIRST]) / len(texts[:FIRST])
        n_texts = min(max(FIRST, round(SECONDS / each)), MOST)
        self.texts = list(islice(cycle(texts), n_texts))
        self.words = measure.count_words(whole, self.texts)
        self.middle = sorted(self.texts, key=len)[len(self.texts) // 2]

    def measure(self, nlp: Language, folder: Path) -> Cost:
        """The cost of a pipeline that is saved in a folder."""
        measure.time_pipe(nlp, self.texts[:FIRST])  # warm up
        rounds = [
            (measure.time_pipe(self.whole, self.texts), measure.time_pipe(nlp, self.texts)) for _ in range(ROUNDS)
        ]
        return Cost(
            parameters=measure.count_parameters(nlp),
            disk=measure.size_on_disk(folder),
            words_per_second=self.words / median(own for _, own in rounds),
            speedup=1.0 if nlp is self.whole else median(whole / own for whole, own in rounds),
            latency=measure.latency(nlp, self.middle, calls=CALLS),
        )
