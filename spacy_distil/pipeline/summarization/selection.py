"""Which of the scored sentences make the summary: the best, within a budget, without saying the same twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, get_args

from spacy_distil.errors import ComponentError

Redundancy = Literal["none", "trigrams", "mmr"]


@dataclass(frozen=True)
class Selection:
    """How to choose sentences.

    max_sentences, max_words: the budget; None for no limit of this kind. A sentence that does not fit is passed over.
    redundancy: `trigrams` passes over a sentence that has three words in a row in common with one that is chosen (Paulus,
        Xiong and Socher 2018, section 2.5); `mmr` takes off what a sentence has in common with one that is chosen: maximal
        marginal relevance (Carbonell and Goldstein 1998), with the cosine of the words' counts; `none` does neither.
    diversity: weight of that in `mmr`, from 0 to 1.
    """

    max_sentences: int | None = 3
    max_words: int | None = None
    redundancy: Redundancy = "trigrams"
    diversity: float = 0.3

    def __post_init__(self) -> None:
        for name in ("max_sentences", "max_words"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ComponentError(f"{name} = {value} has to be at least 1, or null for no limit.")
        if self.max_sentences is None and self.max_words is None:
            raise ComponentError("A summary needs a budget: set max_sentences or max_words.")
        if self.redundancy not in get_args(Redundancy):
            raise ComponentError(
                f"redundancy = {self.redundancy!r} is not known. Known are {', '.join(get_args(Redundancy))}."
            )
        if not 0 <= self.diversity <= 1:
            raise ComponentError(f"diversity = {self.diversity} has to be from 0 to 1.")

    def choose(self, scores: Sequence[float], sentences: Sequence[Sequence[str]]) -> list[int]:
        """scores: of each sentence, at least 0; only those above 0 are chosen from.
        sentences: the words of each.
        RETURNS: numbers of the chosen, in order.
        """
        highest = max(scores, default=0.0)
        left = {i: score / highest for i, score in enumerate(scores) if score > 0}
        room = float("inf") if self.max_words is None else self.max_words
        chosen: list[int] = []
        likeness = dict.fromkeys(left, 0.0)  # to the chosen one that is most like it
        weight = self.diversity if self.redundancy == "mmr" else 0.0
        while left and (self.max_sentences is None or len(chosen) < self.max_sentences):
            best = max(left, key=lambda i: (1 - weight) * left[i] - weight * likeness[i])
            del left[best]
            if len(sentences[best]) > room or self._repeats(best, chosen, sentences):
                continue
            chosen.append(best)
            room -= len(sentences[best])
            if weight:
                for i in left:
                    likeness[i] = max(likeness[i], cosine(sentences[i], sentences[best]))
        return sorted(chosen)

    def _repeats(self, sentence: int, chosen: Sequence[int], sentences: Sequence[Sequence[str]]) -> bool:
        own = trigrams(sentences[sentence])
        return self.redundancy == "trigrams" and any(not own.isdisjoint(trigrams(sentences[i])) for i in chosen)


def trigrams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def cosine(one: Sequence[str], other: Sequence[str]) -> float:
    """Of the counts of their words, from 0 to 1."""
    a, b = Counter(one), Counter(other)
    product = sum(count * b[word] for word, count in a.items())
    return product / (sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values())) or 1.0)
