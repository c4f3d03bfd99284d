"""One self-contained page about an evaluation: whether meta-learning helps, by how much, on which tasks, at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from upstairs.errors import TaskError
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.negative_transfer import NegativeTransfer
from upstairs.evaluate.result import EvaluationResult
from upstairs.evaluate.statistics import paired_bootstrap
from upstairs.report import page as parts
from upstairs.report.calibration_parts import calibration_parts
from upstairs.report.evaluation_figures import differences, plot_shots, shown
from upstairs.report.evaluation_words import digits, drawn, rows_said, signed
from upstairs.report.outlook_parts import forecast_parts, promise_parts
from upstairs.report.rank_figures import plot_ranks
from upstairs.report.task_parts import difference_parts, familiarity_parts, transfer_parts

__all__ = ["evaluation_report", "evaluation_verdict"]

ALONE = ("no-meta", "tuned")
"""Baselines that know nothing but the rows of the task."""


def evaluation_report(
    result: EvaluationResult,
    *,
    title: str,
    familiarity: Mapping[str, float] | None = None,
    transfer: NegativeTransfer | None = None,
    curve: TaskCurve | None = None,
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
    transfer : NegativeTransfer, optional
        As `upstairs.evaluate.EvaluationResult.negative_transfer` gives it.
    curve : TaskCurve, optional
        As `upstairs.evaluate.task_curve` gives it.
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
        found += [parts.heading(rows_said(result, shots)), _table(result, shots)]
    found += _ranks(result)
    if rival is not None:
        found += [parts.heading("Task by task"), *difference_parts(result, learner, rival)]
        if transfer is not None:
            found += [parts.heading("Where the prior hurts"), *transfer_parts(transfer)]
        if familiarity:
            found += [parts.heading("Familiarity"), *familiarity_parts(result, familiarity, learner, rival)]
    if curve is not None:
        found += [parts.heading("Would more tasks help?"), *forecast_parts(curve)]
    calibration = calibration_parts(result)
    found += [parts.heading("Calibration"), *calibration] if calibration else []
    found += promise_parts(result, learner)
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
        f"{words[outcome]}: with {rows_said(result, shots)} the {metric.name} of {learner} is {digits(table[learner].mean)}, that of the "
        f"best learner that knows the task alone ({alone.learner}) {digits(alone.mean)}."
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
        f"{rows_said(result, shots)}: {words[outcome]} the best baseline, {reference.learner} ({digits(row.mean)} against "
        f"{digits(reference.mean)}; difference {signed(row.difference)}, 95 % interval {signed(row.difference_low)} to "
        f"{signed(row.difference_high)}; better on {row.wins} of {row.tasks} tasks, worse on {row.losses})."
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


def _curves(result: EvaluationResult, learner: str) -> list[parts.Html]:
    names = shown(result, result.metric)
    alt = f"{result.metric} against the number of support rows, for {', '.join(names)}."
    caption = "Mean over test tasks, with its 95 % interval; support and query rows are the same for every learner."
    return [drawn(lambda ax: plot_shots(result, ax=ax), (6.4, 4.0), alt, caption)]


def _table(result: EvaluationResult, shots: int) -> parts.Html:
    rows = result.table(shots)
    reference = next((row.learner for row in rows if row.reference), "")
    headers = ["learner", result.metric, "95 % interval", f"less {reference}", "95 % interval", "p (Holm)"]
    headers.append("won-tied-lost")
    body = []
    for row in rows:
        name = row.learner + (" (best baseline)" if row.reference and row.baseline else "")
        gap = "" if math.isnan(row.difference) else signed(row.difference)
        span = "" if math.isnan(row.difference) else f"{signed(row.difference_low)} to {signed(row.difference_high)}"
        wins = f"{row.wins}-{row.ties}-{row.losses}" if row.wins + row.ties + row.losses else ""
        p = "" if math.isnan(row.p) else "< .001" if row.p < 0.001 else f"{row.p:.3f}"
        body.append([name, digits(row.mean), f"{digits(row.low)} to {digits(row.high)}", gap, span, p, wins])
    metric = METRICS[result.metric]
    caption = f"{metric.name}, {metric.meaning} ({metric.said}); {rows[0].tasks} test tasks." if rows else ""
    return parts.table(headers, body, numbers=range(1, 7), texts=[0], caption=caption)


def _ranks(result: EvaluationResult) -> list[parts.Html]:
    """Mean ranks of the learners on the picture of curves, where there are tasks enough to rank them on."""
    shots = result.shots[len(result.shots) // 2]
    here = {row.learner for row in result.table(shots)}
    names = [name for name in shown(result, result.metric) if name in here]
    if len(names) < 3:
        return []
    try:
        ranks = result.ranks(shots, learners=names)
    except TaskError:
        return []
    title = f"Which learners can be told apart, with {rows_said(result, shots)}"
    picture = drawn(lambda ax: plot_ranks(ranks, ax=ax), (6.4, 2.4), str(ranks), "Mean rank over the test tasks.")
    return [parts.heading(title), picture]


def _cost(result: EvaluationResult) -> parts.Html:
    table = {row.learner: row for row in result.table(result.shots[-1])}
    rows = []
    for name in result.learners:
        if name in table:
            learned, adapted = result.megabytes.get(name, (math.nan, math.nan))
            seconds = f"{table[name].meta_seconds:.2f}" if table[name].meta_seconds else ""
            memory = ["" if math.isnan(value) else f"{value:.0f}" for value in (learned, adapted)]
            rows.append([name, seconds, memory[0], f"{table[name].milliseconds:.2f}", memory[1]])
    caption = (
        f"Learning from the training tasks, once, and adapting to {rows_said(result, result.shots[-1])} of a new task, each time. Memory "
        "is what the process took at most beyond what it held (adapting: to up to 256 tasks at once)."
    )
    headers = ("learner", "learn, s", "MB", "adapt, ms", "MB")
    return parts.table(headers, rows, numbers=range(1, 5), caption=caption)
