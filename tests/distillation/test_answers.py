"""The store of teachers' answers: what was put comes back, from this process or another, and nothing else ever does."""

import errno
import hashlib
import inspect
import os
import signal
import subprocess
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, floating_dtypes, integer_dtypes, unsigned_integer_dtypes

from spacy_distil.distillation.answers import AnswerStore, key_index, segments
from spacy_distil.distillation.answers.encoding import answer_from_bytes, answer_to_bytes
from spacy_distil.distillation.answers.segments import KEY_BYTES, Segment, make_record, segment_head
from spacy_distil.distillation.errors import DistillationError

ROOMY = 10**9
NAME = "digest tagger scores"
WRITER = """
import hashlib
import sys
from pathlib import Path
import numpy
from spacy_distil.distillation.answers import AnswerStore
from spacy_distil.distillation.answers.segments import KEY_BYTES

{functions}

space = AnswerStore(Path(sys.argv[1]), max_bytes=10**9).space(sys.argv[2])
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    space.put(key(number), answer(number))
    print(number, flush=True)
"""


def key(number):
    return hashlib.blake2b(str(number).encode(), digest_size=KEY_BYTES).digest()


def answer(number, rows=3):
    return {"logits": numpy.full((rows, 2), number % 2000, dtype="f"), "moves": numpy.arange(number % 7)}


def open_space(folder, name=NAME, max_bytes=ROOMY):
    return AnswerStore(folder, max_bytes=max_bytes).space(name)


def fill(folder, numbers, name=NAME, rows=3):
    space = open_space(folder, name)
    for number in numbers:
        space.put(key(number), answer(number, rows))
    return space


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("=")
        numpy.testing.assert_array_equal(found[name], array)


def segment_paths(folder):
    return sorted(folder.glob("answers-*/*.segment"))


def record_ends(numbers):
    """Where the segment's head ends, and each record."""
    head = segment_head(NAME)
    records = [make_record(key(number), answer_to_bytes(answer(number)), head) for number in numbers]
    return numpy.cumsum([len(head), *map(len, records)])


def size(folder):
    return sum(path.stat().st_size for path in segment_paths(folder))


def start_writer(folder, first, stop):
    script = WRITER.format(functions=inspect.getsource(key) + inspect.getsource(answer))
    command = [sys.executable, "-c", script, str(folder), NAME, str(first), str(stop)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


DTYPES = st.one_of(
    integer_dtypes(), unsigned_integer_dtypes(), st.just(numpy.dtype(bool)), floating_dtypes(sizes=[16, 64])
)
SHAPES = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.dictionaries(st.text(max_size=10), arrays(DTYPES, SHAPES), max_size=3))
def test_integers_and_other_widths_come_back_as_they_were(answer):
    found = answer_from_bytes(answer_to_bytes(answer))
    assert_equal(found, answer)
    assert all(array.flags.writeable and array.dtype.isnative for array in found.values())


@given(arrays("f4", SHAPES, elements=st.floats(width=32)))
def test_float32_comes_back_exact_or_with_the_error_of_half_precision(array):
    found = answer_from_bytes(answer_to_bytes({"logits": array}))["logits"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    numpy.testing.assert_allclose(found, array, rtol=2**-11, atol=2**-25)
    numpy.testing.assert_array_equal(found == 0, array == 0)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf, -numpy.inf, 65505, -1e38, 1e-9, 2**-149])
def test_what_half_precision_can_not_hold_stays_single(value):
    array = numpy.array([1 / 3, value], dtype="f")
    numpy.testing.assert_array_equal(answer_from_bytes(answer_to_bytes({"x": array}))["x"], array)


def test_answers_are_small():
    logits, moves = numpy.random.default_rng(0).normal(size=(30, 17)).astype("f"), numpy.arange(30)
    assert len(answer_to_bytes({"logits": logits, "moves": moves})) < 2 * logits.size + moves.size + 40


@pytest.mark.parametrize("array", [numpy.array(["NOUN"]), numpy.array([{}]), numpy.zeros(2, dtype="c8")])
def test_what_is_no_number_is_an_error(array, tmp_path):
    with pytest.raises(TypeError, match="arrays of numbers, not of"):
        open_space(tmp_path).put(key(0), {"labels": array})


def test_short_key_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="20 bytes, not 8"):
        open_space(tmp_path).put(b"too few.", answer(0))


def test_answers_are_there_at_once_and_in_the_next_run(tmp_path):
    for space in (fill(tmp_path, range(20)), open_space(tmp_path)):
        assert len(space) == 20
        assert space.get(key(20)) is None
        for number in range(20):
            assert_equal(space.get(key(number)), answer(number))


def test_run_that_adds_nothing_writes_nothing(tmp_path):
    fill(tmp_path, range(3))
    before = segment_paths(tmp_path), size(tmp_path)
    fill(tmp_path, range(3))
    assert (segment_paths(tmp_path), size(tmp_path)) == before


def test_whole_keys_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(key_index, "FOLD", 7)
    keys = [key(number % 3)[:8] + key(number)[8:] for number in range(20)]
    space = open_space(tmp_path)
    for number, shared in enumerate(keys):
        space.put(shared, answer(number))
    for opened in (space, open_space(tmp_path)):
        for number, shared in enumerate(keys):
            assert_equal(opened.get(shared), answer(number))
        assert opened.get(keys[0][:8] + key(20)[8:]) is None


def test_spaces_know_nothing_of_each_other(tmp_path):
    store = AnswerStore(tmp_path, max_bytes=ROOMY)
    for number, name in enumerate(["digest tagger scores", "digest tagger hidden", "other tagger scores"]):
        assert store.space(name).get(key(0)) is None
        store.space(name).put(key(0), answer(number))
        assert store.space(name) is store.space(name)
    assert_equal(open_space(tmp_path, "digest tagger hidden").get(key(0)), answer(1))


def test_segment_of_another_space_or_version_is_not_read(tmp_path, monkeypatch):
    fill(tmp_path, range(3))
    (path,) = segment_paths(tmp_path)
    written = path.read_bytes()
    other, head = open_space(tmp_path, "other"), segment_head("other")
    other.folder.mkdir()
    (other.folder / "whole.segment").write_bytes(written)
    (other.folder / "records.segment").write_bytes(head + written[len(segment_head(NAME)) :])
    assert len(open_space(tmp_path, "other")) == 0
    monkeypatch.setattr(segments, "VERSION", 2)
    newer = open_space(tmp_path)
    assert len(newer) == 0
    newer.put(key(9), answer(9))
    (newer.folder / "older.segment").write_bytes(written)
    assert len(open_space(tmp_path)) == 1


def test_file_cut_anywhere_keeps_what_is_whole(tmp_path):
    fill(tmp_path, range(3))
    (path,) = segment_paths(tmp_path)
    whole, ends = path.read_bytes(), record_ends(range(3))
    assert ends[-1] == len(whole)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        space = open_space(tmp_path)
        n_whole = sum(end <= cut for end in ends[1:])
        assert len(space) == n_whole
        for number in range(n_whole):
            assert_equal(space.get(key(number)), answer(number))
        if cut == len(whole) - 1:
            space.put(key(2), answer(2))
    assert len(open_space(tmp_path)) == 3


def test_flipped_bit_costs_its_answer_and_never_gives_a_wrong_one(tmp_path):
    fill(tmp_path, range(3))
    (path,) = segment_paths(tmp_path)
    whole, ends = path.read_bytes(), record_ends(range(3))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        space = open_space(tmp_path)
        hit = int(numpy.searchsorted(ends, place, side="right")) - 1  # -1: the head
        for number in range(3):
            found = space.get(key(number))
            if found is not None:
                assert_equal(found, answer(number))
            if number < hit:
                assert found is not None
            if number == hit or hit < 0:
                assert found is None
    space.put(key(2), answer(2))
    assert_equal(space.get(key(2)), answer(2))
    assert_equal(open_space(tmp_path).get(key(2)), answer(2))


def test_killed_writer_leaves_every_answer_that_it_has_put_and_disturbs_nobody(tmp_path):
    with start_writer(tmp_path, 0, 10**6) as killed, start_writer(tmp_path, 100, 400) as other:
        reported = [int(killed.stdout.readline()) for _ in range(200)]
        killed.kill()
        reported += [int(line) for line in killed.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        other.communicate()
    assert (killed.returncode, other.returncode) == (-signal.SIGKILL, 0)
    space = open_space(tmp_path)
    there = {*reported, *range(100, 400)}
    assert len(there) <= len(space) <= len(there) + 1  # the last may be put and not reported
    for number in there:
        assert_equal(space.get(key(number)), answer(number))
    assert len(segment_paths(tmp_path)) == 2
    space.put(key(-1), answer(-1))
    assert_equal(open_space(tmp_path).get(key(-1)), answer(-1))


def test_full_folder_keeps_what_it_has_and_says_so_once(tmp_path, caplog):
    space = open_space(tmp_path, max_bytes=20_000)
    for number in range(200):
        space.put(key(number), answer(number, rows=100))
        assert size(tmp_path) <= 20_000
    assert size(tmp_path) > 19_000
    assert len(space) > 20
    for number in range(200):
        found = space.get(key(number))
        assert (found is not None) == (number < len(space))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has reached 0.02 MB. Give it a higher `max_size`" in caplog.text


def test_bound_holds_to_the_byte(tmp_path):
    fill(tmp_path / "roomy", [0])
    bound = size(tmp_path / "roomy")
    for missing in (0, 1):
        folder = tmp_path / str(missing)
        open_space(folder, max_bytes=bound - missing).put(key(0), answer(0))
        assert size(folder) == (0 if missing else bound)


@pytest.mark.parametrize(("old", "new"), [("one", "other"), ("other", "one")])
def test_spaces_that_are_not_used_make_room_the_longest_unused_first(old, new, tmp_path):
    for name, last_use in ((old, 2), (new, 3), ("used", 1)):
        os.utime(fill(tmp_path, range(20), name).folder, (0, last_use))
    (tmp_path / "notes.txt").write_text("not ours")
    store = AnswerStore(tmp_path, max_bytes=size(tmp_path))
    os.utime(store.space("used").folder, (0, 1))
    store.space(NAME).put(key(0), answer(0))
    assert [len(open_space(tmp_path, name)) for name in (old, new, "used", NAME)] == [0, 20, 20, 1]
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize(("opened", "left"), [("one", "other"), ("other", "one")])
def test_opening_a_space_is_using_it(opened, left, tmp_path):
    for name in (opened, left):
        os.utime(fill(tmp_path, range(20), name).folder, (0, 0))
    open_space(tmp_path, opened)
    open_space(tmp_path, max_bytes=size(tmp_path)).put(key(0), answer(0))
    assert [len(open_space(tmp_path, name)) for name in (opened, left)] == [20, 0]


def test_nothing_is_dropped_for_what_will_never_fit(tmp_path):
    fill(tmp_path, range(20), "other")
    bound = size(tmp_path)
    space = open_space(tmp_path, max_bytes=bound)
    space.put(key(0), answer(0, rows=bound))
    assert space.get(key(0)) is None
    assert len(open_space(tmp_path, "other")) == 20


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete what is open")
def test_space_that_another_process_dropped_is_read_on_and_counts(tmp_path):
    mine = open_space(tmp_path, "mine", max_bytes=20_000)
    mine.put(key(0), answer(0, rows=4000))
    other = open_space(tmp_path, "other", max_bytes=20_000)
    other.put(key(0), answer(0, rows=4000))
    assert len(segment_paths(tmp_path)) == 1
    assert_equal(mine.get(key(0)), answer(0, rows=4000))
    mine.put(key(1), answer(1, rows=900))
    assert mine.get(key(1)) is not None
    assert len(segment_paths(tmp_path)) == 0


def test_full_disk_costs_the_answer_that_does_not_fit(tmp_path, caplog):
    resource = pytest.importorskip("resource")
    space = open_space(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        for number in range(30):
            space.put(key(number), answer(number, rows=20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    n_put = len(space)
    assert size(tmp_path) == 1 << 20  # the last was written in part
    assert n_put == (1 << 20) // 80_000
    assert caplog.text.count("takes no more") == len(caplog.records) == 1
    later = fill(tmp_path, [n_put], rows=20_000)
    for number in range(n_put + 1):
        assert_equal(later.get(key(number)), answer(number, rows=20_000))
        assert (space.get(key(number)) is None) == (number == n_put)


def test_what_can_not_be_read_is_asked_again(tmp_path, caplog, monkeypatch):
    space = fill(tmp_path, range(3))
    (space.folder / "0.segment").mkdir()
    space = open_space(tmp_path)
    assert len(space) == 3
    assert caplog.text.count("can't be read") == 1

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Segment, "read", fail)
    assert space.get(key(0)) is None
    assert len(caplog.records) == 1


def test_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DistillationError, match="Name a folder that can be written to"):
            AnswerStore(folder, max_bytes=ROOMY)


def test_folder_that_takes_no_file_is_an_error(tmp_path, monkeypatch):
    def refuse(**arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(DistillationError, match=r"Read-only file system\. Name a folder that can be written to"):
        AnswerStore(tmp_path, max_bytes=ROOMY)
