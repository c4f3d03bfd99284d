"""The site, without building it: every page is reachable, links lead to files, and the reference names what is public."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest

import upstairs as up

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
MADE = "_"  # folders of docs that the build writes, or that hold its parts
PAGES = {
    str(file.relative_to(DOCS).with_suffix("")): file
    for file in sorted(DOCS.rglob("*.md"))
    if not file.relative_to(DOCS).parts[0].startswith(MADE)
}
PACKAGES = ("evaluate", "online", "optim", "report", "tasks", "testing")

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="a source distribution has no docs")


def listed(page: str) -> list[str]:
    """What the tables of contents of a page name, relative to docs."""
    tables = re.findall(r"^```\{toctree\}\n(.*?)^```", PAGES[page].read_text(encoding="utf-8"), re.M | re.S)
    return [line for table in tables for line in table.splitlines() if line and not line.startswith(":")]


def links(page: str) -> list[str]:
    """Relative links in the text of a page; code is left out."""
    text = re.sub(r"^```.*?^```", "", PAGES[page].read_text(encoding="utf-8"), flags=re.M | re.S)
    return [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]


def test_every_page_is_reachable() -> None:
    reached = {"index", *listed("index")}
    if "methods/README" in reached:  # its pages are its links, which tests/docs/test_methods.py demands
        reached |= {f"methods/{link.removesuffix('.md')}" for link in links("methods/README")}
    assert sorted(set(PAGES) - reached) == []
    written = [name for name in listed("index") if not name.startswith(MADE)]
    assert [name for name in written if name not in PAGES] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    assert [link for link in links(page) if not (PAGES[page].parent / link).exists()] == []


def test_the_reference_names_what_is_public() -> None:
    reference = PAGES["api"].read_text(encoding="utf-8")
    words = set(re.findall(r"[A-Za-z_]+", reference))
    assert sorted(set(up.__all__) - words) == []
    for package in PACKAGES:
        assert f"## `upstairs.{package}`" in reference
        public = set(importlib.import_module(f"upstairs.{package}").__all__)
        assert sorted(public - words) == [], package


def test_what_the_reference_lists_exists() -> None:
    reference = PAGES["api"].read_text(encoding="utf-8")
    for module, table in re.findall(r"currentmodule:: (\S+)\n\n.. autosummary::(.*?)```", reference, re.S):
        for name in re.findall(r"^   ([A-Za-z][\w.]*)$", table, re.M):
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
