"""The labels of `trainable_lemmatizer`: edit trees, which two pipelines number as they came upon them."""

from typing import Any

from spacy.pipeline import EditTreeLemmatizer
from spacy.strings import StringStore

NO_TREE = 2**32 - 1
"""spaCy's number of a missing subtree."""
_QUOTED = str.maketrans({sign: "\\" + sign for sign in "…·→\\"})


def describe(trees: Any, tree: int, strings: StringStore) -> str:
    """What a tree does to a word, the same for the same tree in every pipeline: "…ies → …y", where "…" stands for the letters
    that stay, and each "·" for one that stays inside an ending or a beginning.

    trees: spaCy's `EditTrees`.
    tree: number in it.
    """
    form, lemma = _sides(trees, tree, strings, None)
    return f"{form} → {lemma}"


def _sides(trees: Any, tree: int, strings: StringStore, length: int | None) -> tuple[str, str]:
    if tree == NO_TREE:
        return "", ""
    node = trees[tree]
    if "orig" in node:
        return strings[node["orig"]].translate(_QUOTED), strings[node["subst"]].translate(_QUOTED)
    before, after = node["prefix_len"], node["suffix_len"]
    prefix = _sides(trees, node["prefix_tree"], strings, before)
    suffix = _sides(trees, node["suffix_tree"], strings, after)
    kept = "…" if length is None else "·" * (length - before - after)
    return prefix[0] + kept + suffix[0], prefix[1] + kept + suffix[1]


def restore_labels(lemmatizer: EditTreeLemmatizer) -> None:
    """Rebuild the table from trees to labels, which spaCy doesn't save: a lemmatizer that was loaded would take label 0 for
    the answer to every token of the corpus."""
    if len(lemmatizer.tree2label) < len(lemmatizer.labels):
        lemmatizer.tree2label = {tree: label for label, tree in enumerate(lemmatizer.labels)}
