"""Learn over tasks which base classifier to trust: a meta decision tree, and what its leaves expect of a new task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.inner.tree_nodes import NAMES
from upstairs.learners.base_classifiers import BASES, Bases, checked_bases, known_name, out_of_fold
from upstairs.learners.tuner_prior import class_path
from upstairs.outer.fits import run_fits
from upstairs.outer.leaf_counts import learned_counts
from upstairs.outer.meta_tree import attributes, counted, meta_tree
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.fingerprint import row_codes
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = [
    "FAMILY",
    "MetaRows",
    "bases_of",
    "counts_of",
    "learn_combination",
    "learn_combination_on",
    "meta_rows",
    "nodes_of",
    "ordered",
]

FAMILY = "combination"


class MetaRows(NamedTuple):
    """Rows that base classifiers were not fitted to: how sure each of them was, and which were right."""

    x: Float[np.ndarray, "row attribute"]
    right: Bool[np.ndarray, "row base"]


def ordered(X: Any, y: Int[np.ndarray, " row"]) -> tuple[Any, Int[np.ndarray, " row"]]:
    """Put rows into an order that their content alone says, so that folds do not depend on how rows came."""
    order = np.lexsort((y, row_codes(X, y)))
    return X.take(order) if isinstance(X, Table) else X[order], y[order]


def meta_rows(
    bases: Bases, x: Float[np.ndarray, "row column"], y: Int[np.ndarray, " row"], *, classes: int, cv: int, seed: int
) -> MetaRows:
    """Make the meta-rows of a task, by cross-validation."""
    probabilities = out_of_fold(bases, x, y, classes=classes, cv=cv, seed=seed)
    return MetaRows(attributes(probabilities), probabilities.argmax(axis=2) == y[:, None])


def learn_combination(
    tasks: TaskSet,
    estimators: Any = None,
    *,
    cv: int = 5,
    min_samples_leaf: int | None = None,
    max_depth: int | None = None,
    encode: bool = True,
    seed: int = 0,
    n_jobs: int | None = 1,
) -> Prior:
    """Learn one tree from the meta-rows of all tasks, and the Beta prior of its leaves from how tasks differ.

    Tasks may have different columns and different numbers of classes.

    Parameters
    ----------
    tasks : TaskSet
        Classification tasks.
    estimators : list, optional
        See `upstairs.learners.combine.CombinedClassifier`.
    cv : int
        Folds.
    min_samples_leaf : int, optional
        Meta-rows, over all tasks, that a leaf holds. None: 3 % of them.
    max_depth : int, optional
    encode : bool
        Whether the columns of arrays are centred and scaled; data frames always are.
    seed : int
        For folds and base classifiers.
    n_jobs : int, optional
        Processes; the result does not depend on it. None: as `joblib.parallel_config` says, or 1.

    Returns
    -------
    Prior
        Of the family ``"combination"``. Settings: names and classes of the estimators. Arrays: the tree, the counts that the
        leaves start from, and the counts of every task, from which `learn_combination_on` goes on.

    Raises
    ------
    TaskError
        If the tasks are a regression.

    References
    ----------
    Todorovski, L. and Dzeroski, S. (2003). Combining classifiers with meta decision trees. Machine Learning 50, 223-249. There
    a tree is grown for one task; one for many, and leaves with priors, are this library's.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def task(n):
    ...     X = rng.normal(size=(60, 3))
    ...     return Task(X, (X[:, 0] * X[:, 1] > 0).astype(int), name=f"t{n}")
    >>> prior = learn_combination(TaskSet([task(n) for n in range(4)]), ["naive-bayes", "logistic-regression"], cv=3)
    >>> prior.family, prior.arrays["counts/rows"][:, 0].tolist()
    ('combination', [60.0, 60.0, 60.0, 60.0])
    """
    bases = checked_bases(estimators)
    plan = _Plan(bases, cv, seed, encode)
    tasks = tasks.canonical()
    found = _all_meta_rows(plan, tasks, n_jobs)
    tree, _, _ = meta_tree(
        np.concatenate([rows.x for rows in found]),
        np.concatenate([rows.right for rows in found]),
        least=min_samples_leaf,
        depth=max_depth,
    )
    settings = {
        "kind": "classification",
        "labels": "own",
        "estimators": [{"name": name, "class": class_path(base), "known": known_name(base)} for name, base in bases],
        "cv": cv,
        "seed": seed,
        "encode": encode,
    }
    return _prior(settings, tree, [counted(tree, *rows) for rows in found])


def learn_combination_on(prior: Prior, tasks: TaskSet, estimators: Any = None, *, n_jobs: int | None = 1) -> Prior:
    """Learn from more tasks: the tree stays, what its leaves expect is estimated from all tasks, the old and the new.

    Parameters
    ----------
    prior : Prior
        Made by `learn_combination`.
    tasks : TaskSet
        Tasks that it has not seen.
    estimators : list, optional
        Needed where they are not the library's own; those of the prior.
    n_jobs : int, optional

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> tasks = TaskSet([Task(rng.normal(size=(40, 2)), np.arange(40) % 2, name=f"t{n}") for n in range(5)])
    >>> prior = learn_combination(tasks[:3], ["naive-bayes", "k-neighbors"], cv=2)
    >>> learn_combination_on(prior, tasks[3:]).arrays["counts/rows"].shape[0]
    5
    """
    settings = prior.settings
    plan = _Plan(bases_of(prior, estimators), settings["cv"], settings["seed"], settings["encode"])
    tree = nodes_of(prior)
    new = [counted(tree, *rows) for rows in _all_meta_rows(plan, tasks.canonical(), n_jobs)]
    old = zip(prior.arrays["counts/rows"], prior.arrays["counts/right"], strict=True)
    return _prior(dict(settings), tree, [*old, *new])


def bases_of(prior: Any, estimators: Any) -> list[tuple[str, Any]]:
    """Return the base classifiers that a prior was learned with, from the prior or as given.

    Raises
    ------
    PriorMismatchError
        If the prior is not of this family, or the estimators given are others, or code that must be given is not.
    """
    if not isinstance(prior, Prior) or prior.family != FAMILY:
        said = f"of the family {prior.family!r}" if isinstance(prior, Prior) else f"a {type(prior).__name__}"
        raise PriorMismatchError(f"prior must be a Prior of the family {FAMILY!r} or None, but is {said}.")
    learned = prior.settings["estimators"]
    if estimators is None:
        unknown = next((entry for entry in learned if entry["known"] is None), None)
        if unknown is not None:
            raise PriorMismatchError(
                f"estimators must be given, because the prior was learned with {unknown['name']!r} ({unknown['class']}), whose "
                "settings are not stored; pass the same list of classifiers."
            )
        return [(entry["name"], BASES[entry["known"]]()) for entry in learned]
    bases = checked_bases(estimators)
    given = [(name, class_path(base)) for name, base in bases]
    wanted = [(entry["name"], entry["class"]) for entry in learned]
    if given != wanted:
        raise PriorMismatchError(
            f"estimators are {', '.join(name for name, _ in given)}, but the prior was learned with "
            f"{', '.join(f'{name} ({path})' for name, path in wanted)}; leave them at None or pass the same, in this order."
        )
    return bases


def nodes_of(prior: Prior) -> dict[str, np.ndarray]:
    """Return the tree of a prior."""
    return {name: prior.arrays[f"tree/{name}"] for name in NAMES}


def counts_of(prior: Prior) -> tuple[Float[np.ndarray, " node"], Float[np.ndarray, "node base"]]:
    """Return what the nodes of a prior start from: rows, and right predictions."""
    return prior.arrays["prior/rows"], prior.arrays["prior/right"]


@dataclass(frozen=True)
class _Plan:
    bases: Bases
    cv: int
    seed: int
    encode: bool

    def __call__(self, task: Task) -> MetaRows:
        labels, y = np.unique(task.y, return_inverse=True)
        X, y = ordered(task.X, y)
        x = Encoder.fit(X).encode(X) if self.encode or isinstance(X, Table) else X
        try:
            return meta_rows(self.bases, x, y, classes=len(labels), cv=self.cv, seed=self.seed)
        except PriorMismatchError as error:
            raise TaskError(f"Task {task.name!r} ({len(task)} rows): {error}") from error


def _all_meta_rows(plan: _Plan, tasks: TaskSet, n_jobs: int | None) -> list[MetaRows]:
    if tasks.kind != "classification":
        raise TaskError(f"tasks must be a classification to combine classifiers, but are a {tasks.kind}.")
    names = [f"task {name!r}" for name in tasks.names]
    found: dict[int, MetaRows] = dict(run_fits(plan, tasks, names=names, n_jobs=n_jobs))
    return [found[number] for number in range(len(names))]


def _prior(settings: Mapping[str, Any], tree: Mapping[str, np.ndarray], counts: list[tuple[Any, Any]]) -> Prior:
    rows, right = (np.stack(parts) for parts in zip(*counts, strict=True))
    start_rows, start_right = learned_counts(rows, right)
    arrays = {f"tree/{name}": tree[name] for name in NAMES}
    arrays |= {"prior/rows": start_rows, "prior/right": start_right, "counts/rows": rows, "counts/right": right}
    return Prior(FAMILY, settings, arrays, {"tasks": len(rows), "rows": int(rows[:, 0].sum())})
