"""Options that several commands share, and the words that they take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Categorical",
    "Draws",
    "Drop",
    "Group",
    "Jobs",
    "JsonOut",
    "Kind",
    "KindOption",
    "Labels",
    "LabelsOption",
    "MetricName",
    "Queries",
    "RecordFolder",
    "Seed",
    "Source",
    "Target",
    "TaskColumn",
    "TestShare",
    "Ways",
]


class Kind(StrEnum):
    """What a target is."""

    regression = "regression"
    classification = "classification"


class Labels(StrEnum):
    """Whether tasks mean the same by a label."""

    shared = "shared"
    own = "own"


Source = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="CSV, TSV or Parquet file with all tasks; a folder, one file a task; or a store of tasks."
    ),
]
TaskColumn = Annotated[
    str | None, typer.Option("--task", metavar="COL", help="Column that says which task a row belongs to.")
]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="COL", help="Column to predict (several, with commas: a task for each)."),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        metavar="COL",
        help="Column of what tasks belong to (clinic, chain); never split. Folder: ':folder:'.",
    ),
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="What the target is. Found out if not given.")]
LabelsOption = Annotated[
    Labels | None,
    typer.Option(
        "--labels", help="Do all tasks mean the same by a label, or has each its own classes? Shared if not given."
    ),
]
Categorical = Annotated[
    list[str] | None,
    typer.Option(
        "--categorical", metavar="COLS", help="Number columns that are codes, not amounts (commas, or repeat)."
    ),
]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", metavar="COLS", help="Columns to leave out (commas, or repeat).")
]
Seed = Annotated[int, typer.Option("--seed", help="The same number gives the same result.")]
Ways = Annotated[int | None, typer.Option("--ways", min=2, help="Classes a test task, for labels of its own.")]
TestShare = Annotated[
    float, typer.Option("--test", min=0.01, max=0.9, help="Share of tasks (or groups) that are held out.")
]
Draws = Annotated[int, typer.Option("--draws", min=1, help="Draws of support rows a task.")]
Queries = Annotated[str, typer.Option("--queries", metavar="N or all", help="Rows to predict a task, at most.")]
MetricName = Annotated[
    str | None, typer.Option("--metric", help="What is compared. mse, auc or accuracy if not given.")
]
JsonOut = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")]
RecordFolder = Annotated[
    Path | None,
    typer.Option(
        "--record", metavar="FOLDER", help="Keep what is learned and measured; the same command goes on from there."
    ),
]
Jobs = Annotated[int, typer.Option("--n-jobs", help="Processes.")]
