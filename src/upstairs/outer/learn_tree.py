"""Learn a tree with a prior over many tasks, and choose its form on tasks that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import expit

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.logistic import BayesianLogistic
from upstairs.inner.prior_tree import columns_of, sides
from upstairs.inner.rule import Rows
from upstairs.inner.tree_nodes import ancestors, descend
from upstairs.outer.grow_tree import Grown, grow_tree
from upstairs.outer.leaf_prior import Leaves
from upstairs.outer.offsets import Offset
from upstairs.outer.pooling import Data, make_folds
from upstairs.outer.replays import Replay, replays
from upstairs.outer.thinning import thinned

__all__ = ["LearnedTree", "TreeForm", "forms_of", "learn_tree", "relearn_tree"]

FOLDS, FOLDS_FOR_FEW, FEW = 3, 5, 60
SHARES = (0.0, 1.0)
LEAVES = (4, 8, 16, 32)
SPREADS = ("level", "diagonal", "full")
WIDE = 150
"""With more columns pooled predictions are means of models of single tasks."""
MOST_TASK_ROWS = 1000
"""Rows of a task that splits are sought on."""
MOST_TASKS = 400
"""Tasks on which forms are compared; the chosen one is learned from all."""
IN_THE_RUNNING, MOST_IN_THE_RUNNING = 0.02, 8
"""Forms whose loss in the first fold is no more (relative) than this above the least are compared in the other folds."""
ROUGH = {"regression": (60, 1e-3), "classification": (15, 1e-2)}
FINE = {"regression": (300, 1e-5), "classification": (100, 1e-4)}
"""Steps and tolerance of what is compared, and of what is kept."""


@dataclass(frozen=True, slots=True)
class TreeForm:
    """A form that the prior can take: pooled prediction, how splits were valued, leaves, and what differs between tasks."""

    pooled: str
    share: float
    leaves: int
    spread: str

    @property
    def name(self) -> str:
        """Short name for reports."""
        stands = "" if self.pooled == "none" else f" on {self.pooled}"
        if self.leaves == 1:
            return f"no split{stands}"
        valued = "own" if self.share else "common"
        return f"{self.leaves} leaves{stands}, splits by {valued} effects, {self.spread}"


@dataclass(frozen=True, slots=True)
class LearnedTree:
    """A learned prior and how it was chosen; see `upstairs.outer.choose.Choice`."""

    params: dict[str, np.ndarray]
    settings: dict[str, Any]
    report: list[dict[str, Any]]
    reason: str
    folds: list[tuple[dict[str, np.ndarray], np.ndarray]]


def forms_of(prior_mean: str, leaves: int | None, features: int, kind: str) -> list[TreeForm]:
    """Return the forms that are compared.

    Examples
    --------
    >>> len(forms_of("none", 4, 3, "regression"))
    6
    """
    wide = features > WIDE and kind == "classification"
    means = ("none", "mean" if wide else "linear", *(() if wide else ("boosting",)))
    if prior_mean != "auto":
        means = ("mean" if wide and prior_mean == "linear" else prior_mean,)
    sizes = LEAVES if leaves is None else (leaves,)
    found = [TreeForm(mean, 0.0, 1, "level") for mean in means if mean != "none" and leaves is None]
    return found + [
        TreeForm(mean, share, size, spread)
        for mean in means
        for size in sizes
        for share in (SHARES if size > 1 else SHARES[:1])
        for spread in (SPREADS if size > 1 else SPREADS[:1])
    ]


@dataclass(frozen=True)
class Bench:
    """Everything that forms are learned from: trees and pooled predictions are made once for each set of folds."""

    data: Data
    most_leaves: int
    offsets: dict[str, Offset] = field(default_factory=dict)
    grown: dict[tuple[str, float, frozenset[int]], tuple[Grown, Leaves]] = field(default_factory=dict)
    laid: dict[tuple[str, float, frozenset[int]], np.ndarray] = field(default_factory=dict)

    def offset(self, pooled: str) -> Offset:
        """Return a pooled prediction."""
        return self.offsets.setdefault(pooled, Offset(self.data, pooled))

    def tree(self, form: TreeForm, folds: frozenset[int]) -> tuple[Grown, Leaves]:
        """Grow the largest tree for a form, and lay out its columns."""
        key = form.pooled, form.share, folds
        if key not in self.grown:
            part, told = self.data.part(folds), self.offset(form.pooled).told(folds)
            residual, noise = _residual(part, told)
            rows, offsets = thinned(part.offsets, MOST_TASK_ROWS, part.seed)
            x = part.x[rows]

            def grow(noise: np.ndarray) -> Grown:
                found = residual[rows]
                return grow_tree(x, found, offsets, noise=noise, share=form.share, leaves=self.most_leaves)

            grown = grow(noise)
            if (
                part.kind == "regression" and len(grown.feature) > 1
            ):  # noise is less than it was before there was a tree
                phi = _columns(grown.first(self.most_leaves), part.x, told)
                leaves = Leaves.of(part, phi, told.shape[1])
                rough = leaves.learn(np.arange(phi.shape[1]), "diagonal", most_steps=30, tolerance=1e-3)
                grown = grow(rough["noise"])
            tree = grown.first(self.most_leaves)
            self.grown[key] = grown, Leaves.of(part, _columns(tree, part.x, told), told.shape[1])
        return self.grown[key]

    def learn(self, form: TreeForm, folds: frozenset[int], precision: tuple[int, float]) -> dict[str, np.ndarray]:
        """Learn the prior of a form on the tasks of some folds; the columns that it belongs to are `columns`."""
        _, leaves = self.tree(form, folds)
        return leaves.learn(self.columns(form, folds), form.spread, most_steps=precision[0], tolerance=precision[1])

    def columns(self, form: TreeForm, folds: frozenset[int]) -> Int[np.ndarray, " column"]:
        """Return which columns of the largest tree a form has."""
        grown, leaves = self.tree(form, folds)
        inner = np.flatnonzero(grown.feature >= 0)
        kept = np.flatnonzero(grown.right[inner] < 2 * form.leaves)
        width = leaves.phi.shape[1]
        return np.concatenate([[0], 1 + kept, np.arange(width - leaves.told, width)]).astype(np.intp)

    def unseen(
        self, form: TreeForm, folds: frozenset[int], x: Float[np.ndarray, "row feature"]
    ) -> Float[np.ndarray, "row column"]:
        """Return the columns of a form of rows of other tasks, always the same rows for the same folds."""
        key = form.pooled, form.share, folds
        if key not in self.laid:
            grown, _ = self.tree(form, folds)
            self.laid[key] = _columns(grown.first(self.most_leaves), x, self.offset(form.pooled).of(folds, x))
        return self.laid[key][:, self.columns(form, folds)]

    def assembled(
        self, form: TreeForm, folds: frozenset[int], learned: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the params of `upstairs.inner.prior_tree.PriorTree`."""
        grown, _ = self.tree(form, folds)
        offset = self.offset(form.pooled)
        tree, x = grown.first(form.leaves - 1), self.data.part(folds).x
        params = {f"tree/{name}": array for name, array in tree.items()}
        params["tree/offset"] = offsets_of(tree, x, offset.told(folds))
        return params | offset.arrays(folds) | dict(learned)


def learn_tree(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    groups: Shaped[np.ndarray, " task"],
    *,
    kind: str,
    ways: int,
    shots: int | tuple[int, int] | None = None,
    forms: Sequence[TreeForm],
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> LearnedTree:
    """Learn a prior; its form is chosen on unseen tasks.

    Parameters
    ----------
    x, y, offsets, groups
        Encoded training rows task after task, standardised targets or class numbers, and the group of every task.
    kind, ways
        "regression" or "classification", and the number of classes.
    shots
        Support rows that the prior is for; see `upstairs.outer.replays`.
    forms
        See `forms_of`.
    validation
        Rows of validation tasks; None: folds over the training tasks.
    seed
        Draws folds and supports.
    """
    groups = np.asarray(groups)
    groups = np.arange(len(offsets) - 1) if len(np.unique(groups)) < 2 else groups
    chosen = np.arange(len(groups))
    if len(groups) > MOST_TASKS:
        chosen = np.sort(np.random.default_rng([seed, 5]).permutation(len(groups))[:MOST_TASKS])
    most = FOLDS if len(chosen) > FEW else FOLDS_FOR_FEW
    whole = Data(x, np.asarray(y), np.asarray(offsets), np.zeros(len(groups), dtype=np.int64), kind, ways, seed)
    fold = np.full(len(groups), -1)
    fold[chosen] = make_folds(groups[chosen], most, seed)
    whole = Data(whole.x, whole.y, whole.offsets, fold, kind, ways, seed)
    data = whole.part(set(fold[chosen].tolist()))
    bench = Bench(data, max(form.leaves for form in forms))
    every = frozenset(data.fold.tolist())
    losses: list[dict[int, np.ndarray]] = [{} for _ in forms]
    running = list(range(len(forms)))
    if validation is not None:
        test = Data(*validation, np.zeros(len(validation[2]) - 1, dtype=np.int64), kind, ways, seed)
        parts = [(every, test, np.arange(len(test.fold)))]
    else:
        parts = [(every - {k}, data.part({k}), chosen[data.fold == k]) for k in sorted(every)]
    for number, (folds, test, _) in enumerate(parts):
        drawn = list(replays(test, shots))
        for k in running:
            learned = bench.learn(forms[k], folds, ROUGH[kind])
            for size, loss in _losses(learned, bench.unseen(forms[k], folds, test.x), test, drawn).items():
                losses[k][size] = np.concatenate([losses[k].get(size, np.zeros(0)), loss])
        if number == 0:
            running = _in_the_running(losses)
    best, report, reason = _decide(forms, losses, running)
    form = forms[best]
    final = bench if len(chosen) == len(groups) else Bench(_unfolded(whole, most), form.leaves)
    every_task = frozenset(final.data.fold.tolist())
    params = final.assembled(form, every_task, final.learn(form, every_task, FINE[kind]))
    judged = []
    for held, _, numbers in parts:
        kept = params if validation is not None else bench.assembled(form, held, bench.learn(form, held, FINE[kind]))
        judged.append((kept, numbers))
    settings = {"kind": kind, "ways": int(ways), "form": asdict(form)}
    return LearnedTree(params, settings, report, reason, judged)


def relearn_tree(
    settings: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
) -> dict[str, np.ndarray]:
    """Learn the prior of the leaves anew from (more) tasks; tree, pooled prediction and habits of growing stay."""
    form, kind = TreeForm(**settings["form"]), settings["kind"]
    fold = np.zeros(len(offsets) - 1, dtype=np.int64)
    data = Data(x, np.asarray(y), np.asarray(offsets), fold, kind, settings["ways"], 0)
    phi = columns_of(params, x[None])[0][0]
    leaves = Leaves.of(data, phi, params["tree/offset"].shape[1])
    steps, tolerance = FINE[kind]
    learned = leaves.learn(np.arange(phi.shape[1]), form.spread, most_steps=steps, tolerance=tolerance)
    return {**params, **learned}


def offsets_of(
    tree: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"], told: Float[np.ndarray, "row output"]
) -> Float[np.ndarray, "node output"]:
    """Return the mean pooled prediction of the rows that come by at every node."""
    by = ancestors(tree)[descend(tree, x[None])[0]].astype(float)
    return (by.T @ told) / np.maximum(by.sum(axis=0), 1.0)[:, None]


def _unfolded(data: Data, most: int) -> Data:
    """The same tasks, all of them in folds (by which pooled predictions are out of fold)."""
    fold = make_folds(np.arange(len(data.fold)), most, data.seed)
    return Data(data.x, data.y, data.offsets, fold, data.kind, data.ways, data.seed)


def _columns(
    tree: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"], told: Float[np.ndarray, "row output"]
) -> Float[np.ndarray, "row column"]:
    inner = np.flatnonzero(tree["feature"] >= 0)
    return np.concatenate([np.ones((len(x), 1)), sides(tree, inner)[descend(tree, x[None])[0]], told], axis=1)


def _residual(data: Data, told: Float[np.ndarray, "row output"]) -> tuple[np.ndarray, np.ndarray]:
    """What pooled predictions leave to explain, and the variance of a row around its own task."""
    if data.kind == "regression":
        residual = data.y[:, None] - told if told.shape[1] else data.y[:, None].astype(float)
        task = np.repeat(np.arange(len(data.fold)), np.diff(data.offsets))
        mean = np.bincount(task, residual[:, 0]) / np.bincount(task)
        return residual, np.array([np.square(residual[:, 0] - mean[task]).mean()])
    binary = data.ways <= 2
    onehot = (data.y[:, None] == (np.array([1]) if binary else np.arange(data.ways))).astype(float)
    if told.shape[1] == 0:
        p = np.broadcast_to(onehot.mean(axis=0), onehot.shape)
    elif binary:
        p = expit(told)
    else:
        p = np.exp(told - np.logaddexp.reduce(told, axis=1)[:, None])
    return onehot - p, (p * (1.0 - p)).mean(axis=0)


def _losses(
    params: Mapping[str, np.ndarray], phi: Float[np.ndarray, "row column"], test: Data, drawn: Sequence[Replay]
) -> dict[int, Float[np.ndarray, " task"]]:
    """Loss on unseen tasks by number of support rows."""
    rule: Any = BayesianLinear() if test.kind == "regression" else BayesianLogistic()
    found = {}
    for replay in drawn:
        support = Rows(phi[replay.support], test.y[replay.support], replay.all_support)
        state = rule.adapt_on(params, support.x, support)
        found[replay.size] = replay.loss(rule.predict_on(params, state, phi[replay.query]), test.y)
    return found


def _in_the_running(losses: Sequence[Mapping[int, np.ndarray]]) -> list[int]:
    """Forms that are worth comparing further."""
    mean = _relative(losses, list(range(len(losses))))
    order = np.argsort(mean, kind="stable")[:MOST_IN_THE_RUNNING]
    return sorted(int(k) for k in order if mean[k] <= (1.0 + IN_THE_RUNNING) * mean[order[0]])


def _relative(losses: Sequence[Mapping[int, np.ndarray]], forms: Sequence[int]) -> Float[np.ndarray, " form"]:
    """Mean loss of forms over tasks and sizes, every size relative to the mean form."""
    sizes = [size for size in losses[forms[0]]]
    if not sizes:
        return np.zeros(len(forms))
    table = np.array([[losses[k][size].mean() for size in sizes] for k in forms])
    return (table / np.maximum(table.mean(axis=0), 1e-300)).mean(axis=1)


def _decide(
    forms: Sequence[TreeForm], losses: Sequence[Mapping[int, np.ndarray]], running: Sequence[int]
) -> tuple[int, list[dict[str, Any]], str]:
    """The best form, a report, and a sentence."""
    if not losses[running[0]]:
        best = min(running, key=lambda k: (forms[k].leaves, forms[k].spread != "diagonal"))
        return best, [], f"{forms[best].name}: too few tasks or rows to compare forms"
    mean = _relative(losses, running)
    order = np.argsort(mean, kind="stable")
    best = running[int(order[0])]
    report = [
        {
            "name": forms[running[k]].name,
            "loss": float(mean[k]),
            "sizes": {int(size): float(loss.mean()) for size, loss in losses[running[k]].items()},
        }
        for k in order
    ]
    if len(forms) == 1:
        return best, report, f"{forms[best].name}: as asked for"
    reason = f"{forms[best].name}: least loss on unseen tasks"
    if len(order) > 1:
        reason += f"; next is {forms[running[int(order[1])]].name} ({mean[order[1]] / mean[order[0]] - 1.0:+.1%})"
    return best, report, reason
