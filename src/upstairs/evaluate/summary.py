"""Comparisons of learners at one number of shots, as rows and as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from upstairs.evaluate.metrics import METRICS

__all__ = ["Ratio", "Row", "Summary"]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One learner at one number of shots.

    ``mean``, ``low`` and ``high``: mean over tasks and its 95 % interval. ``difference`` and its ends: this learner
    minus the reference (the best baseline, or without baselines the best learner) on the same tasks, 95 % bootstrap
    interval over tasks or groups. ``p``: Wilcoxon signed rank, Holm's correction over the learners that are no
    baseline. Wins, ties and losses are tasks. ``meta_seconds`` and ``milliseconds`` (an adaptation) are cost.
    """

    shots: int
    learner: str
    baseline: bool
    reference: bool
    tasks: int
    mean: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    p: float
    wins: int
    ties: int
    losses: int
    meta_seconds: float
    milliseconds: float


@final
@dataclass(frozen=True, slots=True)
class Ratio:
    """Mean of a learner divided by that of another on the same tasks, with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """Rows of all numbers of shots for one metric; ``str`` gives an aligned table."""

    metric: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return _text(self)


def _text(summary: Summary) -> str:
    metric = METRICS[summary.metric]
    lines = [f"{summary.metric} ({metric.said}): {metric.meaning}"]
    titles = (
        "learner",
        summary.metric,
        "95 % interval",
        "difference",
        "95 % interval",
        "p",
        "won-tied-lost",
        "learning s",
        "adapt ms",
    )
    body: list[tuple[str, ...]] = []
    marks: list[str | None] = []
    shots = None
    for row in summary.rows:
        if row.shots != shots:
            shots = row.shots
            against = next((r.learner for r in summary.rows if r.shots == shots and r.reference), "")
            marks.append(
                f"{shots} {'shot' if shots == 1 else 'shots'}, {row.tasks} tasks; differences from {against!r}"
            )
            body.append(())
        marks.append(None)
        record = "" if row.reference or not isinstance(metric.goal, str) else f"{row.wins}-{row.ties}-{row.losses}"
        body.append(
            (
                row.learner + ("" if row.baseline else " *"),
                f"{row.mean:.4f}",
                _between(row.low, row.high),
                _number(row.difference, "+.4f"),
                _between(row.difference_low, row.difference_high),
                _number(row.p, ".2g"),
                record,
                f"{row.meta_seconds:.2f}",
                f"{row.milliseconds:.2f}",
            )
        )
    widths = [max(len(line[n]) for line in [titles, *[entry for entry in body if entry]]) for n in range(len(titles))]

    def aligned(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    lines += ["", aligned(titles)]
    for mark, cells in zip(marks, body, strict=True):
        lines.append(f"-- {mark}" if mark is not None else aligned(cells))
    lines += [
        "",
        "* learner under test; the others are baselines. p: Wilcoxon signed rank over tasks, Holm's correction.",
    ]
    return "\n".join([*lines, *(f"note: {note}" for note in summary.notes)])


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{low:.4f} to {high:.4f}"
