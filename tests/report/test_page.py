"""Parts of a page: escaped, closed, and nothing loaded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from upstairs.errors import StorageError
from upstairs.report import page as parts

NASTY = "<script>alert('x')</script> & \"quoted\" $x_1$"
EMPTY = {"meta", "link", "br", "img", "path", "use"}


class Reader(HTMLParser):
    """Checks that tags are closed in their order, and keeps texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def whole() -> str:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ax = figure.subplots()
    ax.plot([0, 1], [1, 2], color="#000000", label="<b>")
    ax.set_title(NASTY, parse_math=False)
    found = [
        parts.lead(NASTY, NASTY),
        parts.note(NASTY),
        parts.heading(NASTY),
        parts.paragraph(NASTY),
        parts.code(NASTY),
        parts.facts([(NASTY, NASTY)]),
        parts.table([NASTY, "n"], [[NASTY, 1]], numbers=[1], caption=NASTY),
        parts.figure(figure, NASTY, NASTY),
    ]
    return parts.page(NASTY, found, made=NASTY)


def test_every_text_is_escaped() -> None:
    reader = read(whole())
    tags = [tag for tag, _ in reader.tags]
    assert "script" not in tags
    assert tags.count("style") == 1
    assert sum(NASTY in text for text in reader.texts) >= 12
    assert ("svg", NASTY) in [(tag, attributes.get("aria-label")) for tag, attributes in reader.tags]


def test_nothing_is_loaded_and_phones_are_served() -> None:
    text = whole()
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|url\((?!#)|src=", text)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert '<html lang="en">' in text
    for box in re.findall(r"<[^>]*><table>|<pre[^>]*>", text):
        assert 'class="scroll"' in box
        assert 'tabindex="0"' in box


def test_a_picture_takes_the_colour_of_the_text() -> None:
    picture = re.search(r"<svg.*</svg>", whole(), re.S)
    assert picture is not None
    assert "#000000" not in picture[0]
    assert "currentColor" in picture[0]
    assert "<style" not in picture[0]
    assert "<title" not in picture[0]


def test_the_same_figure_gives_the_same_page() -> None:
    assert whole() == whole()


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    parts.write_page(target, "one")
    parts.write_page(target, "two")
    assert target.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    with pytest.raises(StorageError, match="cannot be written"):
        parts.write_page(tmp_path / "no" / "a.html", "x")
