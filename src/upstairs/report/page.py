"""Parts of a self-contained HTML page: headings, text, tables, figures, and what holds them together.

A page is one file: no scripts, nothing that is loaded. It follows the light or dark setting of its reader, fits a phone (what is wider
than the screen scrolls inside its own box) and prints in black on white. Every text is escaped.
"""

from __future__ import annotations

import html
import io
import os
import re
import secrets
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from upstairs.errors import StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Html", "code", "facts", "figure", "heading", "lead", "note", "page", "paragraph", "table", "write_page"]


@final
@dataclass(frozen=True, slots=True)
class Html:
    """A piece of a page, whose texts are escaped already."""

    text: str


def paragraph(*sentences: str) -> Html:
    """Sentences, one after another.

    Examples
    --------
    >>> paragraph("Is 1 < 2?", "Yes.").text
    '<p>Is 1 &lt; 2? Yes.</p>'
    """
    return Html(f"<p>{html.escape(' '.join(sentences))}</p>")


def lead(*sentences: str) -> Html:
    """What the reader should know if nothing else is read: the first sentence is set larger."""
    first, *rest = sentences
    more = f"<p>{html.escape(' '.join(rest))}</p>" if rest else ""
    return Html(f'<div class="lead"><p class="verdict">{html.escape(first)}</p>{more}</div>')


def note(text: str) -> Html:
    """A remark in smaller type."""
    return Html(f'<p class="note">{html.escape(text)}</p>')


def heading(text: str) -> Html:
    """Begin a section."""
    return Html(f"<h2>{html.escape(text)}</h2>")


def code(text: str) -> Html:
    """Lines to be typed."""
    return Html(f'<pre class="scroll" tabindex="0"><code>{html.escape(text)}</code></pre>')


def facts(pairs: Iterable[tuple[str, Any]]) -> Html:
    """Short facts under their names, side by side where there is room.

    Examples
    --------
    >>> facts([("rows", 1200)]).text
    '<dl class="facts"><div><dt>rows</dt><dd>1200</dd></div></dl>'
    """
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>" for name, value in pairs
    )
    return Html(f'<dl class="facts">{cells}</dl>')


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numbers: Sequence[int] = (),
    texts: Sequence[int] = (),
    caption: str = "",
) -> Html:
    """A table in a box of its own, which scrolls where it is wider than the page.

    Parameters
    ----------
    headers : sequence of str
    rows : iterable of sequences
        One cell a header; the first one names the row.
    numbers : sequence of int
        Columns that are set to the right.
    texts : sequence of int
        Columns whose cells may take several lines.
    caption : str
        Above the table.

    Examples
    --------
    >>> "<th scope='row'>a&lt;b</th>".replace("'", '"') in table(("who", "rows"), [("a<b", 3)], numbers=[1]).text
    True
    """
    kinds = {number: ' class="number"' for number in numbers} | {number: ' class="text"' for number in texts}
    head = "".join(
        f'<th scope="col"{kinds.get(place, "")}>{html.escape(header)}</th>' for place, header in enumerate(headers)
    )
    lines = []
    for row in rows:
        first, *rest = row
        cells = f'<th scope="row"{kinds.get(0, "")}>{html.escape(str(first))}</th>'
        cells += "".join(
            f"<td{kinds.get(place, '')}>{html.escape(str(cell))}</td>" for place, cell in enumerate(rest, start=1)
        )
        lines.append(f"<tr>{cells}</tr>")
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    label = html.escape(caption or ", ".join(headers), quote=True)
    return Html(
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure(drawn: Figure, alt: str, caption: str = "") -> Html:
    """A matplotlib figure as a picture inside the page, whose black takes the colour of the text.

    Parameters
    ----------
    drawn : matplotlib Figure
    alt : str
        What is seen, for those who do not see it.
    caption : str
        Below the picture.
    """
    import matplotlib

    text = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "upstairs", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's own fonts draw the letters
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn.savefig(text, format="svg", transparent=True, metadata=metadata)
    picture = text.getvalue()
    picture = picture[picture.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', picture)
    assert box is not None
    inside = picture[picture.index(">") + 1 :]
    for pattern, instead in _TIDY:
        inside = re.sub(pattern, instead, inside, flags=re.S)
    opening = (
        f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" viewBox="{box[1]}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" stroke-linejoin="round">'
    )
    picture = opening + inside
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{picture}{below}</figure>")


def page(title: str, parts: Iterable[Html], *, made: str = "") -> str:
    """Put parts together.

    Parameters
    ----------
    title : str
    parts : iterable of Html
        In their order.
    made : str
        At the end: by what, and when.

    Examples
    --------
    >>> page("A & B", [paragraph("text")]).count("A &amp; B")
    2
    """
    name, body = html.escape(title), "\n".join(part.text for part in parts)
    foot = f"\n<footer>{html.escape(made)}</footer>" if made else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{name}</h1>
{body}
</main>{foot}
</body>
</html>
"""


def write_page(path: str | os.PathLike[str], text: str) -> None:
    """Write a page; a kill leaves the old file or the new one, never half.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}-{secrets.token_hex(4)}.tmp")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"'{target}' cannot be written ({error.strerror}); give another path.") from error


_TIDY = (
    (r"<metadata>.*?</metadata>", ""),
    (r"<style.*?</style>", ""),  # it would hold for the whole page
    (r'<g id="[^"]*"', "<g"),
    (r"font-family: [^;\"]*", "font-family: system-ui, sans-serif"),
    ("#000000", "currentColor"),
    (r"\n\s*", " "),
)
"""What is changed in a picture of matplotlib before it stands in a page."""

STYLE = """
:root { --paper: #ffffff; --ink: #1a1c1f; --soft: #5b6168; --line: #d5d9de; --tint: #f3f5f7; --mark: #0072b2; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #15171a; --ink: #e6e8ea; --soft: #a2a9b1; --line: #3a4047; --tint: #1f2328; --mark: #56b4e9; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
main, footer { max-width: 48rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0 1rem; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.lead { border-left: .25rem solid var(--mark); padding: .1rem 0 .1rem 1rem; margin: 0 0 1.5rem; }
.verdict { font-size: 1.15rem; font-weight: 600; }
.lead p { margin: .3rem 0; }
.note, figcaption, caption, footer { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.scroll:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.text { white-space: normal; min-width: 9rem; }
thead th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .8rem 1rem; margin: 1rem 0; }
.facts dt { color: var(--soft); font-size: .875rem; }
.facts dd { margin: 0; font-size: .9375rem; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; }
figure svg { display: block; width: 100%; max-width: 38rem; height: auto; fill: currentColor; }
pre { background: var(--tint); padding: .8rem; border-radius: .3rem; font-size: .875rem; overflow-wrap: normal; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; }
@media print {
  body { font-size: 10pt; }
  main, footer { max-width: none; padding: 0; }
  figure, tr, .lead, .facts { break-inside: avoid; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; }
}
"""
"""How pages look."""
