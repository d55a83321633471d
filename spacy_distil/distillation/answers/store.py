"""The cache of teachers' answers on disk: named arrays by key, shared by processes, bounded in size, and never wrong.

    folder/answers-DIGEST/RANDOM.segment

A folder for each space, in it a segment (see `segments`) for each process that found something to add.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy
from spacy.util import logger

from spacy_distil.distillation.answers.encoding import answer_from_bytes, answer_to_bytes
from spacy_distil.distillation.answers.key_index import KeyIndex
from spacy_distil.distillation.answers.segments import Segment, make_record, segment_head
from spacy_distil.distillation.errors import DistillationError

SPACES = "answers-" + 32 * "[0-9a-f]"
SHARE = 64
"""The part of what is free that a process takes before it measures the folder again. Processes that add to it side by side
may exceed its bound by so much, each but the first."""
OFFSETS = 1 << 44
"""A record's place is its segment's number times this, and its offset."""


class AnswerStore:
    """A folder of answers, in spaces. Several processes may use it at once; one thread in each.

    folder: made where it is missing. Other files in it are left alone.
    max_bytes: what all answers in the folder may take. An answer that needs more room gets it from spaces that this process
        has not opened, which go as a whole, the one first that has not been opened for the longest time. Where that doesn't
        do, nothing more is added.
    RAISES: DistillationError if nothing can be written to the folder. Later, no trouble with the disk is an error: what
        can't be written is logged once and not kept, what can't be read is not there.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._spaces: dict[str, Space] = {}
        self._allowance = 0  # what may be added before the folder is measured again
        self.adds = True
        self._complained = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DistillationError(
                f"The teachers' answers can't be kept in '{folder}': {error}. Name a folder that can be written to, as "
                "`folder` in [distillation.cache], or leave it out to ask the teachers in every epoch."
            ) from error

    def space(self, name: str) -> Space:
        """The answers of one kind. Its keys mean nothing outside of it.

        name: of all that an answer depends on, beside what is in the key: the teacher's digest, its component, what it was
            asked.
        """
        if name not in self._spaces:
            self._spaces[name] = Space(self, name)
        return self._spaces[name]

    def make_room(self, n_bytes: int) -> bool:
        """Whether so many bytes may be written now; they count as written then."""
        if n_bytes > self._allowance:
            free = self._free(n_bytes)
            if free < n_bytes:
                # An epoch asks for every answer in turn. Throwing out the one that was used longest ago would throw out the
                # one that is needed soonest: what is there stays, and spares the teacher its part in every epoch.
                self.stop_adding(f"it has reached {self.max_bytes / 1e6:g} MB. Give it a higher `max_size`")
                return False
            self._allowance = max(n_bytes, free // SHARE)
        self._allowance -= n_bytes
        return True

    def stop_adding(self, reason: object) -> None:
        """Add nothing more in this process. Said once."""
        if self.adds:
            self.adds = False
            logger.warning(
                "The cache of the teachers' answers, '%s', takes no more: %s. Training goes on: what is not in it is asked "
                "of the teachers in every epoch.",
                self.folder,
                reason,
            )

    def complain(self, error: OSError) -> None:
        """Say, once, that something in the folder can't be read."""
        if not self._complained:
            self._complained = True
            logger.warning(
                "Cached answers of the teachers can't be read: %s. The teachers are asked for them again.", error
            )

    def _free(self, n_bytes: int) -> int:
        """How much may be added. Other spaces are dropped for it if that gives n_bytes."""
        opened = {space.folder: space.n_bytes for space in self._spaces.values()}
        # What this process wrote counts even if another has dropped it: it takes the disk's room until the end.
        used = sum(max(n_written, _size(folder)) for folder, n_written in opened.items())
        others = {folder: _size(folder) for folder in self.folder.glob(SPACES) if folder not in opened}
        free = self.max_bytes - used - sum(others.values())
        if self.max_bytes - used >= n_bytes:
            for folder in sorted(others, key=_last_use):
                if free >= n_bytes:
                    break
                logger.info("The cache of the teachers' answers drops '%s', %.1f MB.", folder, others[folder] / 1e6)
                _drop(folder)
                free += others[folder] - _size(folder)
        return free


class Space:
    """The answers of one kind: those that were in the folder when the space was opened, and those put since."""

    def __init__(self, store: AnswerStore, name: str) -> None:
        self._store = store
        self._head = segment_head(name)
        self.folder = store.folder / f"answers-{hashlib.blake2b(self._head, digest_size=16).hexdigest()}"
        self._index = KeyIndex()
        self._segments: list[Segment] = []
        self._own: Segment | None = None
        if self._touch():
            for path in _segments(self.folder):
                self._read(path)

    def __len__(self) -> int:
        """The number of answers, before any has been found damaged."""
        return len(self._index)

    @property
    def n_bytes(self) -> int:
        """What this process has written."""
        return self._own.n_bytes if self._own else 0

    def get(self, key: bytes) -> dict[str, numpy.ndarray] | None:
        """RETURNS: the answer, in arrays of the caller's own; None if it is not there, or damaged."""
        for place in self._index.find(key):
            number, offset = divmod(place, OFFSETS)
            try:
                payload = self._segments[number].read(offset, key)
            except OSError as error:
                self._store.complain(error)
                continue
            if payload is not None:
                return answer_from_bytes(payload)
        return None

    def put(self, key: bytes, answer: dict[str, numpy.ndarray]) -> None:
        """Keep an answer, in half precision where that does no harm. One that is there already stays. Once this returns, the
        answer outlives a kill.

        RAISES: ValueError if the key has not KEY_BYTES bytes, TypeError if the answer holds something other than numbers.
        """
        if not self._store.adds or self.get(key) is not None:
            return
        record = make_record(key, answer_to_bytes(answer), self._head)
        try:
            if self._store.make_room(len(record) if self._own else len(self._head) + len(record)):
                self._append(key, record)
        except OSError as error:  # a full disk, above all
            self._store.stop_adding(error)

    def _touch(self) -> bool:
        """Mark the space as used. RETURNS: whether anybody has put something there yet."""
        try:
            os.utime(self.folder)
        except FileNotFoundError:
            return False
        except OSError as error:  # it is another user's, who lets others read only
            self._store.stop_adding(error)
        return True

    def _read(self, path: Path) -> None:
        try:
            segment = Segment(path, self._head)
            prefixes, offsets = segment.scan()
        except OSError as error:
            self._store.complain(error)
            return
        if len(prefixes):
            self._index.extend(prefixes, len(self._segments) * OFFSETS + offsets)
            self._segments.append(segment)

    def _append(self, key: bytes, record: bytes) -> None:
        if self._own is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = Segment(self.folder / f"{secrets.token_hex(8)}.segment", self._head, new=True)
            self._segments.append(self._own)
        self._index.add(key, (len(self._segments) - 1) * OFFSETS + self._own.append(record))


def _segments(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):  # another process drops it just now
        return sorted(folder.glob("*.segment"))
    return []


def _size(folder: Path) -> int:
    size = 0
    for path in _segments(folder):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _last_use(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _drop(folder: Path) -> None:
    with suppress(OSError):  # Windows keeps a file that a process has open: then the rest stays too
        for path in _segments(folder):
            path.unlink(missing_ok=True)
        folder.rmdir()
