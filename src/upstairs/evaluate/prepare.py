"""Check what is to be evaluated, and make learners and baselines ready."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.learners.baselines import BASELINES, Baseline, Pooled, Situated, baseline_reasons, make_baseline
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet, check_disjoint

__all__ = ["Entry", "check_learners", "ready", "ready_baselines", "situation", "target_scale"]

AVOIDABLE = ("needs train=", "needs tasks with the same columns")
"""Reasons to leave a baseline out that a reader should hear of."""


@final
@dataclass(frozen=True)
class Entry:
    """A learner that is ready: with ``how="adapt"`` it adapts, with "fit" a copy is fitted to every support."""

    name: str
    learner: Any
    how: Literal["adapt", "fit"]
    seconds: float = 0.0
    baseline: bool = False


def check_learners(learners: Any) -> None:
    """Raise a TaskError if the names or the learners are not of a kind that can be measured."""
    if not isinstance(learners, Mapping):
        raise TaskError(
            f"learners must map names to learners, but is a {type(learners).__name__}; pass {{'my learner': learner}}."
        )
    for name, learner in learners.items():
        if not isinstance(name, str) or not name:
            raise TaskError(f"Names of learners must be text, but one is {name!r}.")
        if name.removesuffix(")").split(" (")[0] in BASELINES:
            raise TaskError(f"The name {name!r} belongs to a baseline; give the learner another one.")
        if isinstance(learner, type) or not (
            hasattr(learner, "adapt") or (hasattr(learner, "fit") and hasattr(learner, "predict"))
        ):
            raise TaskError(
                f"Learner {name!r} must be a meta-learner, an object with adapt(X, y), or an unfitted estimator with fit and predict, "
                f"but is {'the class ' + learner.__name__ if isinstance(learner, type) else 'a ' + type(learner).__name__}."
            )


def situation(learners: Mapping[str, Any], test: Any, train: Any) -> Situated:
    """Say what kind of tasks are measured, and check that training and test tasks are of one kind and disjoint."""
    for argument, tasks in (("test", test), ("train", train)):
        if not isinstance(tasks, TaskSet | ClassPool) and not (argument == "train" and tasks is None):
            raise TaskError(
                f"{argument} must be a TaskSet or a ClassPool, but is a {type(tasks).__name__}; wrap tasks as TaskSet([...])."
            )
        if tasks is not None and len(tasks) == 0:
            raise TaskError(f"{argument} holds no task; bring at least one.")
    kind, labels = _nature(test)
    categorical = next((tuple(found) for meta in learners.values() if (found := getattr(meta, "categorical", ()))), ())
    if train is None:
        classes = test.classes if isinstance(test, TaskSet) and labels == "shared" else ()
        same = isinstance(test, ClassPool) or test.describe()["same_columns"]
        return Situated(kind, labels, tuple(classes), same, categorical)
    if _nature(train) != (kind, labels):
        said = [f"{a or ''} labels, {k}" if a else k for k, a in (_nature(train), (kind, labels))]
        raise TaskError(
            f"train is a set of another kind ({said[0]}) than test ({said[1]}); pass kind= or labels= where the sets are made."
        )
    if isinstance(test, ClassPool) and isinstance(train, ClassPool):
        both = sorted(set(train.classes.tolist()) & set(test.classes.tolist()))
        if both:
            raise TaskError(
                f"Class {both[0]!r} stands in train and in test ({len(both)} such classes); use pool.split(...)."
            )
        return Situated(kind, labels, (), True, categorical)
    if isinstance(test, ClassPool) or isinstance(train, ClassPool):
        return Situated(kind, labels, (), True, categorical)
    check_disjoint(train=train, test=test)
    both = sorted(set(train.names) & set(test.names))
    if both:
        raise TaskError(f"Task {both[0]!r} stands in train and in test ({len(both)} such tasks); use tasks.split(...).")
    columns = [set(c) if isinstance(c, tuple) else c for c in (train[0].columns, test[0].columns)]
    same = columns[0] == columns[1] and train.describe()["same_columns"] and test.describe()["same_columns"]
    return Situated(kind, labels, _united(train, test) if labels == "shared" else (), same, categorical)


def _united(train: TaskSet, test: TaskSet) -> tuple[Any, ...]:
    found = set(train.classes) | set(test.classes)
    try:
        return tuple(sorted(found))
    except TypeError:
        return tuple(sorted(found, key=str))


def _nature(tasks: TaskSet | ClassPool) -> tuple[str, str | None]:
    return ("classification", "own") if isinstance(tasks, ClassPool) else (str(tasks.kind), tasks.labels)


def ready(name: str, learner: Any, train: Any) -> Entry:
    """Fit a meta-learner to the training tasks if that is still to be done."""
    if not hasattr(learner, "adapt"):
        return Entry(name, learner, "fit")
    if not hasattr(learner, "meta_fit") or hasattr(learner, "prior_"):
        return Entry(name, learner, "adapt")
    if train is None:
        raise TaskError(f"Learner {name!r} is not fitted; pass train= so that it can be, or call meta_fit first.")
    start = time.perf_counter()
    fitted = clone(learner, safe=False).meta_fit(train)
    return Entry(name, fitted, "adapt", time.perf_counter() - start)


def ready_baselines(
    wanted: Any, learners: Mapping[str, Any], at: Situated, train: Any, notes: list[str]
) -> list[Entry]:
    """Make and fit the baselines that are wanted and apply; what a reader should know goes into ``notes``."""
    if wanted is None:
        return []
    reasons = baseline_reasons(at, train is not None)
    if isinstance(wanted, str) and wanted == "auto":
        names = [name for name, reason in reasons.items() if not reason]
        notes += [
            f"the baseline {name!r} was left out: it {reason}"
            for name, reason in reasons.items()
            if reason in AVOIDABLE
        ]
    else:
        if isinstance(wanted, str):
            raise TaskError(f"baselines must be 'auto', a list of names or None, but is {wanted!r}; pass [{wanted!r}].")
        names = list(dict.fromkeys(wanted))
        for name in names:
            if reasons.get(name) == "needs train=":
                raise TaskError(
                    f"The baseline {name!r} learns from training tasks; pass train=, or leave it out of baselines."
                )
            if name != "no-meta":
                make_baseline(name, at)  # says what is wrong with the name
    entries: list[Entry] = []
    pooled: Pooled | None = None
    pooled_seconds = 0.0
    for name in names:
        if name == "no-meta":
            entries += [
                Entry(said, make_baseline(name, at, plain=plain), "adapt", 0.0, True)
                for said, plain in _plain(learners, at)
            ]
            continue
        made: Baseline = make_baseline(name, at, **({"pooled": pooled} if name == "pooled + offset" else {}))
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = made.meta_fit(train) if train is not None else made
        seconds = time.perf_counter() - start
        if isinstance(made, Pooled):
            pooled, pooled_seconds = made, seconds
        elif name == "pooled + offset":
            seconds += pooled_seconds
        entries.append(Entry(name, made, "adapt", seconds, True))
    return entries


def _plain(learners: Mapping[str, Any], at: Situated) -> list[tuple[str, Any]]:
    """Give the learners' own classes without a prior, each once."""
    found: dict[str, Any] = {}
    for learner in learners.values():
        if hasattr(learner, "plain_learner"):
            plain = learner.plain_learner(at.kind)
            if getattr(plain, "guard", False):
                plain = plain.set_params(guard=False)  # there is nothing to guard against
            found.setdefault(repr(plain), plain)
    if len(found) < 2:
        return [("no-meta", plain) for plain in found.values()]
    kinds = Counter(type(plain).__name__ for plain in found.values())
    said = [type(p).__name__ if kinds[type(p).__name__] == 1 else text for text, p in found.items()]
    return [(f"no-meta ({name})", plain) for name, plain in zip(said, found.values(), strict=True)]


def target_scale(test: Any, train: Any) -> float:
    """Standard deviation of all training targets, or without training tasks of all test targets."""
    y = np.concatenate([task.y for task in (train if train is not None else test)])
    return float(y.std()) or 1.0
