"""Files of records that only grow: each has one writer, and what a killed writer left of its last record is never read.

A segment is a head, with the format's version and the name of what it holds answers of, and then records: key, length and
checksum of the payload, a checksum of these, and the payload. Little-endian throughout.
"""

import os
import struct
import weakref
import zlib
from array import array
from pathlib import Path

import numpy

VERSION = 1
KEY_BYTES = 20
HEADER = struct.Struct(f"<{KEY_BYTES}sIII")
"""Key, length and checksum of the payload, checksum of these."""
CHECKED = HEADER.size - 4
SCANNED = struct.Struct(f"<q{KEY_BYTES - 8}xI4xI")
"""Of the header: the first 8 bytes of the key, length of the payload, checksum of the header."""


def segment_head(name: str) -> bytes:
    """What a segment begins with. Read back, it is compared as a whole: another version or another name is not read."""
    encoded = name.encode("utf8")
    return struct.pack("<20sII", b"spacy-distil answers", VERSION, len(encoded)) + encoded


def make_record(key: bytes, payload: bytes, head: bytes) -> bytes:
    """head: the segment's. It goes into the checksum, so that a record is worth nothing elsewhere.
    RAISES: ValueError if the key has not KEY_BYTES bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"A key has {KEY_BYTES} bytes, not {len(key)}.")
    checked = HEADER.pack(key, len(payload), zlib.crc32(payload), 0)[:CHECKED]
    return checked + struct.pack("<I", zlib.crc32(checked, zlib.crc32(head))) + payload


class Segment:
    """One file of records. Another process may be writing it, or may delete it while it is open here.

    path, head: the file, and what it begins with.
    new: make it, and write to it.
    RAISES: OSError, here and in all methods.
    """

    def __init__(self, path: Path, head: bytes, *, new: bool = False) -> None:
        self._seed = zlib.crc32(head)
        self._head = head
        self.n_bytes = 0
        """What was written here."""
        if new:
            # Unbuffered: what was appended is the kernel's, and outlives a kill. Nothing waits for the disk: what a power
            # failure takes, the checksums tell.
            self._writer = path.open("xb", buffering=0)
            weakref.finalize(self, self._writer.close)
            self._write(head)
        # Read, not mapped: a mapped file that is cut while it is read kills the process.
        self._reader = path.open("rb")
        weakref.finalize(self, self._reader.close)  # a store lives as long as the training, and nobody closes it

    def append(self, record: bytes) -> int:
        """RETURNS: the record's offset."""
        offset = self.n_bytes
        self._write(record)
        return offset

    def scan(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Find the records, up to the first that is cut short or damaged in its header. Payloads are not looked at.

        RETURNS: the first 8 bytes of each key, and offsets, (records,), int64.
        """
        prefixes, offsets = array("q"), array("q")
        reader, seed = self._reader, self._seed
        n_bytes = os.fstat(reader.fileno()).st_size
        reader.seek(0)
        if reader.read(len(self._head)) == self._head:
            offset = len(self._head)
            while len(header := reader.read(HEADER.size)) == HEADER.size:
                prefix, payload_bytes, check = SCANNED.unpack(header)
                end = offset + HEADER.size + payload_bytes
                if end > n_bytes or check != zlib.crc32(header[:CHECKED], seed):
                    break
                prefixes.append(prefix)
                offsets.append(offset)
                reader.seek(payload_bytes, os.SEEK_CUR)  # inside the reader's buffer, if the payload is small
                offset = end
        return numpy.array(prefixes, dtype="i8"), numpy.array(offsets, dtype="i8")

    def read(self, offset: int, key: bytes) -> bytes | None:
        """RETURNS: the payload, None if the record is damaged or another key's."""
        self._reader.seek(offset)
        header = self._reader.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        found, payload_bytes, checksum, check = HEADER.unpack(header)
        if found != key or check != zlib.crc32(header[:CHECKED], self._seed):
            return None
        payload = self._reader.read(payload_bytes)
        return payload if len(payload) == payload_bytes and zlib.crc32(payload) == checksum else None

    def _write(self, data: bytes) -> None:
        # A full disk takes a part and refuses the rest. `n_bytes` stays behind then: nothing more may be appended.
        rest = memoryview(data)
        while rest:
            rest = rest[self._writer.write(rest) :]
        self.n_bytes += len(data)
