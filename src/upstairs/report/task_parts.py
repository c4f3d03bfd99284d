"""Task by task: how far a learner and its rival lie apart, where the prior hurt and why, and how familiar the tasks look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.negative_transfer import NegativeTransfer
from upstairs.evaluate.result import EvaluationResult
from upstairs.report import page as parts
from upstairs.report.evaluation_figures import differences, plot_differences, plot_familiarity
from upstairs.report.evaluation_words import drawn, rows_said, signed

__all__ = ["difference_parts", "familiarity_parts", "transfer_parts"]

UNFAMILIAR = 2.5
"""Percentile below which a task counts as unfamiliar."""


def difference_parts(result: EvaluationResult, learner: str, rival: tuple[int, str]) -> list[parts.Html]:
    """Draw the difference on every task, and name those where the learner lost most."""
    shots, other = rival
    names, gaps = differences(result, learner, other, shots, result.metric)
    sign = 1.0 if METRICS[result.metric].goal == "lower" else -1.0
    order = np.argsort(-sign * gaps, kind="stable")
    worst = [[names[n], signed(float(gaps[n]))] for n in order[:5].tolist() if sign * gaps[n] > 0]
    hurt = int((sign * gaps > 0).sum())
    alt = f"Difference of {result.metric} between {learner} and {other} on {len(gaps)} tasks, sorted; it is worse on {hurt}."
    caption = f"With {rows_said(result, shots)}: {learner} less {other}, one mark a task."
    picture = drawn(lambda ax: plot_differences(result, learner, other, shots, ax=ax), (6.4, 3.2), alt, caption)
    if not worst:
        return [picture, parts.paragraph(f"{learner} is worse on no task.")]
    lost = parts.table(
        ("task", f"{result.metric} less {other}"), worst, numbers=[1], caption="Where the prior hurt most"
    )
    return [picture, lost]


def familiarity_parts(
    result: EvaluationResult, familiarity: Mapping[str, float], learner: str, rival: tuple[int, str]
) -> list[parts.Html]:
    """Say how many test tasks look unfamiliar, and draw the difference against familiarity."""
    shots, other = rival
    values = np.array(list(familiarity.values()), dtype=float)
    strange = int((values < UNFAMILIAR).sum())
    said = parts.paragraph(
        f"Half of the {len(values)} test tasks lie above percentile {np.median(values):.0f} of the tasks that the prior knows;",
        f"{strange} look unfamiliar (below {UNFAMILIAR:g}; {UNFAMILIAR / 100 * len(values):.1f} would by chance).",
    )
    alt = f"Difference of {result.metric} on each test task against its familiarity."
    caption = "Left: tasks unlike those that the prior was learned on; grey: unfamiliar."
    picture = drawn(
        lambda ax: plot_familiarity(result, familiarity, learner, other, shots, ax=ax), (6.4, 3.2), alt, caption
    )
    return [said, picture]


def transfer_parts(found: NegativeTransfer) -> list[parts.Html]:
    """Say on which tasks the prior hurt, what they have in common, and what guard would have done."""
    sentences = found.in_words()
    said = [sentence for sentence in sentences if not sentence.startswith("- ")]
    if not found.groups:
        return [parts.paragraph(sentence) for sentence in said]
    rows = [
        [" and ".join(group.conditions), f"{group.hurt} of {group.tasks}", signed(group.mean)] for group in found.groups
    ]
    table = parts.table(
        ("tasks with", "hurt on", "added to the loss"),
        rows,
        numbers=[1, 2],
        texts=[0],
        caption=f"A small tree on descriptions of the tasks; {found.metric} with shots={found.shots}; below zero: saved.",
    )
    return [*map(parts.paragraph, said[:2]), table, *map(parts.paragraph, said[2:])]
