"""``upstairs predict``: predictions of an adapted model as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["predict"]


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Folder that upstairs adapt wrote (or a prior: predictions before any row)."
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV or Parquet file with the rows to predict.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="CSV file to write. Standard output if not given.")
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval", metavar="SHARE", help="Add an interval that holds this share, such as 0.9 (numbers)."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="COLS", help="Columns of the file to repeat in front.")
    ] = None,
) -> None:
    """Predict rows: a value and its standard deviation, or a label and a probability for each class.

    Rows come in the order of the file. Columns that the model does not know are left out.

    \b
    Example:
      upstairs predict model/ tomorrow.csv --interval 0.9 --out predictions.csv
    """  # noqa: D301
    import csv
    import sys

    from upstairs.cli.common import load_any, read_columns, say, split_names
    from upstairs.learners.meta import MetaLearner
    from upstairs.tasks.readers_common import check_columns, raise_together
    from upstairs.tasks.table import Table

    found = load_any(model)
    if isinstance(found, MetaLearner):
        say(f"'{model}' holds a prior, so these are its predictions for a task of which no row was seen.")
        found = found.adapt_zero()
    features, whole = read_columns(source, found)
    kept = split_names(keep, whole.schema.names)
    raise_together(source.name, check_columns(whole.schema.names, keep=kept))
    header, columns = _predictions(found, Table.from_frame(features), interval)
    front = [whole.column(name).to_pylist() for name in kept]
    lines = zip(*front, *columns, strict=True)
    if out is None:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([*kept, *header])
        writer.writerows(lines)
        return
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*kept, *header])
        writer.writerows(lines)
    say(f"{whole.num_rows} predictions are in {out}")


def _predictions(model: Any, X: Any, interval: float | None) -> tuple[list[str], list[list[Any]]]:
    """Names and cells of the columns that a model says."""
    from upstairs.learners.recommended import Recommended

    if isinstance(model, Recommended) and not hasattr(model, "predict_proba"):
        if interval is not None:
            raise ValueError(
                "--interval needs a model that knows its spread; a recommended estimator predicts values only."
            )
        return ["prediction"], [model.predict(X).tolist()]
    if not hasattr(model, "predict_proba"):
        mean, std = model.predict(X, return_std=True)
        header, columns = ["prediction", "std"], [mean.tolist(), std.tolist()]
        if interval is not None:
            ends = model.predict_interval(X, interval)
            header += [f"low_{100 * interval:g}", f"high_{100 * interval:g}"]
            columns += [ends[:, 0].tolist(), ends[:, 1].tolist()]
        return header, columns
    if interval is not None:
        raise ValueError(
            "--interval is for numbers, but this model predicts labels; their probabilities are there without it."
        )
    probability = model.predict_proba(X)
    labels = model.classes_.tolist()
    chosen = [labels[number] for number in probability.argmax(axis=1).tolist()]
    return ["prediction", *(f"p_{label}" for label in labels)], [chosen, *probability.T.tolist()]
