"""``upstairs adapt``: learn one new task from a prior and a few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["adapt"]


def adapt(
    prior: Annotated[Path, typer.Argument(metavar="PRIOR", help="Folder that upstairs fit wrote.")],
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, TSV or Parquet file with the few rows of the new task.")
    ],
    target: Annotated[str, typer.Option("--target", metavar="COL", help="Column that is to be predicted later.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the adapted model goes.")],
    task: Annotated[
        str | None, typer.Option("--task", metavar="COL", help="Column that names the task, if the file has several.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="VALUE", help="The task to take, a value of the --task column.")
    ] = None,
    guard: Annotated[
        bool, typer.Option("--guard", help="Go without the prior if the rows clearly speak against it.")
    ] = False,
) -> None:
    """Adapt a prior to one new task with a few rows, and save the model.

    \b
    Example:
      upstairs adapt prior/ new_shop.csv --target revenue --out model/
    """  # noqa: D301
    import warnings

    from upstairs.cli.common import check_out, load_any, read_columns, say, show
    from upstairs.errors import FamiliarityWarning
    from upstairs.learners.registry import save

    check_out(out)
    meta = load_any(prior, meta=True)
    named = [task] if task is not None else []
    features, whole = read_columns(source, meta, beside=[target, *named], text=named)
    rows = _rows_of(whole, source, task, only)
    if rows is not None:
        features, whole = features.take(rows), whole.take(rows)
    support = _support(features, whole, target, meta.prior_.settings)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always", FamiliarityWarning)
        model = meta.learner(**({"guard": True} if guard else {})).fit(support.X, support.y)
    save(model, out)
    show(f"Adapted to {len(support)} rows" + (f" of {only}" if only is not None else "") + ".")
    if model.familiarity_ is not None:
        show(
            f"Familiarity {model.familiarity_:.0f} of 100 (share of known tasks of this size that fit the prior worse)."
        )
    if model.guard_reason_:
        show(f"Guard: {model.guard_reason_}.")
    for warning in noted:
        say(f"upstairs: note: {warning.message}")
    show(f"The model is in {out}")
    say(f"Next: upstairs predict {out} NEW_ROWS")


def _rows_of(whole: Any, source: Path, task: str | None, only: str | None) -> list[int] | None:
    """Row numbers of the one task that is meant; None: all rows."""
    from upstairs.errors import TaskError
    from upstairs.tasks.readers_common import listed, name_values, open_frame

    if task is None:
        if only is not None:
            raise TaskError(f"--only {only} needs --task: name the column in which {only!r} stands.")
        return None
    names = name_values(open_frame(whole)[task])
    there = list(dict.fromkeys(repr(name) for name in names if name is not None))
    if only is None:
        if len(there) > 1:
            raise TaskError(
                f"{source.name} holds {len(there)} tasks in {task!r}: {listed(there, 8)}; choose one with --only."
            )
        return None
    rows = [number for number, name in enumerate(names) if name == only]
    if not rows:
        raise TaskError(f"{source.name} has no row of task {only!r} in {task!r}; the tasks are {listed(there, 8)}.")
    return rows


def _support(features: Any, whole: Any, target: str, settings: Any) -> Any:
    """Check the rows in the same way as training tasks."""
    from upstairs.tasks.readers import from_frame

    chosen = features.append_column(target, whole.column(target))
    return from_frame(chosen, task=None, target=target, kind=settings["kind"], labels=settings["labels"])[0]
