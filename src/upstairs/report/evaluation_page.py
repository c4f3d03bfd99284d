"""One self-contained page about an evaluation: whether meta-learning helps, by how much, on which tasks, at what cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from upstairs.errors import MissingExtraError, TaskError
from upstairs.evaluate.metrics import COVERAGE, METRICS
from upstairs.evaluate.questions import BOUNDED
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.statistics import paired_bootstrap
from upstairs.report import page as parts
from upstairs.report.descent_figures import blank_figure
from upstairs.report.evaluation_figures import differences, plot_differences, plot_familiarity, plot_shots, shown

__all__ = ["evaluation_report", "evaluation_verdict"]

ALONE = ("no-meta", "tuned")
"""Baselines that know nothing but the rows of the task."""
UNFAMILIAR = 2.5
"""Percentile below which a task counts as unfamiliar."""


def evaluation_report(
    result: EvaluationResult,
    *,
    title: str,
    familiarity: Mapping[str, float] | None = None,
    prior: Sequence[parts.Html] = (),
    about: Sequence[tuple[str, Any]] = (),
    reproduce: str = "",
    remarks: Sequence[str] = (),
    made: str = "",
) -> str:
    """Tell in words, pictures and tables what an evaluation found, as one HTML file.

    Parameters
    ----------
    result : EvaluationResult
        With one learner at least that is no baseline; the page is about the first.
    title : str
    familiarity : mapping of task to float, optional
        How familiar each test task looks to the prior: its percentile among tasks that the prior knows.
    prior : sequence of Html
        What the prior contains, in parts of `upstairs.report.page`.
    about : sequence of (name, value)
        Further facts: where the tasks come from, settings.
    reproduce : str
        Commands that give the same page.
    remarks : sequence of str
        What the reader should know besides.
    made : str
        At the end of the page.

    Returns
    -------
    str
        `upstairs.report.page.write_page` writes it.

    Raises
    ------
    TaskError
        If every learner is a baseline.
    """
    learner, rival = _main(result), _rival(result)
    first, *more = evaluation_verdict(result)
    found: list[parts.Html] = [parts.lead(first), *map(parts.paragraph, more)]
    found += [parts.note(remark) for remark in remarks]
    found += _curves(result, learner)
    for shots in result.shots:
        found += [parts.heading(_rows(result, shots)), _table(result, shots)]
    if rival is not None:
        found += [parts.heading("Task by task"), *_tasks(result, learner, rival)]
        if familiarity:
            found += [parts.heading("Familiarity"), *_familiarity(result, familiarity, learner, rival)]
    if "coverage" in result.metrics:
        found += [parts.heading("Calibration"), *_calibration(result)]
    found += _promise(result, learner)
    if prior:
        found += [parts.heading("What the prior knows"), *prior]
    found += [parts.heading("Cost"), _cost(result)]
    found += [parts.heading("Settings"), parts.facts([*about, ("episodes", result.episodes_hash[:12])])]
    notes = [*result.notes, *dict.fromkeys(str(entry) for entry in result.left_out)]
    found += [parts.note(note) for note in notes]
    if reproduce:
        found += [parts.heading("How to get the same"), parts.code(reproduce)]
    return parts.page(title, found, made=made)


def evaluation_verdict(result: EvaluationResult) -> list[str]:
    """Say in sentences whether the first learner helps, the most important first.

    First against the best learner that knows a task alone, with the middle number of rows; then for each number of rows against
    the best baseline of all, those that learn from the other tasks among them.
    """
    learner, metric = _main(result), METRICS[result.metric]
    said = [sentence for shots in result.shots for sentence in _beside(result, learner, shots)]
    shots = result.shots[len(result.shots) // 2]
    table = {row.learner: row for row in result.table(shots)}
    alone = min((table[n] for n in ALONE if n in table), key=lambda row: metric.loss(row.mean), default=None)
    if alone is None or learner not in table:
        return said or [f"{learner}: nothing was measured that it could be compared with."]
    gap = _paired(result, learner, alone.learner, shots)
    outcome = _outcome(*gap, metric.goal)
    words = {
        "better": "Learning from the other tasks helps here",
        "worse": "Learning from the other tasks does not help here",
        "equal": "Whether learning from the other tasks helps cannot be told here",
    }
    first = (
        f"{words[outcome]}: with {_rows(result, shots)} the {metric.name} of {learner} is {_digits(table[learner].mean)}, that of the best "
        f"learner that knows the task alone ({alone.learner}) {_digits(alone.mean)}."
    )
    return [first, *said]


def _beside(result: EvaluationResult, learner: str, shots: int) -> list[str]:
    """One sentence that compares a learner with the best baseline of all."""
    table = {row.learner: row for row in result.table(shots)}
    reference = next((row for row in table.values() if row.reference and row.baseline), None)
    if learner not in table or reference is None:
        return []
    row = table[learner]
    words = {"better": "better than", "worse": "worse than", "equal": "not to be told from"}
    outcome = _outcome(row.difference, row.difference_low, row.difference_high, METRICS[result.metric].goal)
    return [
        f"{_rows(result, shots)}: {words[outcome]} the best baseline, {reference.learner} ({_digits(row.mean)} against "
        f"{_digits(reference.mean)}; difference {_signed(row.difference)}, 95 % interval {_signed(row.difference_low)} to "
        f"{_signed(row.difference_high)}; better on {row.wins} of {row.tasks} tasks, worse on {row.losses})."
    ]


def _paired(result: EvaluationResult, learner: str, other: str, shots: int) -> tuple[float, float, float]:
    """Mean difference of two learners over tasks, and its 95 % bootstrap interval."""
    names, groups, _ = result.by_task(shots)
    tasks, gaps = differences(result, learner, other, shots, result.metric)
    owner = dict(zip(names, groups, strict=True))
    ends = paired_bootstrap(gaps[:, None], [owner[task] for task in tasks])[0]
    return float(gaps.mean()), float(ends[0]), float(ends[1])


def _outcome(difference: float, low: float, high: float, goal: str | float) -> str:
    """What the interval of a paired difference says."""
    if math.isnan(low) or low <= 0.0 <= high:
        return "equal"
    return "better" if (difference < 0) == (goal == "lower") else "worse"


def _main(result: EvaluationResult) -> str:
    own = [name for name in result.learners if name not in result.baselines]
    if not own:
        raise TaskError("Every learner of this result is a baseline; evaluate one of your own beside them.")
    return own[0]


def _rival(result: EvaluationResult) -> tuple[int, str] | None:
    """The number of shots in the middle, and the best baseline there."""
    shots = result.shots[len(result.shots) // 2]
    return next(((shots, row.learner) for row in result.table(shots) if row.reference and row.baseline), None)


def _rows(result: EvaluationResult, shots: int) -> str:
    return f"{shots} row{'' if shots == 1 else 's'}{' a class' if result.labels == 'own' else ''}"


def _drawn(draw: Callable[[Any], Any], size: tuple[float, float], alt: str, caption: str) -> parts.Html:
    """A picture, or a note why there is none."""
    try:
        figure = blank_figure(size)
    except MissingExtraError as error:
        return parts.note(f"There is no picture: {error}")
    draw(figure.subplots())
    return parts.figure(figure, alt, caption)


def _curves(result: EvaluationResult, learner: str) -> list[parts.Html]:
    names = shown(result, result.metric)
    alt = f"{result.metric} against the number of support rows, for {', '.join(names)}."
    caption = "Mean over test tasks, with its 95 % interval; support and query rows are the same for every learner."
    return [_drawn(lambda ax: plot_shots(result, ax=ax), (6.4, 4.0), alt, caption)]


def _table(result: EvaluationResult, shots: int) -> parts.Html:
    rows = result.table(shots)
    reference = next((row.learner for row in rows if row.reference), "")
    headers = ["learner", result.metric, "95 % interval", f"less {reference}", "95 % interval", "p (Holm)"]
    headers += ["won-tied-lost", "ms a task"]
    body = []
    for row in rows:
        name = row.learner + (" (best baseline)" if row.reference and row.baseline else "")
        gap = "" if math.isnan(row.difference) else _signed(row.difference)
        span = "" if math.isnan(row.difference) else f"{_signed(row.difference_low)} to {_signed(row.difference_high)}"
        wins = f"{row.wins}-{row.ties}-{row.losses}" if row.wins + row.ties + row.losses else ""
        p = "" if math.isnan(row.p) else "< .001" if row.p < 0.001 else f"{row.p:.3f}"
        cells = [name, _digits(row.mean), f"{_digits(row.low)} to {_digits(row.high)}", gap, span, p, wins]
        body.append([*cells, f"{row.milliseconds:.2f}"])
    metric = METRICS[result.metric]
    caption = f"{metric.name}, {metric.meaning} ({metric.said}); {rows[0].tasks} test tasks." if rows else ""
    return parts.table(headers, body, numbers=range(1, 8), caption=caption)


def _tasks(result: EvaluationResult, learner: str, rival: tuple[int, str]) -> list[parts.Html]:
    shots, other = rival
    names, gaps = differences(result, learner, other, shots, result.metric)
    sign = 1.0 if METRICS[result.metric].goal == "lower" else -1.0
    order = np.argsort(-sign * gaps, kind="stable")
    worst = [[names[n], _signed(float(gaps[n]))] for n in order[:5].tolist() if sign * gaps[n] > 0]
    hurt = int((sign * gaps > 0).sum())
    alt = f"Difference of {result.metric} between {learner} and {other} on {len(gaps)} tasks, sorted; it is worse on {hurt}."
    caption = f"With {_rows(result, shots)}: {learner} less {other}, one mark a task."
    drawn = _drawn(lambda ax: plot_differences(result, learner, other, shots, ax=ax), (6.4, 3.2), alt, caption)
    if not worst:
        return [drawn, parts.paragraph(f"{learner} is worse on no task.")]
    lost = parts.table(
        ("task", f"{result.metric} less {other}"), worst, numbers=[1], caption="Where the prior hurt most"
    )
    return [drawn, lost]


def _familiarity(
    result: EvaluationResult, familiarity: Mapping[str, float], learner: str, rival: tuple[int, str]
) -> list[parts.Html]:
    shots, other = rival
    values = np.array(list(familiarity.values()), dtype=float)
    strange = int((values < UNFAMILIAR).sum())
    said = parts.paragraph(
        f"Half of the {len(values)} test tasks lie above percentile {np.median(values):.0f} of the tasks that the prior knows;",
        f"{strange} look unfamiliar (below {UNFAMILIAR:g}; {UNFAMILIAR / 100 * len(values):.1f} would by chance).",
    )
    alt = f"Difference of {result.metric} on each test task against its familiarity."
    caption = "Left: tasks unlike those that the prior was learned on; grey: unfamiliar."
    drawn = _drawn(
        lambda ax: plot_familiarity(result, familiarity, learner, other, shots, ax=ax), (6.4, 3.2), alt, caption
    )
    return [said, drawn]


def _calibration(result: EvaluationResult) -> list[parts.Html]:
    tables = {shots: {row.learner: row for row in result.table(shots, "coverage")} for shots in result.shots}
    names = [name for name in result.learners if any(name in table for table in tables.values())]
    rows = [
        [name, *(f"{100 * tables[s][name].mean:.1f} %" if name in tables[s] else "" for s in result.shots)]
        for name in names
    ]
    headers = ("learner", *(_rows(result, shots) for shots in result.shots))
    caption = f"Targets inside the {100 * COVERAGE:.0f} % prediction interval: {100 * COVERAGE:.0f} % is right."
    return [parts.table(headers, rows, numbers=range(1, len(headers)), caption=caption)]


def _promise(result: EvaluationResult, learner: str) -> list[parts.Html]:
    """A certificate for measures that lie in a range whatever the data."""
    if result.metric not in BOUNDED:
        return []
    shots = result.shots[len(result.shots) // 2]
    said = result.certificate(learner, shots=shots).in_words().splitlines()
    about = parts.paragraph(f"{learner} with {_rows(result, shots)}.", said[0])
    return [parts.heading("What can be promised"), about, *map(parts.paragraph, said[1:])]


def _cost(result: EvaluationResult) -> parts.Html:
    table = {row.learner: row for row in result.table(result.shots[-1])}
    rows = [
        [name, f"{table[name].meta_seconds:.2f}" if table[name].meta_seconds else "", f"{table[name].milliseconds:.2f}"]
        for name in result.learners
        if name in table
    ]
    caption = f"Learning from the training tasks, and adapting to {_rows(result, result.shots[-1])} of a new task."
    return parts.table(("learner", "seconds, once", "milliseconds, each task"), rows, numbers=[1, 2], caption=caption)


def _digits(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) >= 0.1 else f"{value:+.4f}"
