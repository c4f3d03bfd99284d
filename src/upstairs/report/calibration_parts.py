"""Calibration: are intervals as wide, and probabilities as large, as they should be."""

from __future__ import annotations

import math

from upstairs.evaluate.metrics import COVERAGE
from upstairs.evaluate.result import EvaluationResult
from upstairs.report import page as parts
from upstairs.report.evaluation_figures import plot_reliability, shown
from upstairs.report.evaluation_words import drawn, rows_said

__all__ = ["calibration_parts"]


def calibration_parts(result: EvaluationResult) -> list[parts.Html]:
    """Coverage of intervals, or error of probabilities with a picture; nothing where learners say neither."""
    if "coverage" in result.metrics:
        return _intervals(result)
    return _probabilities(result) if result.bins else []


def _intervals(result: EvaluationResult) -> list[parts.Html]:
    tables = {shots: {row.learner: row for row in result.table(shots, "coverage")} for shots in result.shots}
    names = [name for name in result.learners if any(name in table for table in tables.values())]
    rows = [
        [name, *(f"{100 * tables[s][name].mean:.1f} %" if name in tables[s] else "" for s in result.shots)]
        for name in names
    ]
    headers = ("learner", *(rows_said(result, shots) for shots in result.shots))
    caption = f"Targets inside the {100 * COVERAGE:.0f} % prediction interval: {100 * COVERAGE:.0f} % is right."
    return [parts.table(headers, rows, numbers=range(1, len(headers)), caption=caption)]


def _probabilities(result: EvaluationResult) -> list[parts.Html]:
    names = [name for name in result.learners if name in result.bins]
    rows = []
    for name in names:
        errors = [result.calibration_error(name, shots) for shots in result.shots]
        rows.append([name, *("" if math.isnan(error) else f"{error:.3f}" for error in errors)])
    headers = ("learner", *(rows_said(result, shots) for shots in result.shots))
    caption = (
        "Calibration error: mean distance between the confidence in the predicted label and how often it is right."
    )
    table = parts.table(headers, rows, numbers=range(1, len(headers)), caption=caption)
    shots = result.shots[len(result.shots) // 2]
    drawn_names = [name for name in shown(result, result.metric) if shots in result.bins.get(name, {})]
    alt = f"How often the predicted label is right against the confidence in it, for {', '.join(drawn_names)}."
    said = f"With {rows_said(result, shots)}: below the diagonal, a learner is too sure of itself."
    return [
        drawn(lambda ax: plot_reliability(result, shots, learners=drawn_names, ax=ax), (4.8, 4.0), alt, said),
        table,
    ]
