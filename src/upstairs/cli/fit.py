"""``upstairs fit``: learn a prior over the tasks of a file."""

from __future__ import annotations

from enum import StrEnum
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

__all__ = ["fit"]


class Learner(StrEnum):
    """Families of learners."""

    neural_network = "neural-network"
    gradient_descent = "gradient-descent"
    svm = "svm"
    tree = "tree"


class Net(StrEnum):
    """Networks."""

    auto = "auto"
    none = "none"
    mlp = "mlp"


class PriorMean(StrEnum):
    """What a task starts from."""

    auto = "auto"
    linear = "linear"
    ridge = "ridge"
    boosting = "boosting"


def fit(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the prior goes: a new folder, or an earlier prior.")
    ],
    task: TaskColumn = None,
    target: Target = None,
    group: Group = None,
    kind: KindOption = None,
    labels: LabelsOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    shots: Annotated[
        str | None,
        typer.Option("--shots", metavar="N or N:N", help="Rows that a new task will have, such as 5 or 3:20."),
    ] = None,
    learner: Annotated[Learner, typer.Option("--learner", help="Family of learners.")] = Learner.neural_network,
    method: Annotated[
        str,
        typer.Option("--method", help="How one task is learned: auto, bayesian-linear, prototype, maml and others."),
    ] = "auto",
    net: Annotated[
        Net, typer.Option("--net", help="Network: tried where it may help (auto), none, or a multilayer perceptron.")
    ] = Net.auto,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Most training steps, for what is trained by gradients.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FOLDER", help="The same call goes on from here if it was interrupted."),
    ] = None,
    prior_mean: Annotated[PriorMean, typer.Option("--prior-mean", help="What a task starts from.")] = PriorMean.auto,
    guard: Annotated[
        bool, typer.Option("--guard", help="A task whose rows speak against the prior goes without it.")
    ] = False,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the training rows beside the prior, to learn on later.")
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="SECONDS",
            help="Most seconds of training steps; the best prior so far is then kept.",
        ),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit", metavar="GB", help="Most gigabytes for training; the best prior so far is then kept."
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            "--coordinator",
            metavar="HOST:PORT",
            envvar="UPSTAIRS_COORDINATOR",
            help="Train in several processes: address of process 0; auto on a cluster that JAX knows.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, envvar="UPSTAIRS_PROCESSES", help="How many processes train.")
    ] = None,
    process: Annotated[
        int | None, typer.Option("--process", min=0, envvar="UPSTAIRS_PROCESS", help="Which one this is, from 0.")
    ] = None,
) -> None:
    """Learn from many tasks what they have in common, and save it as a prior.

    \b
    Example:
      upstairs fit sales.csv --task shop --target revenue --out prior/
    """  # noqa: D301
    import sys
    from contextlib import ExitStack

    from upstairs.cli.common import check_out, read_tasks, say, show, split_names, working
    from upstairs.cli.ending import Watch, joined
    from upstairs.learners.registry import save
    from upstairs.outer.training import Training
    from upstairs.report.prior_contents import chosen

    span = shot_range(shots)
    check_out(out)
    talks = joined(coordinator, processes, process)
    tasks = read_tasks(
        source, task=task, target=target, group=group, kind=kind, labels=labels, categorical=categorical, drop=drop
    )
    known = tasks[0].columns
    codes = split_names(categorical, known if isinstance(known, tuple) else ())
    descent = learner is Learner.gradient_descent
    settled = learner in (Learner.svm, Learner.tree)
    if settled and net is not Net.auto:
        raise ValueError(f"--net is not for --learner {learner.value}; leave it out.")
    trains = any(value is not None for value in (steps, checkpoint, time_limit, memory_limit))
    if learner is Learner.tree and trains:
        raise ValueError(
            "--steps, --checkpoint, --time-limit and --memory-limit are not for --learner tree; leave them out."
        )
    if descent and (method != "auto" or prior_mean is not PriorMean.auto):
        raise ValueError("--method and --prior-mean are for --learner neural-network; leave them out.")
    if settled and method != "auto":
        raise ValueError("--method is for --learner neural-network; leave it out.")
    gradients = (
        descent or method not in ("auto", "bayesian-linear", "prototype") or (method == "prototype" and net is Net.mlp)
    )
    training, watch = None, Watch(talks)
    if gradients or trains:
        progress = gradients and talks and sys.stderr.isatty()
        training = Training(
            steps=steps,
            checkpoint=checkpoint,
            progress=progress,
            callback=watch,
            time_limit=time_limit,
            memory_limit=memory_limit,
        )
    meta: Any
    if descent:
        from upstairs.learners.gradient_descent import MetaGradientDescent

        meta = MetaGradientDescent(
            model="mlp" if net is Net.mlp else "linear",
            training=training,
            shots=span,
            categorical=tuple(codes),
            guard=guard,
            random_state=seed,
        )
    elif learner is Learner.svm:
        from upstairs.learners.svm import MetaSVM

        meta = MetaSVM(
            prior_mean=prior_mean.value,
            training=training,
            shots=span,
            categorical=tuple(codes),
            guard=guard,
            random_state=seed,
        )
    elif learner is Learner.tree:
        from upstairs.learners.tree import MetaDecisionTree

        meta = MetaDecisionTree(
            prior_mean=prior_mean.value,  # type: ignore[arg-type]
            shots=span,
            categorical=tuple(codes),
            guard=guard,
            random_state=seed,
        )
    else:
        from upstairs.learners.neural_network import MetaNeuralNetwork

        meta = MetaNeuralNetwork(
            method,
            net=None if net is Net.none else net.value,
            training=training,
            prior_mean=prior_mean.value,
            shots=span,
            categorical=tuple(codes),
            guard=guard,
            random_state=seed,
        )
    with ExitStack() as during:
        if training is not None:
            during.enter_context(watch.watching())
        if not gradients:
            during.enter_context(working(f"Learning from {len(tasks)} tasks"))
        meta.meta_fit(tasks)
    if not talks:
        return
    save(meta, out, resume=resume)
    show(
        f"Learned from {len(tasks)} tasks, {int(tasks.rows.sum())} rows: {tasks.kind}"
        + (f", {tasks.labels} labels" if tasks.labels else "")
        + ".",
        f"Chosen: {chosen(meta.prior_)}.",
        f"Prior {meta.prior_.hash[:8]} is in {out}",
    )
    say(f"Next: upstairs adapt {out} NEW_FILE --target {target or 'COL'} --out model/")


def shot_range(text: str | None) -> int | tuple[int, int] | None:
    """A number of rows, or the least and the most, from ``5`` or ``3:20``.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> shot_range("5"), shot_range("3:20"), shot_range(None)
    (5, (3, 20), None)
    """
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        span = (int(low), int(high if colon else low))
    except ValueError:
        span = (0, 0)
    if not 1 <= span[0] <= span[1]:
        raise ValueError(
            f"--shots takes a number of rows such as 5, or the least and the most such as 3:20, but got {text!r}."
        )
    return span if colon else span[0]
