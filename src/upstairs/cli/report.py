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
    RecordFolder,
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
    forecast: Annotated[
        bool | None,
        typer.Option(
            "--forecast/--no-forecast",
            help="Learn from fewer tasks, too, and say whether more would help. If not given: where that takes a minute at most.",
        ),
    ] = None,
    json_out: JsonOut = None,
    record: RecordFolder = None,
    n_jobs: Jobs = 1,
    seed: Seed = 0,
) -> None:
    """Hold tasks out, learn a prior from the others, measure it beside honest baselines, and tell it on one HTML page.

    \b
    Example:
      upstairs report sales.csv --task shop --target revenue --out report.html
    """  # noqa: D301
    from upstairs.cli.common import read_tasks, say, show, split_names, whole_numbers, working
    from upstairs.cli.evaluate import compared, guarded_name, learned
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
    metas, costs = {}, {}
    for family in families:
        name = family.value
        say(f"Learning a prior: {name}, {len(known)} tasks.")
        metas[name], *cost = learned(_made(family, codes, seed), known, record and record / name)
        costs[name] = (cost[0], cost[1])
    protocol: dict[str, Any] = {
        "shots": numbers, "ways": ways, "queries": most, "draws": draws, "metric": metric, "n_jobs": n_jobs,
        "baselines": "auto", "order": None, "record": record and record / "measured",
    }  # fmt: skip
    with working(f"Measuring on {len(held_out)} tasks") as progress:
        result = compared(metas, held_out, known, seed, protocol, costs, progress)
    main = families[0].value
    first = metas[main]
    familiarity = _familiarity(first, held_out)
    curve, remarks = _curve(_made(families[0], codes, seed), known, held_out, costs[main][0], forecast, protocol, seed)
    text = evaluation_report(
        result,
        title=f"Does meta-learning help on {source.name}?",
        familiarity=familiarity,
        transfer=_transfer(result, main, held_out, familiarity, guarded_name(main)),
        curve=curve,
        remarks=remarks,
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
        result.save(json_out)
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


MOST_SECONDS = 60.0
"""A forecast that takes longer has to be asked for."""
SHARE = 0.6
"""What a fit on part of the tasks takes, of one on all, on average."""


def _curve(
    meta: Any, known: Any, held_out: Any, seconds: float, wanted: bool | None, protocol: dict[str, Any], seed: int
) -> tuple[Any, list[str]]:
    """The error over the number of training tasks, or a remark why it was not measured."""
    from upstairs.cli.common import working
    from upstairs.errors import TaskError
    from upstairs.evaluate.curves import task_curve

    if wanted is False:
        return None, []
    orders, remarks = 5 if wanted else 3, []
    takes = (5 * orders + 1) * SHARE * seconds
    if wanted is None and takes > MOST_SECONDS:
        if getattr(meta, "net", None) != "auto":
            return None, [
                f"Whether more tasks would help was not measured, as it takes {_minutes(takes)}: add --forecast."
            ]
        meta = meta.set_params(net=None, prior_mean="linear")
        remarks = [
            "Whether more tasks would help was measured with a plain linear prior; with all that was tried here it "
            f"takes {_minutes(takes)}: add --forecast."
        ]
    shots = protocol["shots"][len(protocol["shots"]) // 2]
    settings = {name: protocol[name] for name in ("ways", "queries", "draws", "metric", "n_jobs")}
    try:
        with working("Learning from fewer tasks") as progress:
            curve = task_curve(
                meta, known, held_out, orders=orders, shots=shots, random_state=seed, progress=progress, **settings
            )
    except TaskError as error:
        return None, [f"Whether more tasks would help was not measured: {error}"]
    return curve, remarks


def _minutes(seconds: float) -> str:
    return "about a minute" if seconds < 90 else f"about {seconds / 60:.0f} minutes"


def _transfer(result: Any, learner: str, tasks: Any, familiarity: dict[str, float], guarded: str) -> Any:
    """Where the prior hurt, if the learner without it was measured."""
    from upstairs.evaluate.metrics import METRICS
    from upstairs.evaluate.negative_transfer import negative_transfer

    alone = next((name for name in result.baselines if name.startswith("no-meta")), None)
    if alone is None or not isinstance(METRICS[result.metric].goal, str):
        return None
    return negative_transfer(result, learner, tasks, alone, guarded=guarded, familiarity=familiarity)


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
