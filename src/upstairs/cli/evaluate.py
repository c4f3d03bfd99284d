"""``upstairs evaluate``: measure a learner beside honest baselines on tasks that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    Target,
    TaskColumn,
    TestShare,
    Ways,
)

__all__ = ["evaluate"]

NAME = "neural-network"
GUARDED = "neural-network, guard"


def evaluate(
    prior: Annotated[
        Path | None, typer.Argument(metavar="PRIOR", help="Folder of a prior to measure on the tasks of FILE.")
    ] = None,
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File (or folder) of test tasks for PRIOR.")
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", metavar="FILE", help="File (or folder) of tasks; without PRIOR some are held out."),
    ] = None,
    task: TaskColumn = None,
    target: Target = None,
    group: Group = None,
    kind: KindOption = None,
    labels: LabelsOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    order: Annotated[
        str | None,
        typer.Option("--order", metavar="COL", help="First rows by this column are support, later ones are predicted."),
    ] = None,
    shots: Annotated[
        str, typer.Option("--shots", metavar="N,N", help="Support rows (a class, for own labels): 5, or 1,5,10.")
    ] = "5",
    ways: Ways = None,
    splits: Annotated[
        str | None,
        typer.Option(
            "--splits", metavar="N or N:N", help="How often tasks are held out; 8 is the same as 0:7. 3 if not given."
        ),
    ] = None,
    test: TestShare = 0.25,
    draws: Draws = 3,
    queries: Queries = "all",
    baselines: Annotated[
        str, typer.Option("--baselines", metavar="NAMES", help="Names with commas, or auto: all that apply.")
    ] = "auto",
    metric: MetricName = None,
    guard: Annotated[bool, typer.Option("--guard", help="Measure the learner with guard=True, too.")] = False,
    json_out: JsonOut = None,
    csv_out: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write one line a learner and episode.")
    ] = None,
    record: RecordFolder = None,
    n_jobs: Jobs = 1,
) -> None:
    """Measure the learner beside honest baselines, on tasks that it has not seen.

    With --train alone, tasks are held out again and again; with PRIOR and FILE, that prior is measured on the tasks
    of FILE (and --train FILE gives the pooled baselines something to learn from).

    \b
    Example:
      upstairs evaluate --train sales.csv --task shop --target revenue --shots 1,5,10 --splits 8
      upstairs evaluate prior/ new_shops.csv --task shop --target revenue
    """  # noqa: D301
    from upstairs.cli.common import load_any, read_tasks, show, whole_numbers, working

    if prior is None and train is None:
        raise ValueError("Nothing to evaluate: give --train FILE, or the folder of a PRIOR and a FILE with test tasks.")
    if prior is not None and source is None:
        raise ValueError(
            f"'{prior}' needs a FILE with test tasks after it; to hold out tasks of one file, give --train FILE alone."
        )
    states = _states(splits) if prior is None else [0]
    if prior is not None and splits is not None:
        raise ValueError(
            "--splits holds out tasks of --train FILE, but with a PRIOR all tasks of FILE are test tasks; use --draws."
        )
    protocol: dict[str, Any] = {
        "shots": whole_numbers(shots, "--shots"),
        "ways": ways,
        "queries": None if queries == "all" else whole_numbers(queries, "--queries")[0],
        "draws": draws,
        "baselines": baselines if baselines == "auto" else _baselines(baselines),
        "metric": metric,
        "n_jobs": n_jobs,
        "order": True if order else None,
    }
    columns: dict[str, Any] = {
        "task": task, "target": target, "group": group, "kind": kind, "labels": labels, "categorical": categorical,
        "drop": drop, "order": order,
    }  # fmt: skip
    if prior is not None:
        assert source is not None
        meta = load_any(prior, meta=True)
        settings = meta.prior_.settings
        columns["kind"], columns["labels"] = (
            kind or _Word(settings["kind"]),
            labels or (settings["labels"] and _Word(settings["labels"])),
        )
        tasks = fitting(read_tasks(source, **columns), settings)
        known = None if train is None else fitting(read_tasks(train, **columns), settings)
        with working(f"Measuring on {len(tasks)} tasks") as progress:
            kept = protocol | {"record": record}
            results = [measure(meta, tasks, known, 0, guard, kept, progress)]
        show(f"The prior {meta.prior_.hash[:8]} on {len(tasks)} tasks of {source.name}.")
    else:
        assert train is not None
        tasks = read_tasks(train, **columns)
        show(
            f"{train.name}: {len(tasks)} tasks, {int(tasks.rows.sum())} rows, {tasks.kind}; {len(states)} "
            f"split{'s' if len(states) > 1 else ''}, {test:.0%} of the {'groups' if group else 'tasks'} held out each time."
        )
        results = []
        with working(f"{len(states)} splits") as progress:
            for number, state in enumerate(states):
                part = partly(progress, number, len(states))
                folder = record and record / f"split-{state}"
                results.append(_one_split(tasks, state, test, categorical, guard, protocol, part, folder))
    report(results, states, metric)
    _write(results, states, json_out, csv_out)


@dataclass(frozen=True, slots=True)
class _Word:
    """A setting of a stored prior, in the form of an option."""

    value: str


def _baselines(text: str) -> list[str]:
    """Names between commas; a name may hold a comma itself.

    Raises
    ------
    ValueError
        For a name that no baseline has.
    """
    from upstairs.learners.baselines import BASELINES

    words, names = [word.strip() for word in text.split(",") if word.strip()], []
    while words:
        name = next((", ".join(words[:length]) for length in (2, 1) if ", ".join(words[:length]) in BASELINES), None)
        if name is None:
            raise ValueError(f"--baselines holds {words[0]!r}, but known are {'; '.join(BASELINES)}.")
        names.append(name)
        words = words[name.count(",") + 1 :]
    return names


def _states(splits: str | None) -> list[int]:
    from upstairs.cli.common import whole_numbers

    if splits is None:
        return [0, 1, 2]
    if splits.isdigit() and int(splits) > 0:
        return list(range(int(splits)))
    return whole_numbers(splits, "--splits", least=0)


def fitting(tasks: Any, settings: Any) -> Any:
    """Leave out columns that a prior does not know, and say which."""
    from upstairs.cli.common import say
    from upstairs.tasks.task import Task

    encoder, known = settings["encoder"], tasks[0].columns
    names = [column["name"] for column in encoder["columns"]]
    extra = [name for name in known if name not in names] if encoder["named"] and isinstance(known, tuple) else []
    if not extra or any(name not in known for name in names):
        return tasks
    say(f"Not used, as the prior does not know them: {', '.join(extra)}.")
    return tasks.map(lambda task: Task(task.X.select(names), task.y, name=task.name, kind=task.kind, group=task.group))


def measure(
    meta: Any,
    tasks: Any,
    train: Any,
    state: int,
    guard: bool,
    protocol: dict[str, Any],
    progress: Any = None,
    seconds: float = 0.0,
    beside: Mapping[str, Any] | None = None,
) -> Any:
    """Evaluate a fitted meta-learner, with ``guard`` the same prior guarded beside it, and others by name."""
    learners = {NAME: meta, **(beside or {})}
    if guard:
        learners[GUARDED] = _guarded(meta)
    result = _run(learners, tasks, train=train, random_state=state, progress=progress, **protocol)
    return replace(result, meta_seconds={**result.meta_seconds, **dict.fromkeys(learners, seconds)})


def compared(
    metas: Mapping[str, Any],
    tasks: Any,
    train: Any,
    state: int,
    protocol: dict[str, Any],
    costs: Mapping[str, tuple[float, float]],
    progress: Any = None,
) -> Any:
    """Evaluate several fitted meta-learners by name, the first guarded beside it; ``costs`` are seconds and megabytes."""
    first, *others = metas
    guarded = guarded_name(first)
    learners = {first: metas[first], guarded: _guarded(metas[first]), **{name: metas[name] for name in others}}
    result = _run(learners, tasks, train=train, random_state=state, progress=progress, **protocol)
    costs = {**costs, guarded: costs[first]}
    seconds = {**result.meta_seconds, **{name: cost[0] for name, cost in costs.items()}}
    memory = {
        name: (costs[name][1] if name in costs else old, adapt) for name, (old, adapt) in result.megabytes.items()
    }
    return replace(result, meta_seconds=seconds, megabytes=memory)


def guarded_name(name: str) -> str:
    """Name of a learner that is measured with ``guard=True``, too."""
    return f"{name}, guard"


def _guarded(meta: Any) -> Any:
    """The same prior with ``guard=True``."""
    from sklearn.base import clone

    guarded = clone(meta).set_params(guard=True)
    guarded.prior_ = meta.prior_
    guarded.plain_learner = meta.plain_learner  # one and the same baseline for both
    return guarded


def _run(*args: Any, **settings: Any) -> Any:
    from upstairs.evaluate.run import evaluate as run

    return run(*args, **settings)


def partly(progress: Callable[[int, int], None], number: int, parts: int) -> Callable[[int, int], None]:
    """Report the progress of one of several equal parts as that of the whole."""
    progress(1000 * number, 1000 * parts)
    return lambda done, total: progress(1000 * number + 1000 * done // max(total, 1), 1000 * parts)


def _one_split(
    tasks: Any,
    state: int,
    test: float,
    categorical: Sequence[str] | None,
    guard: bool,
    protocol: dict[str, Any],
    progress: Any,
    folder: Path | None = None,
) -> Any:
    from upstairs.cli.common import split_names
    from upstairs.learners.neural_network import MetaNeuralNetwork

    known, _, held_out = tasks.split(valid=0.0, test=test, random_state=state)
    columns = known[0].columns
    codes = split_names(categorical, columns if isinstance(columns, tuple) else ())
    learner = MetaNeuralNetwork(categorical=tuple(codes))
    meta, seconds, _ = learned(learner, known, folder and folder / "prior")
    protocol = protocol | {"record": folder and folder / "measured"}
    return measure(meta, held_out, known, state, guard, protocol, progress, seconds)


def learned(learner: Any, tasks: Any, folder: Path | None) -> tuple[Any, float, float]:
    """Fit a meta-learner, or read it from its folder: the learner, seconds, and megabytes at the peak."""
    import json
    import time

    from upstairs.learners.registry import load, save
    from upstairs.outer.peak import Peak
    from upstairs.storage import write_file

    cost = folder and folder.with_name(f"{folder.name}-cost.json")
    if folder and cost and cost.exists():
        return load(folder), *json.loads(cost.read_bytes())
    start = time.perf_counter()
    with Peak() as peak:
        meta = learner.meta_fit(tasks)
    seconds = time.perf_counter() - start
    if folder and cost:
        save(meta, folder)
        write_file(cost, json.dumps([seconds, peak.megabytes]).encode())
    return meta, seconds, peak.megabytes


def report(results: Sequence[Any], states: Sequence[int], metric: str | None = None) -> None:
    """Show one table a number of shots over all splits, then every split, then the notes."""
    from upstairs.cli.common import in_options, line_width, show
    from upstairs.evaluate.metrics import METRICS
    from upstairs.evaluate.result import EvaluationResult
    from upstairs.report import result_tables, split_table

    whole = EvaluationResult.concatenate(results)
    measured = METRICS[metric or whole.metric]
    show("", f"{measured.name} ({measured.said}): {measured.meaning}")
    for shots in whole.shots:
        rows = whole.table(shots, metric)
        if not rows:
            continue
        said = f"{shots} support {'row' if shots == 1 else 'rows'}{' a class' if whole.labels == 'own' else ''}"
        show("", f"{said}, {rows[0].tasks} test tasks", *result_tables(whole, shots, metric, width=line_width()))
        if len(results) > 1:
            show("", f"{said}, every split", split_table(results, states, shots, metric))
    learning = ", ".join(
        f"{name} {seconds / len(results):.2f} s" for name, seconds in whole.meta_seconds.items() if seconds >= 0.005
    )
    if learning:
        show("", f"Learning from the training tasks took, a split: {learning}.")
    notes = [*whole.notes, *dict.fromkeys(str(entry) for entry in whole.left_out)]
    show(*(["", *(f"note: {in_options(note)}" for note in notes)] if notes else []))


def _write(results: Sequence[Any], states: Sequence[int], json_out: Path | None, csv_out: Path | None) -> None:
    import csv
    import json

    from upstairs.cli.common import say
    from upstairs.evaluate.result import EvaluationResult

    if json_out is None and csv_out is None:
        return
    whole = EvaluationResult.concatenate(results)
    if json_out is not None:
        json_out.write_text(
            json.dumps({"random_states": list(states), **whole.to_dict()}, allow_nan=False), encoding="utf-8"
        )
        say(f"Everything is in {json_out}")
    if csv_out is not None:
        columns = {name: column.tolist() for name, column in whole.columns.items()}
        columns["split"] = [states[number] for number in columns["split"]]
        with csv_out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(
                [("" if value != value else value) for value in line] for line in zip(*columns.values(), strict=True)
            )
        say(f"Records are in {csv_out}")
