"""`report.html`: read by a parser, and looked at in a browser."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from spacy_distil.evaluation.page import to_html
from tests.evaluation.comparisons import ATTACK, TEXT, make_comparison, without_annotation

MACHINE = {"gpu": None, "processor": "A <b>processor</b>", "threads": 2, "auto": "float32"}
MACHINE["versions"] = {"spacy": "3.8", "spacy-distil": "0.1"}
VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


class Page(HTMLParser):
    """What is in a page. Raises AssertionError where tags do not match.

    elements: every tag with its attributes. texts: every piece of text outside of style sheets, by the tag that it is in.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append((self.open[-1], data))

    def of(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    @property
    def text(self) -> str:
        return " ".join(" ".join(text for _, text in self.texts).split())


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(to_html(make_comparison(), MACHINE, f"A title {ATTACK}"))


def test_texts_labels_and_names_are_escaped(page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "link", "img"}
    assert f"A title {ATTACK}" in page.text
    assert ATTACK in {text for tag, text in page.texts if tag == "span"}  # a label's bars
    assert page.text.count(TEXT[9 : 9 + len(ATTACK)]) > 12
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_names_of_pipelines_components_and_machines_are_escaped() -> None:
    comparison = make_comparison()
    (student,) = comparison.students
    agreement, found = {ATTACK: student.agreement["parser"]}, {ATTACK: student.disagreements["parser"]}
    student = replace(student, name=ATTACK, agreement=agreement, disagreements=found)
    page = Page(to_html(replace(comparison, corpus=ATTACK, students=[student]), MACHINE, "Title"))
    assert not page.of("script")
    assert "A <b>processor</b>" in page.text
    assert ATTACK in {text for tag, text in page.texts if tag == "h3"}


def test_the_page_needs_no_other_file(page: Page) -> None:
    places = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "srcset")
    ]
    assert all(value.startswith("#") for value in places)
    (policy,) = page.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    css = (Path(__file__).parents[2] / "spacy_distil/evaluation/templates/report.css").read_text()
    assert "url(" not in css
    assert "@import" not in css


def test_every_part_is_there(page: Page) -> None:
    headings = [text for tag, text in page.texts if tag in ("h2", "h3")]
    assert [heading for heading in headings if heading.strip() and "student" not in heading] == [
        "Accuracy against speed",
        "Summary",
        "By label",
        "ents_per_type",
        "cats_auc_per_type",
        "Training",
        "Where they disagree most",
        "ner",
        "spancat",
        "parser",
        "tagger",
        "senter",
        "textcat",
    ]
    assert "70.0 ± 10.0 65.0 to 75.0 87.5 % 50.0 to 99.0" in page.text
    charts = [text for tag, text in page.texts if tag == "figcaption"]
    assert charts == ["overall", "ents_f", "tag_acc", "weighted score", "ents_f", "loss"]
    assert len(page.of("polyline")) == 2 + 2 + 2
    assert len(page.of("article")) == 6


def test_what_only_one_of_teacher_and_student_says_is_marked(page: Page) -> None:
    marked = [attributes for attributes in page.of("mark") if "differs" in attributes["class"]]
    assert len(marked) == 1 + 3  # the explanation's; the teacher's two entities and the student's
    assert len(page.of("li", class_="differs")) == 3
    assert len(page.of("g", class_="displacy-arrow differs")) == 2
    assert "≠" in page.text


def test_ids_are_unlike(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 5


def test_the_same_comparison_gives_the_same_page() -> None:
    first, second = (to_html(make_comparison(), MACHINE, "Title") for _ in range(2))
    assert first == second


def test_without_annotation_and_logs_those_sections_are_left_out() -> None:
    page = Page(to_html(without_annotation(), MACHINE, "Title"))
    headings = {text for tag, text in page.texts if tag == "h2"}
    assert headings.isdisjoint({"By label", "Training", "Where they disagree most"})
    assert [text for tag, text in page.texts if tag == "figcaption"] == ["agreement: ner"]
    assert "without gold labels" in page.text


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


def browse(html: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "page.html").write_text(html, encoding="utf8")
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--enable-logging=stderr",
    ]
    place = [f"--user-data-dir={folder / 'profile'}", (folder / "page.html").as_uri()]
    return subprocess.run([*command, *options, *place], capture_output=True, text=True, timeout=120, check=True)


def share_of_edges(picture: Path) -> float:
    """How much of a PNG differs from its surroundings: its filters leave zeros where a pixel is as its neighbour."""
    data, at, packed = picture.read_bytes(), 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    return float((np.frombuffer(zlib.decompress(packed), dtype="uint8") > 0).mean())


@needs_browser
def test_a_browser_draws_the_page_and_has_nothing_to_complain_of(tmp_path: Path) -> None:
    html = to_html(make_comparison(), MACHINE, "Title")
    result = browse(html, tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,3000")
    assert "CONSOLE" not in result.stderr
    drawn = share_of_edges(tmp_path / "page.png")
    broken = html.replace("<body>", "<body style='display: none'><img src='https://localhost/a.png'>")
    result = browse(broken, tmp_path, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,3000")
    assert "CONSOLE" in result.stderr  # so it would have been seen
    assert drawn > 20 * share_of_edges(tmp_path / "page.png")


@needs_browser
def test_the_page_is_no_wider_than_a_phone(tmp_path: Path) -> None:
    html = escape(to_html(make_comparison(), MACHINE, "Title"), quote=True)
    measure = "document.title = document.querySelector('iframe').contentDocument.documentElement.scrollWidth"
    frame = f'<iframe srcdoc="{html}" style="width: 400px; height: 900px; border: 0"></iframe>'
    found = browse(f"{frame}<script>onload = () => {{ {measure} }}</script>", tmp_path, "--dump-dom").stdout
    assert "<title>400</title>" in found
