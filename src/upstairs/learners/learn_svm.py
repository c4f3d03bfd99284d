"""From tasks with the same columns to a prior of `PriorSVC` or `PriorSVR`."""

from __future__ import annotations

from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.learners.learn import Plan
from upstairs.learners.learn_gradients import SHOTS
from upstairs.learners.rules import MACHINE, plain_rule, rule_from
from upstairs.learners.seen import (
    Seen,
    classes_again,
    classes_of,
    encoded,
    held_out,
    held_rows,
    more_rows,
    prior_of,
    seen_of_classes,
)
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.metric import draw_episodes
from upstairs.prior import Prior
from upstairs.tasks.batches import FlatRows, concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["forms_of", "learn_machines", "learn_machines_on"]

_FORMS: dict[str, list[tuple[str, ...]]] = {
    "auto": [("linear",), ("linear", "rbf")],
    "linear": [("linear",)],
    "rbf": [("rbf",)],
    "mixture": [("linear", "rbf", "poly")],
}
MOST_CURVED = 150
"""With more columns "auto" tries no curved kernel."""
SHOTS_OF_KIND = {"regression": SHOTS["shared"], "classification": (1, 50)}
EPISODES, WAYS = 100, 5


def forms_of(kernel: str, scales: Any, columns: int) -> list[Any]:
    """Return the forms of kernels that a user asked for.

    Raises
    ------
    ValueError
        For a kernel or scales that there are not.
    """
    from upstairs.outer.tuned_machine import Form

    if kernel not in _FORMS:
        raise ValueError(f"kernel must be one of {', '.join(map(repr, _FORMS))}, but is {kernel!r}.")
    number = isinstance(scales, int) and not isinstance(scales, bool) and scales >= 1
    if scales not in ("features", "one") and not number:
        raise ValueError(
            f"scales must be 'features' (one for each), 'one' (for all), or a number of dimensions, but is {scales!r}."
        )
    dimensions: int = min(scales, columns) if number else {"features": 0, "one": -1}[scales]
    found = [Form(parts, 0 if parts == ("linear",) else dimensions) for parts in _FORMS[kernel]]
    return found[:1] if kernel == "auto" and columns > MOST_CURVED else found


def learn_machines(
    tasks: TaskSet | ClassPool,
    validation: TaskSet | ClassPool | None,
    plan: Plan,
    kernel: str,
    scales: Any,
    *,
    solver: str = "smooth",
    n_jobs: int | None = 1,
) -> tuple[Prior, Seen]:
    """Make a prior.

    Parameters
    ----------
    tasks, validation
        In canonical order.
    plan
        Of the method "machine".
    kernel, scales, solver, n_jobs
        See `upstairs.MetaSVM`.
    """
    if isinstance(tasks, ClassPool) or tasks.labels == "own":
        if solver == "libsvm":
            raise TaskError(
                "solver='libsvm' learns costs of classes that all tasks share, but these tasks have labels of their own; use "
                "solver='smooth'."
            )
        return _learn_own(tasks, validation, plan, kernel, scales)
    settings: dict[str, Any] = {"rule": MACHINE, "shots": plan.shots, "ways": plan.ways}
    described, seen, encoder = encoded(tasks, plan.categorical)
    settings |= described
    held = held_rows(validation, encoder, settings)
    kind, ways = str(tasks.kind), len(tasks.classes)
    learn = _by_libsvm if solver == "libsvm" else _smooth
    params, told, folds = learn(seen, held, kind, ways, plan, forms_of(kernel, scales, encoder.width), n_jobs)
    settings |= told
    if held is not None:
        folds = [(params, [held.task(number) for number in range(len(held.names))])]
    rule = rule_from(settings)
    tables = tables_from(rule, folds, plain=plain_rule(MACHINE, kind), ways=ways, seed=plan.seed)
    if kind == "regression":
        tables |= interval_factors(rule, folds, seed=plan.seed)
    return prior_of(settings, params, tables, len(seen.names), len(seen.y)), seen


_Learned = tuple[dict[str, np.ndarray], dict[str, Any], list[tuple[dict[str, np.ndarray], list[Any]]]]
"""Params, what the prior says about them, and pairs of params and tasks that these have not seen."""


def _smooth(
    seen: Seen, held: Seen | None, kind: str, ways: int, plan: Plan, forms: list[Any], n_jobs: int | None
) -> _Learned:
    from upstairs.outer.learn_machine import learn_machine

    groups = np.unique(seen.groups, return_inverse=True)[1]
    found = learn_machine(
        seen.x,
        seen.y,
        seen.offsets,
        groups,
        kind=kind,
        ways=ways,
        shots=plan.shots or SHOTS_OF_KIND[kind],
        forms=forms,
        prior_mean=plan.prior_mean,
        training=plan.training,
        validation=None if held is None else (held.x, held.y, held.offsets),
        out=held_out(groups, plan.seed),
        names=seen.names,
        seed=plan.seed,
    )
    folds = [(params, [seen.task(int(number)) for number in numbers]) for params, numbers in found.folds]
    return found.params, {"choice": found.reason, "report": found.report, "outer": found.settings}, folds


def _by_libsvm(
    seen: Seen, held: Seen | None, kind: str, ways: int, plan: Plan, forms: list[Any], n_jobs: int | None
) -> _Learned:
    from upstairs.outer.learn_hinge import learn_hinge

    form = forms[-1]
    if (len(form.parts) > 1 and form.parts != ("linear", "rbf")) or form.dimensions > 0:
        raise ValueError(
            "solver='libsvm' learns kernel='linear' or 'rbf' with scales='features' or 'one'; use solver='smooth' for more."
        )
    kernel = "linear" if form.parts == ("linear",) else "rbf"
    out = held_out(np.unique(seen.groups, return_inverse=True)[1], plan.seed)
    found = learn_hinge(
        seen.x,
        seen.y,
        seen.offsets,
        kind=kind,
        ways=ways,
        shots=plan.shots or SHOTS_OF_KIND[kind],
        kernel=kernel,
        one_scale=form.dimensions < 0,
        training=plan.training,
        out=out,
        validation=None if held is None else FlatRows(held.x, held.y, held.offsets),
        names=seen.names,
        seed=plan.seed,
        n_jobs=n_jobs,
    )
    outcome = found.outcome
    settings = {"solver": "libsvm", "kernel": kernel} | outcome.told
    report = [
        {"name": f"step {step}", "loss": float(loss)}
        for step, (loss, _) in zip(outcome.check_steps.tolist(), outcome.checks, strict=True)
    ]
    choice = f"hinge loss by libsvm, kernel {kernel}: {outcome.reason}; params of step {outcome.best_step}"
    judged = seen.some(out)
    folds = [(found.params, [judged.task(number) for number in range(len(judged.names))])]
    return found.params, {"choice": choice, "report": report, "outer": settings}, folds


def learn_machines_on(prior: Prior, seen: Seen, tasks: TaskSet | ClassPool) -> tuple[Prior, Seen]:
    """Make the next prior from what was seen and more tasks; kernel and choices stay."""
    from upstairs.outer.learn_machine import relearn_machine
    from upstairs.outer.learn_own_machine import relearn_own_machine

    settings = dict(prior.settings)
    encoder = Encoder.from_spec(settings["encoder"])
    params = prior.group("params")
    if settings["outer"].get("solver") == "libsvm":
        raise PriorMismatchError(
            "meta_partial_fit goes on with what solver='smooth' learned; with solver='libsvm', meta_fit on all tasks."
        )
    if settings["labels"] == "own":
        classes, names = classes_of(tasks, encoder)
        together = seen.extended(seen_of_classes(classes, names))
        params = relearn_own_machine(settings["outer"], params, classes_again(together), encoder.raw_scale())
    else:
        together = seen.extended(more_rows(tasks, encoder, settings))
        params = relearn_machine(settings["outer"], params, together.x, together.y, together.offsets)
    return prior_of(settings, params, prior.group("tables"), len(together.names), len(together.y)), together


def _learn_own(
    tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None, plan: Plan, kernel: str, scales: Any
) -> tuple[Prior, Seen]:
    from upstairs.outer.learn_own_machine import learn_own_machine

    raw = (
        tasks.X.reshape(len(tasks.X), -1).astype(np.float64)
        if isinstance(tasks, ClassPool)
        else concatenate_columns(list(tasks))
    )
    encoder = Encoder.fit(raw, categorical=plan.categorical)
    classes, names = classes_of(tasks, encoder)
    shots = plan.shots or SHOTS["own"]
    most = int(np.bincount(classes.owner).max())
    ways = plan.ways or min(WAYS, most)
    if ways > most:
        raise PriorMismatchError(f"ways={ways}, but a task has at most {most} classes to draw from; lower ways.")
    owner = np.unique(classes.owner, return_inverse=True)[1]
    out = held_out(classes.group if len(np.unique(owner)) == 1 else owner, plan.seed)
    judges = None if validation is None else classes_of(validation, encoder)[0]
    found = learn_own_machine(
        classes,
        raw_scale=encoder.raw_scale(),
        shots=shots,
        ways=ways,
        forms=forms_of(kernel, scales, encoder.width),
        training=plan.training,
        validation=judges,
        out=out,
        seed=plan.seed,
    )
    settings: dict[str, Any] = {"rule": MACHINE, "shots": plan.shots, "ways": plan.ways}
    settings |= {"kind": "classification", "labels": "own", "classes": [], "encoder": encoder.spec()}
    settings |= {"target": [0.0, 1.0], "choice": found.reason, "report": found.report, "outer": found.settings}
    judged = classes.select(np.flatnonzero(out)) if judges is None else judges
    rng = np.random.default_rng([plan.seed, 1])
    episodes = [episode.whole for episode in draw_episodes(judged, shots, None, EPISODES, rng)]
    params = found.folds[0][0] if judges is None else found.params
    plain = plain_rule(MACHINE, "classification")
    tables = tables_from(rule_from(settings), [(params, episodes)], plain=plain, ways=0, seed=plan.seed)
    seen = seen_of_classes(classes, names)
    return prior_of(settings, found.params, tables, len(seen.names), len(seen.y)), seen
