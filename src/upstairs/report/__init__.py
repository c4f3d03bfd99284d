"""Results for people: tables and pictures."""

from __future__ import annotations

from upstairs.report.descent_figures import plot_curves, plot_rates, plot_schedule
from upstairs.report.tables import (
    candidate_table,
    column_table,
    plain_table,
    result_tables,
    split_table,
    weight_table,
)

__all__ = [
    "candidate_table",
    "column_table",
    "plain_table",
    "plot_curves",
    "plot_rates",
    "plot_schedule",
    "result_tables",
    "split_table",
    "weight_table",
]
