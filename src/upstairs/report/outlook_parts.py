"""What comes next: a bound on the loss of new tasks, and whether more training tasks would help."""

from __future__ import annotations

from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.questions import BOUNDED
from upstairs.evaluate.result import EvaluationResult
from upstairs.report import page as parts
from upstairs.report.curve_figures import plot_task_curve
from upstairs.report.evaluation_words import drawn, rows_said

__all__ = ["forecast_parts", "promise_parts"]


def promise_parts(result: EvaluationResult, learner: str) -> list[parts.Html]:
    """A certificate for measures that lie in a range whatever the data."""
    if result.metric not in BOUNDED:
        return []
    shots = result.shots[len(result.shots) // 2]
    said = result.certificate(learner, shots=shots).in_words().splitlines()
    about = parts.paragraph(f"{learner} with {rows_said(result, shots)}.", said[0])
    return [parts.heading("What can be promised"), about, *map(parts.paragraph, said[1:])]


def forecast_parts(curve: TaskCurve) -> list[parts.Html]:
    """Say whether more tasks would help, with the curve that was measured and how it is carried on."""
    alt = (
        f"{curve.metric} against the number of training {curve.unit}, measured up to {curve.sizes[-1]}, then forecast."
    )
    caption = f"Grey: {len(curve.measured())} random orders of the {curve.unit}; all on the same test tasks."
    picture = drawn(lambda ax: plot_task_curve(curve, ax=ax), (6.4, 4.0), alt, caption)
    return [parts.paragraph(curve.in_words()), picture]
