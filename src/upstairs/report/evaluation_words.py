"""Small words and frames that all parts of an evaluation page use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from upstairs.errors import MissingExtraError
from upstairs.evaluate.result import EvaluationResult
from upstairs.report import page as parts
from upstairs.report.descent_figures import blank_figure

__all__ = ["digits", "drawn", "rows_said", "signed"]


def rows_said(result: EvaluationResult, shots: int) -> str:
    """Say a number of support rows."""
    return f"{shots} row{'' if shots == 1 else 's'}{' a class' if result.labels == 'own' else ''}"


def drawn(draw: Callable[[Any], Any], size: tuple[float, float], alt: str, caption: str) -> parts.Html:
    """A picture, or a note why there is none."""
    try:
        figure = blank_figure(size)
    except MissingExtraError as error:
        return parts.note(f"There is no picture: {error}")
    draw(figure.subplots())
    return parts.figure(figure, alt, caption)


def digits(value: float) -> str:
    """Write a value."""
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def signed(value: float) -> str:
    """Write a difference."""
    return f"{value:+.3f}" if abs(value) >= 0.1 else f"{value:+.4f}"
