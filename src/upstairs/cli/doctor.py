"""``upstairs doctor``: what is in a file, what looks odd about it, and what could be learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upstairs.cli.options import (
    Categorical,
    Drop,
    Group,
    KindOption,
    LabelsOption,
    Seed,
    Source,
    Target,
    TaskColumn,
)

__all__ = ["doctor"]


def doctor(
    source: Source,
    task: TaskColumn = None,
    target: Target = None,
    group: Group = None,
    kind: KindOption = None,
    labels: LabelsOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    shots: Annotated[int, typer.Option("--shots", min=1, help="Rows that a new task will have.")] = 5,
    test: Annotated[
        float, typer.Option("--test", min=0.01, max=0.9, help="Share of tasks held out in an evaluation.")
    ] = 0.25,
    seed: Seed = 0,
) -> None:
    """Look at a file before learning from it: tasks, columns, odd things, what fits, how small a gain could be seen.

    Without --task and --target it lists the columns and suggests some.

    \b
    Example:
      upstairs doctor sales.csv --task shop --target revenue
    """  # noqa: D301
    from upstairs.cli.columns import facts_of, facts_of_table, suspicions
    from upstairs.cli.common import read_tasks, show, split_names
    from upstairs.errors import PriorMismatchError
    from upstairs.report import column_table
    from upstairs.tasks.batches import concatenate_columns
    from upstairs.tasks.readers import read_table

    folder = source.is_dir()
    if target is None or (task is None and not folder and "," not in target):
        _columns_only(source, task, target)
        return
    first: Any = None
    if not folder:
        frame = read_table(source)
        facts = facts_of(frame)
        show(f"{source.name}: {frame.num_rows} rows, {frame.num_columns} columns", column_table(facts))
        left_out = [*split_names(drop, frame.schema.names), *(name for name in (task, group) if name is not None)]
        left_out += targets if len(targets := split_names(target, frame.schema.names)) > 1 else []
        codes = split_names(categorical, frame.schema.names)
        _show_findings(suspicions(facts, target=target, aside=left_out, categorical=codes))
    tasks = read_tasks(
        source, task=task, target=target, group=group, kind=kind, labels=labels, categorical=categorical, drop=drop
    )
    try:
        first = concatenate_columns(list(tasks))
    except PriorMismatchError as error:
        mismatch = str(error)
    else:
        mismatch = ""
    if folder and first is not None:
        facts = facts_of_table(first)
        show(f"{source}: {len(tasks)} files, {len(first)} rows, {len(facts)} feature columns", column_table(facts))
        _show_findings(suspicions(facts, target=None, categorical=split_names(categorical)))
    show(*_about_tasks(tasks, kind is not None, group is not None))
    show("", *_learners(tasks, mismatch))
    if not mismatch:
        show("", *_power(tasks, shots, test, seed))


def _columns_only(source: Path, task: str | None, target: str | None) -> None:
    """List the columns and suggest which are the task and the target."""
    from upstairs.cli.columns import facts_of, suggest, suspicions
    from upstairs.cli.common import show
    from upstairs.errors import TaskError
    from upstairs.report import column_table
    from upstairs.tasks.readers import read_table
    from upstairs.tasks.readers_common import check_columns, raise_together

    file = source
    if source.is_dir():
        files = sorted(
            path
            for path in source.iterdir()
            if path.is_file() and path.suffix in (".csv", ".tsv", ".gz", ".parquet", ".pq")
        )
        if not files:
            raise TaskError(f"'{source}' has no CSV, TSV or Parquet file; correct the path.")
        file = files[0]
    frame = read_table(file)
    raise_together(file.name, check_columns(frame.schema.names, task=task, target=target))
    facts = facts_of(frame)
    show(f"{file.name}: {frame.num_rows} rows, {frame.num_columns} columns", column_table(facts))
    _show_findings(suspicions(facts, target=target, aside=[name for name in (task,) if name]))
    task_names, target_names = suggest(facts)
    task_names, target_names = [task] if task else task_names, [target] if target else target_names
    if source.is_dir():
        likely = f" --target {_quoted(target_names[0])}" if target_names else ""
        show(f"Every file of the folder is a task. Next, if the target is right: upstairs doctor {source}{likely}")
        return
    if not task_names:
        show("No column has repeated values that could name a task; --task must be a column that many rows share.")
    elif not target_names:
        show("No column has two values or more that could be a target.")
    else:
        show(f"Could name the task: {', '.join(task_names)}. Could be the target: {', '.join(target_names)}.")
        show(
            f"Next, if that is right: upstairs doctor {source} --task {_quoted(task_names[0])} --target {_quoted(target_names[0])}"
        )


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _show_findings(found: list[tuple[str, str]]) -> None:
    from upstairs.cli.common import show

    if found:
        show("Look at:", *(f"  {name} {said}" for name, said in found), "")
    else:
        show("No column looks odd.", "")


def _about_tasks(tasks: Any, kind_given: bool, grouped: bool) -> list[str]:
    import numpy as np

    rows = tasks.rows
    small = tasks[int(np.argmin(rows))].name
    said = [
        f"Tasks: {len(tasks)} with {rows.min()} to {rows.max()} rows, median {np.median(rows):g} (smallest: {small})"
    ]
    if grouped:
        said.append(f"Groups: {len(set(tasks.groups))}")
    if tasks.kind == "regression":
        y = np.concatenate([task.y for task in tasks])
        inside = np.concatenate([task.y - task.y.mean() for task in tasks])
        why = (
            "as you say"
            if kind_given
            else f"{len(np.unique(y))} different numbers; --kind classification if these are labels"
        )
        between = 100 * (1 - np.square(inside).sum() / max(np.square(y - y.mean()).sum(), 1e-300))
        said += [
            f"Kind: regression ({why})",
            f"Target: {y.min():g} to {y.max():g}, mean {y.mean():g}, sd {y.std():g}; {between:.0f} % of its variance lies between tasks",
        ]
        return said
    why = "as you say" if kind_given else "text, truth values, or two values; --kind regression if these are amounts"
    said.append(f"Kind: classification, {tasks.labels} labels ({why})")
    everything = [label for task in tasks for label in task.y.tolist()]
    counts = {label: everything.count(label) for label in tasks.classes[:12]}
    more = f" and {len(tasks.classes) - 12} more" if len(tasks.classes) > 12 else ""
    said.append("Classes: " + ", ".join(f"{label} ({count} rows)" for label, count in counts.items()) + more)
    single = sum(len(task.classes) < 2 for task in tasks)
    if single:
        said.append(f"Tasks with one class only: {single} of {len(tasks)}")
    return said


def _learners(tasks: Any, mismatch: str) -> list[str]:
    """Say which learners apply, and why others do not."""
    from upstairs.learners.meta import FEWEST_TASKS

    if mismatch:
        return ["Learners: none applies yet.", f"  {mismatch}"]
    if len(tasks) < FEWEST_TASKS:
        return [
            "Learners: none applies yet.",
            f"  {len(tasks)} tasks, and at least {FEWEST_TASKS} are needed; 20 or more are better.",
        ]
    said = ["Learners (--learner neural-network):"]
    own = tasks.labels == "own"
    if own:
        said += [
            "  prototype: applies (each task has its own classes; class means in a learned metric)",
            "  bayesian-linear: does not apply, as labels do not mean the same in all tasks",
        ]
    else:
        what = "this is a regression" if tasks.kind == "regression" else "all tasks share their labels"
        said += [
            f"  bayesian-linear: applies ({what}; the weights' prior comes from the other tasks)",
            f"  prototype: does not apply, as it needs tasks with classes of their own and {what}",
        ]
    if len(set(tasks.groups)) < 10:
        said.append(
            f"  With {len(set(tasks.groups))} tasks or groups little can be learned about how they differ; 20 or more are better."
        )
    return said


def _power(tasks: Any, shots: int, test: float, seed: int) -> list[str]:
    """Say how small a gain could be seen with so many tasks."""
    from upstairs.evaluate.power import paired_spread, smallest_difference, tasks_needed

    units = len(set(tasks.groups))
    word = "tasks" if units == len(tasks) else "groups"
    held = max(1, round(test * units))
    spread = paired_spread(tasks, shots, random_state=seed)
    title = f"How small a gain could be seen, with {shots} support rows:"
    if spread is None:
        assumed = 0.5
        reason = (
            "labels of a task's own"
            if tasks.labels == "own"
            else f"too few {word} with more than {shots} rows to estimate it"
        )
        basis = f"  Assumed: the difference of two learners has an sd of {assumed:.0%} of the loss from task to task ({reason})."
        sd = assumed
    else:
        sd = spread.sd
        better, other = spread.methods
        shown = ", ".join(f"{name} {loss:.3g}" for name, loss in spread.losses.items())
        what = "squared error in units of the target's variance" if tasks.kind == "regression" else "log loss"
        basis = (
            f"  Estimated on {spread.units} {word}: {better!r} against {other!r} differ by an sd of {sd:.0%} of the loss from task to "
            f"task ({what}: {shown}). Learners that are more alike differ less."
        )
    lines = [title, basis]
    for number, how in ((held, f"held out once ({test:.0%})"), (units, "all held out in turn")):
        small = smallest_difference(sd, number)
        lines.append(
            f"  {number} {word} {how}: a gain of {small:.1%} of the loss or more would be found in 4 of 5 cases (5 % level)."
        )
    lines.append(f"  To see a gain of 5 %, hold out {tasks_needed(sd, 0.05)} {word}.")
    return lines
