"""Results for people: tables, pictures and pages."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from upstairs.report.descent_figures import plot_curves, plot_rates, plot_schedule
from upstairs.report.tables import (
    candidate_table,
    column_table,
    plain_table,
    result_tables,
    split_table,
    weight_table,
)

if TYPE_CHECKING:
    from upstairs.report.curve_figures import plot_task_curve
    from upstairs.report.evaluation_figures import plot_differences, plot_familiarity, plot_reliability, plot_shots
    from upstairs.report.evaluation_page import evaluation_report
    from upstairs.report.rank_figures import plot_ranks
    from upstairs.report.stream_figures import plot_stream, plot_worlds, stream_figure
    from upstairs.report.stream_page import stream_report

__all__ = [
    "candidate_table",
    "column_table",
    "evaluation_report",
    "plain_table",
    "plot_curves",
    "plot_differences",
    "plot_familiarity",
    "plot_ranks",
    "plot_rates",
    "plot_reliability",
    "plot_schedule",
    "plot_shots",
    "plot_stream",
    "plot_task_curve",
    "plot_worlds",
    "result_tables",
    "split_table",
    "stream_figure",
    "stream_report",
    "weight_table",
]

_LATER = {
    "evaluation_report": "upstairs.report.evaluation_page",
    "plot_differences": "upstairs.report.evaluation_figures",
    "plot_familiarity": "upstairs.report.evaluation_figures",
    "plot_ranks": "upstairs.report.rank_figures",
    "plot_reliability": "upstairs.report.evaluation_figures",
    "plot_shots": "upstairs.report.evaluation_figures",
    "plot_task_curve": "upstairs.report.curve_figures",
    "plot_stream": "upstairs.report.stream_figures",
    "plot_worlds": "upstairs.report.stream_figures",
    "stream_figure": "upstairs.report.stream_figures",
    "stream_report": "upstairs.report.stream_page",
}
"""What is loaded when first used: a terminal table needs no learner."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'upstairs.report' has no attribute {name!r}")
