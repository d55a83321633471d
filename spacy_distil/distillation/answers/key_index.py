"""Where the records of a key are: an index in memory that stays small beside the small answers that it finds."""

import numpy

FOLD = 100_000
"""New records that are kept in a dict, before they move to the arrays."""


class KeyIndex:
    """The places of records by the first 8 bytes of their keys: 16 bytes a record, where a dict takes 200, as much as many
    an answer. Keys may share these bytes, and a key may have several records: who reads one compares the whole key.
    """

    def __init__(self) -> None:
        self._prefixes = numpy.empty(0, dtype="i8")
        self._places = numpy.empty(0, dtype="i8")
        self._new: dict[bytes, int] = {}

    def __len__(self) -> int:
        """The number of different keys."""
        self._fold()
        return len(numpy.unique(self._prefixes))

    def add(self, key: bytes, place: int) -> None:
        self._new[key] = place
        if len(self._new) >= FOLD:
            self._fold()

    def extend(self, prefixes: numpy.ndarray, places: numpy.ndarray) -> None:
        """prefixes, places: (records,), int64."""
        prefixes, places = numpy.concatenate([self._prefixes, prefixes]), numpy.concatenate([self._places, places])
        order = numpy.argsort(prefixes, kind="stable")  # Timsort: close to linear where most of it is sorted already
        self._prefixes, self._places = prefixes[order], places[order]

    def find(self, key: bytes) -> list[int]:
        """The places where a record of the key may be, the newest first."""
        prefix = key_prefix(key)
        first = int(self._prefixes.searchsorted(prefix))
        last = first
        while last < len(self._prefixes) and self._prefixes[last] == prefix:
            last += 1
        places = self._places[first:last].tolist()[::-1]
        return [self._new[key], *places] if key in self._new else places

    def _fold(self) -> None:
        prefixes = numpy.fromiter(map(key_prefix, self._new), dtype="i8", count=len(self._new))
        places = numpy.fromiter(self._new.values(), dtype="i8", count=len(self._new))
        self._new = {}
        self.extend(prefixes, places)


def key_prefix(key: bytes) -> int:
    return int.from_bytes(key[:8], "little", signed=True)
