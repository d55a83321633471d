"""Entities as one tag a token, and back.

A set of tags says itself how it marks entities: by position, as BIO (`B-PER`, `I-PER`, `O`; Ramshaw and Marcus 1995), BILOU or
BIOES, or plainly (`PER`, `O`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

OUTSIDE = "O"
SCHEMES = {"bio": "BI", "bilou": "BILU", "bioes": "BIES", "plain": ("",)}
# A tag is written by the first of these prefixes that the set has; spaCy's B, I, L and U are the keys.
PREFERRED = {"B": ("B", "I", ""), "I": ("I", "M", ""), "L": ("L", "E", "I", ""), "U": ("U", "S", "W", "B", "I", "")}
STARTS, ENDS = frozenset("BUSW"), frozenset("LEUSW")
PREFIXED = re.compile(r"([BILUESMW])[-_](.+)")


def make_tags(scheme: str, types: Iterable[str]) -> list[str]:
    """The tags of entity types: `O`, then each type's."""
    tags = [f"{prefix}-{kind}" if prefix else kind for kind in types for prefix in SCHEMES[scheme]]
    return [OUTSIDE, *tags]


@dataclass(frozen=True)
class EntityTags:
    """What a set of tags means."""

    tags: tuple[str, ...]

    @cached_property
    def parts(self) -> list[tuple[str, str]]:
        """The prefix and the type of each tag; the type of what is outside is empty, and so is the prefix of a plain tag."""
        if not self.has_positions:
            return [("", "" if tag == OUTSIDE else tag) for tag in self.tags]
        matches = [PREFIXED.fullmatch(tag) for tag in self.tags]
        plain = [("", "" if tag == OUTSIDE else tag) for tag in self.tags]
        return [(match[1], match[2]) if match else rest for match, rest in zip(matches, plain, strict=True)]

    @cached_property
    def has_positions(self) -> bool:
        return any(tag.startswith(("B-", "I-", "B_", "I_")) for tag in self.tags)

    @property
    def types(self) -> list[str]:
        return sorted({kind for _, kind in self.parts if kind})

    @cached_property
    def _by_part(self) -> dict[tuple[str, str], str]:
        return dict(zip(self.parts, self.tags, strict=True))

    def decode(self, numbers: Sequence[int], skip: Sequence[bool]) -> Iterator[tuple[int, int, str]]:
        """Entities as (start, end, type), from the number of each token's tag. All sequences are read: a tag that continues
        nothing starts an entity, as in IOB1 and in transformers' pipelines.

        skip: tokens that count for nothing, and can stand within an entity, but not at its ends.
        """
        start, end, kind = 0, 0, ""
        for token, (number, skipped) in enumerate(zip(numbers, skip, strict=True)):
            if skipped:
                continue
            prefix, here = self.parts[number]
            if kind and (here != kind or prefix in STARTS):
                yield start, end, kind
                kind = ""
            if here:
                start, end, kind = token if not kind else start, token + 1, here
                if prefix in ENDS:
                    yield start, end, kind
                    kind = ""
        if kind:
            yield start, end, kind

    def encode(self, biluo: Sequence[str | None]) -> list[str | None]:
        """The tag of each of spaCy's BILUO tags; None where that is missing or its type is not among these."""
        return [self._tag(tag) for tag in biluo]

    def _tag(self, biluo: str | None) -> str | None:
        if biluo in (None, "", "-"):
            return None
        if biluo == OUTSIDE:
            return OUTSIDE if OUTSIDE in self.tags else None
        position, _, kind = biluo.partition("-")
        found = (self._by_part.get((prefix, kind)) for prefix in PREFERRED[position])
        return next((tag for tag in found if tag is not None), None)
