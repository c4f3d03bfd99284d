"""Formulas as pictures in the page: no script and no fonts to load, so that a page reads the same without a network.

Matplotlib's mathtext sets them; it is there for the tutorials anyway, and knows nearly all that the pages use.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

import matplotlib
from matplotlib.mathtext import math_to_image

COLOUR = "#123456"  # replaced by the colour of the text around it
SAME = {r"\le": r"\leq", r"\ne": r"\neq", r"\lVert": r"\Vert", r"\rVert": r"\Vert", r"\tfrac": r"\frac"}
SAME |= {r"\big": "", r"\Big": ""}


def picture(latex: str, size: float) -> str:
    """SVG of a formula, on the baseline of the text around it."""
    text = re.sub(r"\\[A-Za-z]+", lambda name: SAME.get(name[0], name[0]), " ".join(latex.split()))
    file = io.BytesIO()
    with matplotlib.rc_context({"mathtext.fontset": "cm", "svg.hashsalt": latex, "savefig.transparent": True}):
        depth = math_to_image(f"${text}$", file, format="svg", dpi=72, color=COLOUR)
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue().decode(), flags=re.S)
    svg = svg[svg.index("<svg") :].replace(COLOUR, "currentColor")
    width, height = (float(re.search(rf' {side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))
    scale = size / 10.0  # mathtext sets 10 points
    style = f"width:{width * scale:.3f}em;height:{height * scale:.3f}em;vertical-align:{-depth * scale:.3f}em"
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg class="formula" role="img" aria-label="{html.escape(latex)}" style="{style}"', 1)


def inline(writer: Any, node: Any) -> None:
    """Write a formula within a line."""
    writer.body.append(picture(node.astext(), 1.0))
    raise _skip()


def block(writer: Any, node: Any) -> None:
    """Write a formula on lines of its own; what is too wide for a small screen can be moved."""
    parts = "".join(f"<div>{picture(part, 1.05)}</div>" for part in node.astext().split(r"\qquad"))
    writer.body.append(f'<div class="formulas">{parts}</div>')
    raise _skip()


def _skip() -> Exception:
    from docutils import nodes

    return nodes.SkipNode()


def setup(app: Any) -> dict[str, Any]:
    """Name the renderer; `html_math_renderer` in conf.py chooses it."""
    app.add_html_math_renderer("pictures", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
