"""Exact match and F1 of answers, as the evaluation script of SQuAD 2.0 computes them (Rajpurkar, Jia and Liang 2018); on SQuAD
1.1 its figures are those of the earlier script."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, without punctuation, articles and superfluous white space."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(gold: str, predicted: str) -> float:
    return float(normalize(gold) == normalize(predicted))


def f1(gold: str, predicted: str) -> float:
    """Of the words that both have. Where one of them is empty, whether both are."""
    gold_words, words = normalize(gold).split(), normalize(predicted).split()
    if not gold_words or not words:
        return float(gold_words == words)
    n_same = sum((Counter(gold_words) & Counter(words)).values())
    return 2 * n_same / (len(words) + len(gold_words))


def best(metric: Callable[[str, str], float], golds: Sequence[str], predicted: str) -> float:
    """The best over the gold answers; no gold answers, or none but articles and punctuation, are the empty answer."""
    return max(metric(gold, predicted) for gold in [gold for gold in golds if normalize(gold)] or [""])
