"""Files and folders that are written beside and renamed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spacy_distil.drafts import new_file, new_folder, set_aside


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a file."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    return folder


def test_a_file_takes_its_place_and_may_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with new_file(path) as draft:
        draft.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_folder_takes_the_place_of_another(old: Path) -> None:
    with new_folder(old) as draft:
        (draft / "new.txt").write_text("new")
        assert (old / "old.txt").exists()
    assert [path.name for path in old.iterdir()] == ["new.txt"]
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_what_fails_leaves_what_was_there_and_nothing_else(make, old: Path) -> None:
    path = old / "old.txt" if make is new_file else old
    with pytest.raises(KeyboardInterrupt), make(path):
        raise KeyboardInterrupt
    assert (old / "old.txt").read_text() == "old"
    assert [list(old.iterdir()), list(old.parent.iterdir())] == [[old / "old.txt"], [old]]


def test_a_folder_that_stepped_aside_comes_back_where_its_successor_can_t_move_in(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def fail(source, target):
        if Path(target) == old and not old.exists() and (Path(source) / "new.txt").exists():
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"), new_folder(old) as draft:
        (draft / "new.txt").write_text("new")
    assert [path.name for path in old.iterdir()] == ["old.txt"]
    assert list(old.parent.iterdir()) == [old]


def test_what_was_set_aside_goes_in_the_end_or_comes_back(old: Path) -> None:
    def fail() -> None:
        with set_aside(old):
            old.mkdir()
            (old / "new.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in old.iterdir()] == ["old.txt"]
    with set_aside(old):
        assert not old.exists()
        old.mkdir()
    assert list(old.iterdir()) == []
    assert list(old.parent.iterdir()) == [old]
    with set_aside(old.parent / "none"):
        pass
