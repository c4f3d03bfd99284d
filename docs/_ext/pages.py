"""Pages that live elsewhere in the repository become part of the site, and links that work on a code host work here.

A link such as ``../../benchmarks/speed.md`` is written for a reader of the repository. On the site it points to the page
made from that file; a link to a file that is no page becomes a download of it, which Sphinx does by itself.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
COPIES = "_pages"  # ignored by git
INDEX = {"methods/README": "methods/*", "measured": f"{COPIES}/benchmarks/*"}  # pages that list others
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)]*)?\))")


def elsewhere() -> dict[Path, str]:
    """Files outside of docs that are pages, and the name of each on the site."""
    files = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "benchmarks").glob("*.md"))]
    return {file: f"{COPIES}/{file.relative_to(ROOT).with_suffix('')}" for file in files}


def page_of(file: Path) -> str | None:
    """Name on the site of a file of the repository; None if it is no page."""
    if file in elsewhere():
        return elsewhere()[file]
    if file == DOCS / "tutorials" / "GALLERY_HEADER.rst":
        return "_tutorials/index"
    if file == ROOT / "README.md":
        return "index"
    if DOCS / "tutorials" in file.parents and file.suffix == ".py":
        return f"_tutorials/{file.stem}"
    if DOCS in file.parents and file.suffix in (".md", ".rst"):
        return str(file.relative_to(DOCS).with_suffix(""))
    return None


def with_links(text: str, source: Path, name: str) -> str:
    """Text of a page with its relative links as they are on the site."""
    here = (DOCS / name).parent

    def there(link: re.Match[str]) -> str:
        file = Path(os.path.normpath(source.parent / link[2]))
        if "://" in link[2] or not file.exists():
            return link[0]
        page = page_of(file)
        target = DOCS / f"{page}.md" if page else file
        if page and page.startswith("_tutorials/"):
            target = target.with_suffix(".rst")
        return f"{link[1]}{os.path.relpath(target, here)}{link[3]}"

    fences = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(there, part) for part in fences)


def copy_pages(app: Any, config: Any) -> None:
    """Write the pages from elsewhere under docs, only those that changed."""
    wanted = {DOCS / f"{name}.md": (file, name) for file, name in elsewhere().items()}
    for old in (DOCS / COPIES).rglob("*.md"):
        if old not in wanted:
            old.unlink()
    for copy, (file, name) in wanted.items():
        text = with_links(file.read_text(encoding="utf-8"), file, name)
        if not text.startswith("# "):
            text = f"# {file.stem.replace('_', ' ').capitalize()}\n\n{text}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


def read(app: Any, name: str, source: list[str]) -> None:
    """Give pages of docs the links of the site, and lists of pages their table of contents."""
    file = DOCS / f"{name}.md"
    if file.exists() and not name.startswith("_"):
        source[0] = with_links(source[0], file, name)
    if name in INDEX:
        depth = "../" * name.count("/")
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:glob:\n\n{depth and '/'}{INDEX[name]}\n```\n"


def setup(app: Any) -> dict[str, Any]:
    """Connect both."""
    app.connect("config-inited", copy_pages)
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
