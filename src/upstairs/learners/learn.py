"""From tasks to a prior: encode, standardise, let ``outer`` learn and choose, and write down what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import NotMetaFittedError, TaskError
from upstairs.inner.rule import AdaptationRule
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.choose import choose, relearn
from upstairs.outer.metric import Classes, choose_metric, relearn_metric
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet

__all__ = ["Seen", "learn", "learn_on"]

FAMILY = "neural-network"


@dataclass(frozen=True, slots=True)
class Seen:
    """Encoded training rows that ``meta_partial_fit`` needs again; not part of the prior.

    ``y`` are standardised targets or class numbers; ``names`` and ``groups`` have one entry a task (or a class, for
    a class pool).
    """

    x: Float[np.ndarray, "row feature"]
    y: np.ndarray
    offsets: Int[np.ndarray, " boundary"]
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def task(self, number: int) -> tuple[Float[np.ndarray, "row feature"], np.ndarray]:
        """Return the rows of one task."""
        rows = slice(self.offsets[number], self.offsets[number + 1])
        return self.x[rows], self.y[rows]

    def extended(self, more: Seen) -> Seen:
        """Return these rows and more, in the canonical order of names.

        Raises
        ------
        TaskError
            For a name that stands in both.
        """
        twice = sorted(set(self.names) & set(more.names))
        if twice:
            raise TaskError(
                f"Task {twice[0]!r} was learned already ({len(twice)} such tasks); leave it out, or rename it if it is new."
            )
        parts = [(name, seen, number) for seen in (self, more) for number, name in enumerate(seen.names)]
        parts.sort(key=lambda entry: entry[0])
        slices = [(seen, slice(seen.offsets[n], seen.offsets[n + 1])) for _, seen, n in parts]
        offsets = np.concatenate([[0], np.cumsum([part.stop - part.start for _, part in slices])]).astype(np.int64)
        return Seen(
            np.concatenate([seen.x[part] for seen, part in slices]),
            np.concatenate([seen.y[part] for seen, part in slices]),
            offsets,
            tuple(name for name, _, _ in parts),
            tuple(seen.groups[n] for _, seen, n in parts),
        )


def learn(
    tasks: TaskSet | ClassPool,
    validation: TaskSet | ClassPool | None,
    *,
    rule_name: str,
    rule: AdaptationRule,
    prior_mean: str,
    shots: tuple[int, int] | None,
    ways: int | None,
    categorical: tuple[str | int, ...],
    seed: int,
) -> tuple[Prior, Seen]:
    """Make a prior from tasks in canonical order.

    Parameters
    ----------
    tasks, validation
        Training tasks, and the tasks on which choices are made (None: folds over the training tasks).
    rule_name, rule
        How a task is learned.
    prior_mean
        "linear", "ridge", "boosting" or "auto" (for the rule "bayesian-linear").
    shots, ways
        The support that the prior is chosen for.
    categorical
        Number columns that are identifiers.
    seed
        Draws folds and episodes.
    """
    settings: dict[str, Any] = {"rule": rule_name, "shots": shots, "ways": ways}
    if rule_name == "prototype":
        return _learn_prototype(tasks, validation, rule, settings, categorical, seed)
    assert isinstance(tasks, TaskSet)
    listed = list(tasks)
    columns = concatenate_columns(listed)
    encoder = Encoder.fit(columns, categorical=categorical)
    settings |= {"kind": tasks.kind, "labels": tasks.labels, "classes": tasks.classes, "encoder": encoder.spec()}
    y = np.concatenate([task.y for task in listed])
    settings["target"] = [0.0, 1.0]
    if tasks.kind == "regression":
        settings["target"] = [float(y.mean()), float(y.std()) or 1.0]
    seen = _seen(tasks, encoder.encode(columns), settings)
    held = None
    if validation is not None:
        assert isinstance(validation, TaskSet)
        rows = [encoder.encode(task.X, task=task.name) for task in validation]
        held = _seen(validation, np.concatenate(rows), settings)
    choice = choose(
        seen.x,
        seen.y,
        seen.offsets,
        _numbers(seen.groups),
        kind=str(tasks.kind),
        ways=len(tasks.classes),
        shots=shots,
        prior_mean="none" if prior_mean == "linear" else prior_mean,
        validation=None if held is None else (held.x, held.y, held.offsets),
        random_state=seed,
    )
    settings |= {"choice": choice.reason, "report": choice.report, "outer": choice.settings}
    judges = seen if held is None else held
    folds = [(params, [judges.task(int(number)) for number in numbers]) for params, numbers in choice.folds]
    tables = tables_from(rule, folds, ways=len(tasks.classes), seed=seed)
    if tasks.kind == "regression":
        tables |= interval_factors(rule, folds, seed=seed)
    return _prior(settings, choice.params, tables, len(seen.names), len(seen.y)), seen


def learn_on(prior: Prior, seen: Seen | None, tasks: TaskSet | ClassPool) -> tuple[Prior, Seen]:
    """Make the next prior from what was seen and more tasks; encoding, rule and choices stay as they are."""
    if seen is None:
        raise NotMetaFittedError(
            "meta_partial_fit needs the rows of the earlier tasks, which this prior was saved without; save with "
            "upstairs.save(meta, path, resume=True), or meta_fit on all tasks."
        )
    settings = dict(prior.settings)
    encoder = Encoder.from_spec(settings["encoder"])
    if settings["rule"] == "prototype":
        classes, names = _classes(tasks, encoder)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(classes.y))]).astype(np.int64)
        more = Seen(classes.x, np.zeros(len(classes.x)), offsets, names, names)
        together = seen.extended(more)
        every = Classes(
            together.x,
            np.repeat(np.arange(len(together.names)), np.diff(together.offsets)),
            np.zeros(len(together.names), dtype=np.int64),
            np.arange(len(together.names)),
        )
        params: Mapping[str, np.ndarray] = relearn_metric(every, settings["outer"], _raw_scale(encoder))
    else:
        assert isinstance(tasks, TaskSet)
        if tasks.kind != settings["kind"]:
            raise TaskError(f"The prior was learned on {settings['kind']} tasks, but these are a {tasks.kind}.")
        unknown = sorted(set(tasks.classes) - set(settings["classes"]), key=str)
        if unknown:
            raise TaskError(
                f"Label {unknown[0]!r} is unknown to the prior, whose labels are {settings['classes']}; meta_fit on all tasks."
            )
        rows = [encoder.encode(task.X, task=task.name) for task in tasks]
        together = seen.extended(_seen(tasks, np.concatenate(rows), settings))
        params = relearn(settings["outer"], prior.group("params"), together.x, together.y, together.offsets)
    return _prior(settings, params, prior.group("tables"), len(together.names), len(together.y)), together


def _learn_prototype(
    tasks: TaskSet | ClassPool,
    validation: TaskSet | ClassPool | None,
    rule: AdaptationRule,
    settings: dict[str, Any],
    categorical: tuple[str | int, ...],
    seed: int,
) -> tuple[Prior, Seen]:
    raw = (
        tasks.X.reshape(len(tasks.X), -1).astype(np.float64)
        if isinstance(tasks, ClassPool)
        else concatenate_columns(list(tasks))
    )
    encoder = Encoder.fit(raw, categorical=categorical)
    classes, names = _classes(tasks, encoder)
    low, high = settings["shots"] or (1, 5)
    choice = choose_metric(
        classes,
        raw_scale=_raw_scale(encoder),
        shots=(low, high),
        ways=settings["ways"],
        validation=None if validation is None else _classes(validation, encoder)[0],
        seed=seed,
    )
    settings |= {
        "kind": "classification",
        "labels": "own",
        "classes": [],
        "encoder": encoder.spec(),
        "target": [0.0, 1.0],
        "choice": choice.sentence,
        "report": choice.report,
        "outer": choice.settings,
    }
    tables = tables_from(rule, choice.folds, ways=0, seed=seed)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(classes.y))]).astype(np.int64)
    seen = Seen(classes.x, np.zeros(len(classes.x)), offsets, names, names)
    return _prior(settings, choice.params, tables, len(names), len(classes.y)), seen


def _classes(tasks: TaskSet | ClassPool, encoder: Encoder) -> tuple[Classes, tuple[str, ...]]:
    """Lay rows class after class; classes of one task (or of a pool) are met together."""
    if isinstance(tasks, ClassPool):
        rows = np.concatenate([tasks.rows_of(number) for number in range(len(tasks))])
        x = encoder.encode(tasks.X[rows].reshape(len(rows), -1).astype(np.float64))
        y = np.repeat(np.arange(len(tasks)), tasks.counts)
        group = np.unique(tasks.groups, return_inverse=True)[1]
        return Classes(x, y, np.zeros(len(tasks), dtype=np.int64), group), tuple(map(str, tasks.classes.tolist()))
    parts, sizes, owners, names, groups = [], [], [], [], []
    for number, (task, group_name) in enumerate(zip(tasks, tasks.groups, strict=True)):
        encoded = encoder.encode(task.X, task=task.name)
        for label in task.classes:
            rows = np.flatnonzero(task.y == label)
            parts.append(encoded[rows])
            sizes.append(len(rows))
            owners.append(number)
            names.append(f"{task.name}/{label}")
            groups.append(group_name)
    y = np.repeat(np.arange(len(sizes)), sizes)
    return Classes(np.concatenate(parts), y, np.array(owners), np.unique(groups, return_inverse=True)[1]), tuple(names)


def _seen(tasks: TaskSet, x: Float[np.ndarray, "row feature"], settings: Mapping[str, Any]) -> Seen:
    y = np.concatenate([task.y for task in tasks])
    if settings["kind"] == "regression":
        center, scale = settings["target"]
        y = (y - center) / scale
    else:
        number = {label: code for code, label in enumerate(settings["classes"])}
        y = np.array([number[label] for label in y.tolist()], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(tasks.rows)]).astype(np.int64)
    return Seen(x, y, offsets, tasks.names, tasks.groups)


def _raw_scale(encoder: Encoder) -> Float[np.ndarray, " feature"]:
    """What each encoded column is to be multiplied by to be in raw units again (flags and categories: one)."""
    scale: list[float] = []
    for column in encoder.columns:
        scale += [1.0] * column.width if column.kind == "category" else [column.scale] + [1.0] * column.flag
    return np.array(scale)


def _numbers(groups: tuple[str, ...]) -> Int[np.ndarray, " task"]:
    return np.unique(np.array(groups), return_inverse=True)[1]


def _prior(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    tables: Mapping[str, np.ndarray],
    tasks: int,
    rows: int,
) -> Prior:
    arrays = {f"params/{name}": np.asarray(array) for name, array in params.items()}
    arrays |= {f"tables/{name}": np.asarray(array) for name, array in tables.items()}
    return Prior(FAMILY, settings, arrays, {"tasks": tasks, "rows": rows})
