"""Results for people: tables."""

from __future__ import annotations

from upstairs.report.tables import (
    candidate_table,
    column_table,
    plain_table,
    result_tables,
    split_table,
    weight_table,
)

__all__ = ["candidate_table", "column_table", "plain_table", "result_tables", "split_table", "weight_table"]
