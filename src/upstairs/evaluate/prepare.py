"""Check what is to be evaluated, and make learners and baselines ready."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, final

import numpy as np
from sklearn.base import clone

from upstairs.errors import TaskError
from upstairs.learners.baselines import BASELINES, Baseline, Situated, baseline_reasons, make_baseline
from upstairs.learners.meta import MetaLearner
from upstairs.learners.registry import storable
from upstairs.outer.peak import Peak
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet, check_disjoint

__all__ = ["Entry", "Kept", "Plan", "check_learners", "plans", "situation", "target_scale"]

AVOIDABLE = ("needs train=", "needs tasks with the same columns")
"""Reasons to leave a baseline out that a reader should hear of."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@final
@dataclass(frozen=True)
class Entry:
    """A learner that is ready: with ``how="adapt"`` it adapts, with "fit" a copy is fitted to every support."""

    name: str
    learner: Any
    how: Literal["adapt", "fit"]
    seconds: float = 0.0
    megabytes: float = float("nan")
    baseline: bool = False
    seed: int | None = None


@final
@dataclass(frozen=True)
class Plan:
    """A learner that ``ready`` makes ready; ``seed`` is None where no seed changes it.

    ``said`` names what its numbers depend on beside episodes and training tasks: class, settings, prior.
    """

    name: str
    ready: Callable[[], Entry]
    said: str
    baseline: bool = False
    seed: int | None = None
    keeps: bool = False
    """Whether what ``ready`` makes is a meta-learner of this library, which a record can hold."""


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


@final
class Kept:
    """One fitted meta-learner a seed (None: the same for all), which are measured as one learner."""

    def __init__(self, by_seed: dict[int | None, Any]) -> None:
        self.by_seed = by_seed

    def __getattr__(self, name: str) -> Any:
        return getattr(next(iter(self.by_seed.values())), name)


def plans(
    learners: Mapping[str, Any], wanted: Any, at: Situated, train: Any, notes: list[str], seeds: Sequence[int] | None
) -> list[Plan]:
    """Say which learners and baselines are measured; what a reader should know goes into ``notes``.

    With ``seeds``, a learner with a random state that is not fixed by a prior comes once a seed.
    """
    found: list[Plan] = []
    for name, learner in learners.items():
        if isinstance(learner, Kept):
            for seed, kept in learner.by_seed.items():
                found.append(
                    replace(_plan(name, kept, train, None), ready=partial(_fitted, name, kept, seed), seed=seed)
                )
            continue
        free = seeds is not None and has_seed(learner)
        for seed in seeds if free and seeds is not None else (None,):
            found.append(_plan(name, learner, train, seed))
    if seeds is not None and all(plan.seed is None for plan in found):
        raise TaskError(
            "seeds= changes nothing: every learner is fitted already or has no random_state; pass unfitted ones, or leave seeds out."
        )
    return found + _baseline_plans(wanted, learners, at, train, notes)


def _fitted(name: str, learner: Any, seed: int | None) -> Entry:
    return Entry(name, learner, "adapt", seed=seed)


def has_seed(learner: Any) -> bool:
    """Whether a seed changes a learner: one still to be fitted to tasks, or an estimator whose ``random_state`` is None."""
    if hasattr(learner, "prior_") or not hasattr(learner, "get_params"):
        return False
    states = _random_states(learner)
    return any(value is None or hasattr(learner, "meta_fit") for value in states.values())


def _random_states(learner: Any) -> dict[str, Any]:
    return {key: value for key, value in learner.get_params().items() if key.split("__")[-1] == "random_state"}


def _plan(name: str, learner: Any, train: Any, seed: int | None) -> Plan:
    made = isinstance(learner, MetaLearner) and storable(learner)
    if not hasattr(learner, "adapt"):
        return Plan(name, lambda: Entry(name, learner, "fit", seed=seed), _described(learner), seed=seed)
    if not hasattr(learner, "meta_fit") or hasattr(learner, "prior_"):
        return Plan(name, partial(_fitted, name, learner, None), _described(learner), keeps=made)
    if train is None:
        raise TaskError(f"Learner {name!r} is not fitted; pass train= so that it can be, or call meta_fit first.")
    template = clone(learner, safe=False)
    if seed is not None:
        template.set_params(**dict.fromkeys(_random_states(template), seed))

    def ready() -> Entry:
        start = time.perf_counter()
        with Peak() as peak:
            fitted = template.meta_fit(train)
        return Entry(name, fitted, "adapt", time.perf_counter() - start, peak.megabytes, seed=seed)

    return Plan(name, ready, _described(template), seed=seed, keeps=made)


def _described(learner: Any) -> str:
    """Name class, settings and prior of a learner; equal for equal ones, also in another process."""
    cls = type(learner)
    said = f"{cls.__module__}.{cls.__qualname__}"
    if hasattr(learner, "get_params"):
        said += repr(sorted(learner.get_params().items()))
    prior = getattr(learner, "prior_", None)
    return _ADDRESS.sub("", said + (f" prior {prior.hash}" if isinstance(prior, Prior) else ""))


def _baseline_plans(wanted: Any, learners: Mapping[str, Any], at: Situated, train: Any, notes: list[str]) -> list[Plan]:
    """Say which baselines are wanted and apply."""
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
    found: list[Plan] = []
    made: dict[str, Entry] = {}
    for name in names:
        if name == "no-meta":
            for said, plain in _plain(learners, at):
                entry = Entry(said, make_baseline(name, at, plain=plain), "adapt", baseline=True)
                found.append(Plan(said, partial(_same, entry), _described(plain), baseline=True))
        else:
            found.append(Plan(name, partial(_baseline, name, at, train, made), name, baseline=True))
    return found


def _same(entry: Entry) -> Entry:
    return entry


def _baseline(name: str, at: Situated, train: Any, made: dict[str, Entry]) -> Entry:
    """Fit a baseline; "pooled + offset" stands on the pooled model, which is fitted once."""
    pooled = None
    if name == "pooled + offset" and train is not None:
        pooled = made["pooled"] if "pooled" in made else _baseline("pooled", at, train, made)
    baseline: Baseline = make_baseline(name, at, **({"pooled": pooled.learner} if pooled else {}))
    start = time.perf_counter()
    with warnings.catch_warnings(), Peak() as peak:
        warnings.simplefilter("ignore")
        baseline = baseline.meta_fit(train) if train is not None else baseline
    seconds, megabytes = time.perf_counter() - start, peak.megabytes if train is not None else float("nan")
    if pooled is not None:
        seconds, megabytes = seconds + pooled.seconds, float(np.fmax(megabytes, pooled.megabytes))
    made[name] = Entry(name, baseline, "adapt", seconds, megabytes, baseline=True)
    return made[name]


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
