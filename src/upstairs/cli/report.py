"""``upstairs report``: does meta-learning help on my tasks? One page, in words first."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from upstairs.cli.options import (
    Categorical,
    Draws,
    Drop,
    Group,
    Jobs,
    JsonOut,
    KindOption,
    LabelsOption,
    MetricName,
    Queries,
    Seed,
    Source,
    Target,
    TaskColumn,
    TestShare,
    Ways,
)

__all__ = ["report"]


class Family(StrEnum):
    """Families of learners that a report may be about."""

    neural_network = "neural-network"
    svm = "svm"
    tree = "tree"


def report(
    source: Source,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes, such as report.html.")],
    task: TaskColumn = None,
    target: Target = None,
    group: Group = None,
    kind: KindOption = None,
    labels: LabelsOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    learner: Annotated[
        list[Family] | None,
        typer.Option("--learner", help="Family of learners; repeat it for several. neural-network if not given."),
    ] = None,
    shots: Annotated[
        str, typer.Option("--shots", metavar="N,N", help="Support rows (a class, for own labels).")
    ] = "1,5,20",
    ways: Ways = None,
    test: TestShare = 0.25,
    draws: Draws = 3,
    queries: Queries = "all",
    metric: MetricName = None,
    json_out: JsonOut = None,
    n_jobs: Jobs = 1,
    seed: Seed = 0,
) -> None:
    """Hold tasks out, learn a prior from the others, measure it beside honest baselines, and tell it on one HTML page.

    \b
    Example:
      upstairs report sales.csv --task shop --target revenue --out report.html
    """  # noqa: D301
    import json
    import time

    from upstairs.cli.common import read_tasks, say, show, split_names, whole_numbers, working
    from upstairs.cli.evaluate import compared
    from upstairs.report.evaluation_page import evaluation_report, evaluation_verdict
    from upstairs.report.page import write_page
    from upstairs.report.prior_contents import prior_parts

    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out '{out}' must be a file in a folder that there is, such as report.html.")
    numbers = whole_numbers(shots, "--shots")
    most = None if queries == "all" else whole_numbers(queries, "--queries")[0]
    tasks = read_tasks(
        source, task=task, target=target, group=group, kind=kind, labels=labels, categorical=categorical, drop=drop
    )
    known, _, held_out = tasks.split(valid=0.0, test=test, random_state=seed)
    columns = known[0].columns
    codes = tuple(split_names(categorical, columns if isinstance(columns, tuple) else ()))
    families = list(dict.fromkeys(learner or [Family.neural_network]))
    metas, seconds = {}, {}
    for family in families:
        say(f"Learning a prior: {family.value}, {len(known)} tasks.")
        begun = time.perf_counter()
        metas[family.value] = _made(family, codes, seed).meta_fit(known)
        seconds[family.value] = time.perf_counter() - begun
    protocol: dict[str, Any] = {
        "shots": numbers, "ways": ways, "queries": most, "draws": draws, "metric": metric, "n_jobs": n_jobs,
        "baselines": "auto", "order": None,
    }  # fmt: skip
    with working(f"Measuring on {len(held_out)} tasks") as progress:
        result = compared(metas, held_out, known, seed, protocol, seconds, progress)
    first = metas[families[0].value]
    text = evaluation_report(
        result,
        title=f"Does meta-learning help on {source.name}?",
        familiarity=_familiarity(first, held_out),
        prior=prior_parts(first),
        about=[
            ("tasks", f"{len(known)} to learn from, {len(held_out)} held out"),
            ("rows", f"{int(tasks.rows.sum()):,}"),
            ("target", target or ""),
            ("kind", tasks.kind + (f", {tasks.labels} labels" if tasks.labels else "")),
            ("seed", seed),
            *([("group", group)] if group else []),
        ],
        reproduce=_command(source, locals()),
        made=_made_by(),
    )
    write_page(out, text)
    if json_out is not None:
        json_out.write_text(
            json.dumps({"random_states": [seed], **result.to_dict()}, allow_nan=False), encoding="utf-8"
        )
        say(f"Everything is in {json_out}")
    show(*evaluation_verdict(result))
    say(f"The page is {out} ({out.stat().st_size / 1024:.0f} KiB).")


def _made(family: Family, categorical: tuple[str, ...], seed: int) -> Any:
    """An unfitted meta-learner."""
    if family is Family.svm:
        from upstairs.learners.svm import MetaSVM

        return MetaSVM(categorical=categorical, random_state=seed)
    if family is Family.tree:
        from upstairs.learners.tree import MetaDecisionTree

        return MetaDecisionTree(categorical=categorical, random_state=seed)
    from upstairs.learners.neural_network import MetaNeuralNetwork

    return MetaNeuralNetwork(categorical=categorical, random_state=seed)


def _familiarity(meta: Any, tasks: Any) -> dict[str, float]:
    """How familiar all rows of each test task look to the prior; nothing where the prior cannot say."""
    import warnings

    from upstairs.errors import FamiliarityWarning, UpstairsError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FamiliarityWarning)
        try:
            models = meta.adapt_many(tasks)
        except UpstairsError:
            return {}
    pairs = zip(tasks, models, strict=True)
    return {task.name: model.familiarity_ for task, model in pairs if model.familiarity_ is not None}


def _command(source: Path, given: dict[str, Any]) -> str:
    """The call that gives the same page."""
    import shlex

    words = ["upstairs", "report", str(source)]
    names = ("task", "target", "group", "kind", "labels", "shots", "ways", "test", "draws", "queries", "metric", "seed")
    for name in names:
        value = given[name]
        if value is not None:
            words += [f"--{name}", str(getattr(value, "value", value))]
    for name in ("categorical", "drop"):
        for value in given[name] or ():
            words += [f"--{name}", value]
    for family in given["families"]:
        words += ["--learner", family.value]
    return shlex.join([*words, "--out", str(given["out"])])


def _made_by() -> str:
    import datetime
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("upstairs")
    except PackageNotFoundError:
        number = "(not installed)"
    return f"upstairs {number}, {datetime.date.today().isoformat()}"
