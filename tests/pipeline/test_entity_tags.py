"""Entities and their tags: every scheme is read back, sequences that no scheme allows as transformers reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.training import iob_to_biluo

from spacy_distil.pipeline.entity_tags import SCHEMES, EntityTags, make_tags

TYPES = ("LOC", "PER")


def tags(scheme: str) -> EntityTags:
    return EntityTags(tuple(make_tags(scheme, TYPES)))


def decode(own: EntityTags, sequence: list[str], skip: list[int] = ()) -> list[tuple[int, int, str]]:  # type: ignore[assignment]
    return list(own.decode([own.tags.index(tag) for tag in sequence], [i in skip for i in range(len(sequence))]))


def test_the_schemes_have_the_tags_of_the_field():
    assert make_tags("bio", ["PER"]) == ["O", "B-PER", "I-PER"]
    assert make_tags("bilou", ["PER"]) == ["O", "B-PER", "I-PER", "L-PER", "U-PER"]
    assert make_tags("bioes", ["PER"]) == ["O", "B-PER", "I-PER", "E-PER", "S-PER"]
    assert make_tags("plain", ["PER"]) == ["O", "PER"]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(gaps=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from(TYPES)), max_size=5))
def test_entities_with_a_gap_between_them_are_read_back_by_every_scheme(scheme, gaps):
    iob, entities = [], []
    for gap, length, kind in gaps:
        iob += ["O"] * gap
        entities.append((len(iob), len(iob) + length, kind))
        iob += [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    own = tags(scheme)
    assert decode(own, own.encode(iob_to_biluo(iob))) == entities


@pytest.mark.parametrize("scheme", ["bio", "bilou", "bioes"])
def test_neighbours_of_one_type_stay_apart(scheme):
    own = tags(scheme)
    assert decode(own, own.encode(["U-PER", "B-PER", "L-PER"])) == [(0, 1, "PER"), (1, 3, "PER")]


def test_a_tag_that_continues_nothing_starts_an_entity():
    own = tags("bio")
    assert decode(own, ["I-PER", "I-PER", "I-LOC", "O", "I-LOC"]) == [(0, 2, "PER"), (2, 3, "LOC"), (4, 5, "LOC")]
    own = tags("bilou")
    assert decode(own, ["L-PER", "I-PER", "U-LOC", "I-LOC"]) == [
        (0, 1, "PER"),
        (1, 2, "PER"),
        (2, 3, "LOC"),
        (3, 4, "LOC"),
    ]


def test_a_skipped_token_can_stand_within_an_entity_and_not_at_its_ends():
    own = tags("bio")
    assert decode(own, ["O", "B-PER", "O", "I-PER", "I-PER"], skip=[2, 4]) == [(1, 4, "PER")]


def test_a_set_without_b_is_written_with_i():
    own = EntityTags(("O", "I-PER", "I-LOC"))
    assert own.encode(["B-PER", "L-PER", "O", "U-LOC"]) == ["I-PER", "I-PER", "O", "I-LOC"]


def test_types_that_look_like_prefixes_are_types_where_no_tag_has_a_position():
    assert EntityTags(("O", "S-Bahn", "U-Bahn")).types == ["S-Bahn", "U-Bahn"]


def test_what_is_missing_or_unknown_has_no_tag():
    assert tags("bio").encode([None, "-", "", "U-DATE", "O"]) == [None, None, None, None, "O"]
