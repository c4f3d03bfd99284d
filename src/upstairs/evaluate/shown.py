"""The two doors from a result up to the report: a picture and a page.

A result that can be shown is what people expect, and the report stands above it; so this file alone imports upwards, when
it is asked to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from upstairs.evaluate.result import EvaluationResult

__all__ = ["plot", "to_html"]


def plot(result: EvaluationResult, metric: str | None, ax: Any) -> Any:
    """Draw curves over shots; see `EvaluationResult.plot`."""
    from upstairs.report.evaluation_figures import plot_shots

    return plot_shots(result, metric=metric, ax=ax)


def to_html(result: EvaluationResult, path: str | os.PathLike[str] | None, **parts: Any) -> str:
    """Tell a result on one page; see `EvaluationResult.to_html`."""
    from upstairs.report.evaluation_page import evaluation_report
    from upstairs.report.page import write_page

    text = evaluation_report(result, **{"title": "Does meta-learning help?"} | parts)
    if path is not None:
        write_page(Path(path), text)
    return text
