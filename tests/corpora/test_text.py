"""Texts as a corpus: what is read, in which part it falls, and what bad files get."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example
from spacy.util import load_config_from_str, resolve_dot_names

from spacy_distil.corpora.text import TextCorpus, cut, draw_at_random, is_held_out
from spacy_distil.errors import CorpusError

BLANK = spacy.blank("en")
TEXTS = ["The film was great.", "I watched it in London!", "Naïve café 中国 😀", 'It said "no".']


@pytest.fixture(scope="module")
def nlp() -> Language:
    return spacy.blank("en")


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode("utf8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_texts(path: Path, texts: list[str]) -> Path:
    if ".jsonl" in path.name:
        return write(path, "".join(json.dumps({"text": text}) + "\n" for text in texts))
    if path.suffix == ".spacy":
        DocBin(docs=[BLANK.make_doc(text) for text in texts]).to_disk(path)
        return path
    return write(path, "".join(f"{text}\n" for text in texts))


def read(nlp: Language, path: Path | list[Path], **settings: Any) -> list[str]:
    paths = [str(part) for part in path] if isinstance(path, list) else str(path)
    return [example.text for example in TextCorpus(paths, **settings)(nlp)]


# What is read


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.spacy"])
def test_every_kind_of_file_gives_its_texts(name: str, nlp: Language, tmp_path: Path) -> None:
    assert read(nlp, write_texts(tmp_path / name, TEXTS)) == TEXTS


def test_texts_become_examples_without_annotation(nlp: Language, tmp_path: Path) -> None:
    (example,) = TextCorpus(str(write(tmp_path / "a.txt", "I like London.")))(nlp)
    assert [token.text for token in example.reference] == ["I", "like", "London", "."]
    assert example.predicted is not example.reference
    assert not any(example.reference.has_annotation(attr) for attr in ("TAG", "LEMMA", "DEP", "SENT_START", "ENT_IOB"))
    assert not example.reference.cats


def test_docs_keep_their_annotation_as_in_spacys_own_corpus(nlp: Language, tmp_path: Path) -> None:
    other = spacy.blank("en")
    doc = other.make_doc("I like New York.")
    doc.ents = [Span(doc, 2, 4, "ODD_LABEL")]
    doc.cats = {"odd": 1.0}
    pretokenized = Doc(other.vocab, words=["do", "n't"], tags=["VB", "ODD_TAG"])
    DocBin(docs=[doc, Doc(other.vocab), pretokenized]).to_disk(tmp_path / "a.spacy")
    examples = list(TextCorpus(str(tmp_path / "a.spacy"))(nlp))
    expected = list(Corpus(tmp_path / "a.spacy")(nlp))
    assert [example.to_dict() for example in examples] == [example.to_dict() for example in expected]
    assert [[t.text for t in e.predicted] for e in examples] == [[t.text for t in e.predicted] for e in expected]
    assert all(doc.vocab is nlp.vocab for e in examples for doc in (e.predicted, e.reference))
    assert examples[0].reference.ents[0].label_ == "ODD_LABEL"


def test_files_and_folders_are_read_in_a_stable_order(nlp: Language, tmp_path: Path) -> None:
    for name in ("b/2.jsonl.gz", "b/10.txt", "b/c/1.txt", "b/.hidden.txt", "b/.cache/3.txt", "b/README.md", "a.txt"):
        write_texts(tmp_path / name, [name])
    folder = ["b/10.txt", "b/2.jsonl.gz", "b/c/1.txt"]
    assert read(nlp, tmp_path / "b") == folder
    assert read(nlp, [tmp_path / "b", tmp_path / "a.txt"]) == [*folder, "a.txt"]
    assert read(nlp, [tmp_path / "a.txt", tmp_path / "a.txt"]) == ["a.txt", "a.txt"]


def test_empty_lines_line_breaks_of_windows_and_a_byte_order_mark_are_no_text(nlp: Language, tmp_path: Path) -> None:
    assert read(nlp, write(tmp_path / "a.txt", "\ufeffone\r\n\r\n  \ntwo\u2028three\nfour")) == [
        "one",
        "two\u2028three",
        "four",
    ]
    assert read(nlp, write(tmp_path / "a.jsonl", '\ufeff{"body": "a\\nb"}\r\n\n{"body": "c"}'), field="body") == [
        "a\nb",
        "c",
    ]


def test_limit_counts_the_texts_of_the_part(nlp: Language, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.txt", [f"text {i}" for i in range(50)])
    assert read(nlp, path, limit=3) == ["text 0", "text 1", "text 2"]
    assert read(nlp, path, held_out=0.5, limit=3) == read(nlp, path, held_out=0.5)[:3]


def test_files_are_not_read_ahead(nlp: Language, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": "two"}\nbroken\n')
    examples = TextCorpus(str(path))(nlp)
    assert [next(examples).text, next(examples).text] == ["one", "two"]
    with pytest.raises(CorpusError, match="line 3"):
        next(examples)


def test_a_config_builds_the_reader_and_each_epoch_reads_anew(nlp: Language, tmp_path: Path) -> None:
    paths = [str(write_texts(tmp_path / "a.txt", TEXTS)), str(write_texts(tmp_path / "b.jsonl", TEXTS))]
    config = load_config_from_str(f"""
[paths]
train = {json.dumps(paths[0])}
[corpora]
[corpora.train]
@readers = "spacy-distil.TextCorpus.v1"
path = ["${{paths.train}}", {json.dumps(paths[1])}]
[corpora.dev]
@readers = "spacy-distil.TextCorpus.v1"
path = ${{paths.train}}
held_out = 0.9
part = "held_out"
""")
    train, dev = resolve_dot_names(config.interpolate(), ["corpora.train", "corpora.dev"])
    for _ in range(2):
        assert [example.text for example in train(nlp)] == TEXTS + TEXTS
        assert [example.text for example in dev(nlp)] == [text for text in TEXTS if is_held_out(text, 0.9)]


# Parts


def test_the_parts_share_all_texts_and_no_text_is_in_both(nlp: Language, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(2000)]
    path = write_texts(tmp_path / "a.txt", texts)
    train = read(nlp, path, held_out=0.1)
    held_out = read(nlp, path, held_out=0.1, part="held_out")
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(texts)
    assert 150 < len(held_out) < 250
    assert set(held_out) < set(read(nlp, path, held_out=0.2, part="held_out"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.spacy"])
def test_a_text_is_in_the_same_part_whatever_the_file_and_its_order(name: str, nlp: Language, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(100)]
    first = read(nlp, write_texts(tmp_path / "a.txt", texts), held_out=0.3)
    second = read(nlp, write_texts(tmp_path / name, texts[::-1]), held_out=0.3)
    assert second[::-1] == first


def test_all_pieces_of_a_text_are_in_one_part(nlp: Language, tmp_path: Path) -> None:
    texts = [f"a{i} b{i} c{i}" for i in range(50)]
    path = write_texts(tmp_path / "a.txt", texts)
    words = {part: read(nlp, path, held_out=0.5, part=part, max_length=3) for part in ("train", "held_out")}
    assert {word[1:] for word in words["train"]}.isdisjoint(word[1:] for word in words["held_out"])
    assert sum(map(len, words.values())) == 150


# Long texts


def test_long_texts_are_cut_between_lines_else_at_white_space_else_in_a_word() -> None:
    assert cut("one two\nthree four five", 14) == ["one two", "three four", "five"]
    assert cut("one two three", 13) == ["one two three"]
    assert cut("abcdefgh ij", 3) == ["abc", "def", "gh", "ij"]


@given(st.text(), st.integers(min_value=1, max_value=20))
def test_cutting_loses_no_word(text: str, max_length: int) -> None:
    pieces = cut(text, max_length)
    assert all(0 < len(piece) <= max_length and piece == piece.strip() for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if all(len(word) <= max_length for word in text.split()):
        assert " ".join(pieces).split() == text.split()


def test_a_text_that_is_too_long_for_the_pipeline_is_cut(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.max_length = 20
    path = write(tmp_path / "a.txt", "many words, more words than this pipeline takes\n")
    assert read(nlp, path) == ["many words, more", "words than this", "pipeline takes"]
    assert read(nlp, path, max_length=10) == ["many", "words,", "more words", "than this", "pipeline", "takes"]


# Shuffling


@given(st.lists(st.integers()), st.integers(min_value=1, max_value=10), st.integers())
def test_drawing_at_random_gives_every_item_once(items: list[int], size: int, seed: int) -> None:
    random.seed(seed)
    drawn = list(draw_at_random(items, size))
    assert sorted(drawn) == sorted(items)
    random.seed(seed)
    assert list(draw_at_random(items, size)) == drawn


def test_no_more_than_the_items_that_are_held_are_read_ahead(nlp: Language, tmp_path: Path) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    drawn = draw_at_random(items(), 10)
    for i in range(50):
        next(drawn)
        assert len(taken) == i + 11
    texts = [f"text {i}" for i in range(50)]
    path = write_texts(tmp_path / "a.txt", texts)
    first, second = read(nlp, path, shuffle=10), read(nlp, path, shuffle=10)
    assert sorted(first) == sorted(second) == sorted(texts)
    assert len({tuple(first), tuple(second), tuple(texts)}) == 3


# Round trip

text_strategy = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(texts=st.lists(text_strategy, min_size=1), ending=st.sampled_from([".jsonl", ".jsonl.gz"]))
def test_json_gives_back_any_text(texts: list[str], ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_texts(tmp_path_factory.getbasetemp() / f"round-trip{ending}", texts)
    assert read(BLANK, path) == [text.strip() for text in texts]


# Bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "one"}\n{"text": }\n', r"a\.jsonl', line 2 is no JSON"),
        ("a.jsonl", '{"text": "one"}\n{"text": "tw', r"a\.jsonl', line 2: the file is cut off"),
        ("a.jsonl.gz", '{"text": "one"}\n{"text": "tw', r"a\.jsonl\.gz', line 2: the file is cut off"),
        ("a.jsonl", '{"body": "two", "id": 3}\n', "line 1 has no field 'text', it is an object with 'body', 'id'"),
        ("a.jsonl", '{"text": "one"}\n["two"]\n', r'line 2 has no field \'text\', it is \["two"\]'),
        ("a.jsonl", '{"text": 7}\n', "line 1: the field 'text' is 7, not a text"),
        ("a.jsonl", '{"text": "\\ud83d"}\n', "line 1: the text .* has half of a character"),
        ("a.jsonl", "[" * 100_000, "line 1: the file is cut off"),
        ("a.txt", b"one\ncaf\xe9 au lait\n", "line 2 is not UTF-8"),
        ("a.txt", "one\ncafé".encode()[:-1], r"a\.txt', line 2: the file is cut off, in the middle of a character"),
        ("a.txt", "one".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.txt", "", r"There is no text in '.*a\.txt'\."),
        ("a.jsonl.gz", "\n\n", r"There is no text in '.*a\.jsonl\.gz'\."),
        ("a.csv", "one\n", r"'.*a\.csv' is no file of texts: its name ends in none of \.txt, \.txt\.gz, \.jsonl"),
        ("a.spacy", "one\n", r"a\.spacy' is damaged"),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_read_is_named(
    name: str, content: str | bytes, message: str, nlp: Language, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(CorpusError, match=message):
        read(nlp, path)


def test_the_texts_before_a_fault_are_read(nlp: Language, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "".join(f"text {random.random()}\n" for _ in range(2_000)))
    path.write_bytes(path.read_bytes()[:-20])
    examples: list[Example] = []
    with pytest.raises(CorpusError, match=r"a\.txt\.gz', after line \d+: the compressed file is cut off"):
        examples.extend(TextCorpus(str(path))(nlp))
    assert len(examples) > 1_000


def test_any_damage_to_a_compressed_file_is_found(nlp: Language, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", "".join(f"text {random.random()}\n" for _ in range(100)))
    whole = path.read_bytes()
    for i in range(12, len(whole), 97):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :])
        with pytest.raises(CorpusError, match=r"a\.txt\.gz'"):
            read(nlp, path)


def spoil_blocks(content: bytes) -> bytes:
    return zlib.compress(srsly.msgpack_dumps({**srsly.msgpack_loads(zlib.decompress(content)), "tokens": b"1234567"}))


@pytest.mark.parametrize("spoil", [lambda content: content[:-9], lambda content: b"", spoil_blocks])
def test_a_damaged_docbin_is_named(spoil: Callable[[bytes], bytes], nlp: Language, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.spacy", TEXTS)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CorpusError, match=r"a\.spacy' is damaged"):
        read(nlp, path)


def test_paths_that_hold_no_file_of_texts_are_named(nlp: Language, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no file or folder '.*absent\.txt'"):
        read(nlp, tmp_path / "absent.txt")
    write(tmp_path / "folder" / "README.md", "one\n")
    with pytest.raises(CorpusError, match=r"folder' has no file of texts. Such a file ends in \.txt, \.txt\.gz"):
        read(nlp, tmp_path / "folder")
    empty: list[Any] = [None, "", []]
    for path in empty:
        with pytest.raises(CorpusError, match="needs a `path`"):
            TextCorpus(path)


def test_a_part_without_a_text_is_an_error(nlp: Language, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "a.txt", [text for text in map(str, range(10)) if not is_held_out(text, 0.5)])
    with pytest.raises(CorpusError, match="none that is in the part 'held_out'"):
        read(nlp, path, held_out=0.5, part="held_out")
    with pytest.raises(CorpusError, match=r"held_out = 1\.5"):
        TextCorpus(str(path), held_out=1.5)
    with pytest.raises(CorpusError, match=r"held_out = 0\.0 has no text"):
        TextCorpus(str(path), part="held_out")
