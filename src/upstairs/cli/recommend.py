"""``upstairs recommend``: settings for one table, from the experience that ships or your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upstairs.cli.options import Categorical, Drop, KindOption, Seed

__all__ = ["recommend"]


def recommend(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, TSV or Parquet file with one data set.")],
    target: Annotated[str, typer.Option("--target", metavar="COL", help="Column that is to be predicted.")],
    estimator: Annotated[
        str, typer.Option("--estimator", metavar="NAME", help="Such as decision-tree, random-forest, ridge.")
    ] = "hist-gradient-boosting",
    prior: Annotated[
        Path | None, typer.Option("--prior", metavar="FOLDER", help="A saved MetaTuner instead of what ships.")
    ] = None,
    kind: KindOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="Compare so many settings by cross-validation.")
    ] = 1,
    guard: Annotated[
        bool, typer.Option("--guard", help="Compare with the estimator's own settings, and use the better.")
    ] = False,
    random_state: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Fit with these settings and put the model there.")
    ] = None,
) -> None:
    """Say which settings suit a table, and fit the model if --out is given.

    \b
    Example:
      upstairs recommend wine.csv --target quality --estimator random-forest --out model/
    """  # noqa: D301
    from upstairs.cli.common import check_out, load_any, say, show, split_names
    from upstairs.learners.registry import save
    from upstairs.learners.shipped import kind_of, shipped_prior
    from upstairs.learners.tuner import MetaTuner
    from upstairs.report import plain_table
    from upstairs.tasks.readers import from_frame, read_table

    if out is not None:
        check_out(out)
    given: Any = kind and kind.value
    table = read_table(source)
    columns = table.schema.names
    task = from_frame(
        table,
        task=None,
        target=target,
        kind=given,
        categorical=split_names(categorical, columns),
        drop=split_names(drop, columns),
    )[0]
    asked = given or kind_of(task.y)
    tuner = _tuner(prior, estimator, asked, MetaTuner, load_any, shipped_prior)
    found = tuner.recommend(task.X, task.y, size=3)
    lines = [
        (_said(entry), "first" if number == 0 else f"then {number + 1}") for number, entry in enumerate(found.order)
    ]
    show(f"{source.name}: {len(task)} rows, {task.X.shape[1]} columns, {asked}")
    show(plain_table(("settings", "try"), lines))
    show(f"Familiarity {found.familiarity:.0f} of 100; most like {', '.join(name for name, _ in found.like[:3])}.")
    if out is None:
        return
    model = tuner.learner(trials=trials, guard=guard, random_state=random_state).fit(task.X, task.y)
    save(model, out)
    if model.guard_reason_:
        show(f"Guard: {model.guard_reason_}.")
    show(f"A {type(model.estimator_).__name__} with {_said(model.settings_)} is in {out}")
    say(f"Next: upstairs predict {out} NEW_ROWS")


def _tuner(prior: Path | None, estimator: str, kind: Any, make: Any, load_any: Any, shipped_prior: Any) -> Any:
    from upstairs.errors import PriorMismatchError

    if prior is None:
        tuner = make(estimator)
        tuner.prior_ = shipped_prior(estimator, kind)
        return tuner
    tuner = load_any(prior, meta=True)
    if not isinstance(tuner, make):
        raise PriorMismatchError(f"'{prior}' holds a {type(tuner).__name__}, but settings come from a MetaTuner.")
    return tuner


def _said(settings: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "the estimator's own settings"
