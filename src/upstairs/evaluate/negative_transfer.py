"""Where the prior hurt, what these tasks have in common, and what ``guard=True`` would have done."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from sklearn import config_context
from sklearn.tree import DecisionTreeRegressor

from upstairs.errors import TaskError
from upstairs.evaluate.metrics import METRICS
from upstairs.evaluate.result import EvaluationResult
from upstairs.outer.metafeatures import describe, feature_names
from upstairs.tasks.splits import folds as draw_folds
from upstairs.tasks.taskset import TaskSet

__all__ = ["Group", "Guarded", "NegativeTransfer", "negative_transfer"]

LEAST_TASKS = 20
"""With fewer, nothing is said about what tasks have in common."""
DEPTHS = (1, 2)
LEAST_LEAF = 5
FOLDS, PERMUTATIONS, LEVEL = 5, 99, 0.05
FAMILIARITY = "familiarity"


@final
@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that meet some conditions: how many, on how many the prior hurt, and the mean loss that it added (below 0: saved)."""

    conditions: tuple[str, ...]
    tasks: int
    hurt: int
    mean: float

    def __str__(self) -> str:
        where = " and ".join(self.conditions)
        return f"{where}: hurt on {self.hurt} of {self.tasks} tasks, loss {self.mean:+.3g} on average"


@final
@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guarded learner did: mean loss that the prior added, with and without guard, where it hurt and elsewhere."""

    learner: str
    where_hurt: tuple[float, float]
    elsewhere: tuple[float, float]


@final
@dataclass(frozen=True, eq=False)
class NegativeTransfer:
    """Tasks by what the prior did to them.

    Attributes
    ----------
    learner, against, metric : str
    shots : int
    tasks : tuple of str
        From where the prior hurt most to where it helped most.
    loss : array of shape (task,)
        What the prior added to the loss (of a metric of which more is better, what it took from it), mean over draws.
    hurt : int
        On how many tasks that is above zero.
    surely : tuple of str
        Tasks where it is above zero beyond chance: one-sided t tests over draws, Holm's correction over tasks, level 5 %.
        Empty with fewer than three draws.
    groups : tuple of Group
        Leaves of a small tree on descriptions of the tasks; empty if it predicts tasks of other groups no better than chance.
    explained : float
        Share of the variance of ``loss`` that the tree predicts on tasks that it was not grown on; NaN with few tasks.
    p : float
        Share of random assignments of losses to tasks for which a tree predicts as much.
    guarded : Guarded or None
    """

    learner: str
    against: str
    metric: str
    shots: int
    tasks: tuple[str, ...]
    loss: Float[np.ndarray, " task"]
    hurt: int
    surely: tuple[str, ...]
    groups: tuple[Group, ...] = ()
    explained: float = math.nan
    p: float = math.nan
    guarded: Guarded | None = None

    def __str__(self) -> str:
        return "\n".join(self.in_words())

    def in_words(self) -> list[str]:
        """Say it in sentences."""
        said = [
            f"{self.learner} is worse than {self.against} on {self.hurt} of {len(self.tasks)} tasks (shots={self.shots}, {self.metric})"
            + (f", beyond chance on {len(self.surely)}: {', '.join(self.surely[:5])}." if self.surely else ".")
        ]
        if self.groups:
            said.append(
                f"What these tasks have in common (predicts {self.explained:.0%} of the differences on unseen tasks, p = {self.p:.2g}):"
            )
            said += [f"- {group}" for group in self.groups]
        elif math.isnan(self.explained):
            said.append(f"With fewer than {LEAST_TASKS} tasks nothing can be said about what they have in common.")
        else:
            said.append(
                f"Nothing in the descriptions of the tasks tells where it hurts (a small tree predicts {max(self.explained, 0.0):.0%} of "
                f"the differences on unseen tasks, p = {self.p:.2g})."
            )
        if self.guarded is not None:
            (hurt, kept), (rest, cost) = self.guarded.where_hurt, self.guarded.elsewhere
            if (hurt, rest) == (kept, cost):
                said.append("With guard=True nothing would have changed: it kept the prior everywhere.")
            else:
                said.append(
                    f"With guard=True the loss that the prior added on these {self.hurt} tasks goes from {hurt:+.3g} to {kept:+.3g}, and "
                    f"on the others from {rest:+.3g} to {cost:+.3g}."
                )
        return said


def negative_transfer(
    result: EvaluationResult,
    learner: str,
    tasks: TaskSet | None,
    against: str | None = None,
    shots: int | None = None,
    *,
    metric: str | None = None,
    guarded: str | None = None,
    familiarity: Mapping[str, float] | None = None,
    seed: int = 0,
) -> NegativeTransfer:
    """Compare a learner with a prior to one without, task by task.

    Parameters
    ----------
    result : EvaluationResult
    learner : str
    tasks : TaskSet or None
        The test tasks, which are described by their meta-features. None: nothing is said about what they have in common.
    against : str, optional
        By default the learner's own class without a prior ("no-meta").
    shots : int, optional
        The fewest by default: there a prior does most.
    metric : str, optional
        One of which less or more is better. The primary one by default.
    guarded : str, optional
        The same learner with ``guard=True``, if it was measured.
    familiarity : mapping of task to float, optional
        A further description.
    seed : int
        Of the folds and permutations.

    Returns
    -------
    NegativeTransfer

    Raises
    ------
    TaskError
        For a learner, shots or a metric that was not measured, or no task in common.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> import upstairs as up
    >>> train, test = (up.tasks.synthetic.SharedSubspace().sample(20, 30, random_state=seed) for seed in (0, 1))
    >>> result = up.evaluate({"strong": Ridge(1e3), "weak": Ridge(0.1)}, test, shots=20, baselines=None)
    >>> found = result.negative_transfer("strong", test, against="weak")
    >>> found.hurt, found.tasks[0] in test.names
    (20, True)
    """
    metric = metric or result.metric
    shots = result.shots[0] if shots is None else shots
    if not isinstance(METRICS[metric].goal if metric in METRICS else "", str):
        raise TaskError(f"metric={metric!r} must be one of which less or more is better, such as {result.metric!r}.")
    if against is None:
        against = next((name for name in result.baselines if name.startswith("no-meta")), None)
        if against is None:
            raise TaskError("against= must name the learner without a prior, as no 'no-meta' was measured beside it.")
    names, added, draws = _added(result, learner, against, shots, metric)
    order = np.argsort(-added, kind="stable")
    groups: tuple[Group, ...] = ()
    explained = p = math.nan
    if tasks is not None and len(names) >= LEAST_TASKS:
        x, columns, clusters = _descriptions(tasks, names, familiarity or {})
        groups, explained, p = _common(x, added, columns, clusters, seed)
    return NegativeTransfer(
        learner=learner,
        against=against,
        metric=metric,
        shots=shots,
        tasks=tuple(names[n] for n in order.tolist()),
        loss=added[order],
        hurt=int((added > 0).sum()),
        surely=_surely(names, draws, order),
        groups=groups,
        explained=explained,
        p=p,
        guarded=None if guarded is None else _with_guard(result, names, added, guarded, against, shots, metric),
    )


def _added(
    result: EvaluationResult, learner: str, against: str, shots: int, metric: str
) -> tuple[list[str], Float[np.ndarray, " task"], dict[str, np.ndarray]]:
    """Tasks that both were measured on, the mean difference of loss on each, and its values over draws."""
    names, _, values = result.by_task(shots, metric)
    for name in (learner, against):
        if name not in result.learners:
            raise TaskError(f"There is no learner {name!r}; there are {', '.join(map(repr, result.learners))}.")
    pair = values[:, [result.learners.index(learner), result.learners.index(against)]]
    whole = np.flatnonzero(~np.isnan(pair).any(axis=1))
    if not len(whole):
        raise TaskError(f"{learner!r} and {against!r} have no task in common at {shots} shots for {metric!r}.")
    sign = 1.0 if METRICS[metric].goal == "lower" else -1.0
    columns = {name: column[result.columns["shots"] == shots] for name, column in result.columns.items()}
    keyed = [key for key in ("task", "split", "draw", "seed") if key in columns]
    sides = []
    for name in (learner, against):
        of = columns["learner"] == name
        keys = zip(*(columns[key][of].tolist() for key in keyed), strict=True)
        sides.append(dict(zip(keys, columns[metric][of].tolist(), strict=True)))
    gaps: dict[str, list[float]] = {}
    for key, value in sides[0].items():
        gap = sign * (value - sides[1].get(key, math.nan))
        if not math.isnan(gap):
            gaps.setdefault(key[0], []).append(gap)
    kept = [names[n] for n in whole.tolist()]
    return kept, sign * (pair[whole, 0] - pair[whole, 1]), {name: np.array(of) for name, of in gaps.items()}


def _surely(names: Sequence[str], draws: Mapping[str, np.ndarray], order: Int[np.ndarray, " task"]) -> tuple[str, ...]:
    """Tasks whose mean over draws is above zero beyond chance."""
    from scipy.special import stdtr

    p = []
    for name, values in draws.items():
        error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) >= 3 else 0.0
        if error > 1e-9 * abs(float(values.mean())):
            p.append((float(stdtr(len(values) - 1, -values.mean() / error)), name))
    p.sort()
    found = set()
    for rank, (value, name) in enumerate(p):
        if value > LEVEL / (len(p) - rank):
            break
        found.add(name)
    return tuple(names[n] for n in order.tolist() if names[n] in found)


def _descriptions(
    tasks: TaskSet, names: Sequence[str], familiarity: Mapping[str, float]
) -> tuple[Float[np.ndarray, "task feature"], list[str], list[str]]:
    """Meta-features of the tasks, their names without those that are the same everywhere, and the groups."""
    by_name = {task.name: task for task in tasks}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise TaskError(f"tasks must hold the test tasks of the result, but {missing[0]!r} is not among them.")
    kept = [by_name[name] for name in names]
    x = np.array([describe(task.X, task.y, task.kind, with_landmarks=False) for task in kept])
    columns = list(feature_names(with_landmarks=False))
    if all(name in familiarity for name in names):
        x = np.column_stack([x, [familiarity[name] for name in names]])
        columns.append(FAMILIARITY)
    vary = np.flatnonzero(np.ptp(x, axis=0) > 1e-9)
    return x[:, vary], [columns[n] for n in vary.tolist()], [task.group or task.name for task in kept]


def _common(
    x: Float[np.ndarray, "task feature"],
    added: Float[np.ndarray, " task"],
    columns: Sequence[str],
    clusters: Sequence[str],
    seed: int,
) -> tuple[tuple[Group, ...], float, float]:
    """Grow a small tree, if it predicts tasks of other groups better than chance would."""
    if not x.shape[1] or len(set(clusters)) < FOLDS or np.ptp(added) == 0:
        return (), 0.0, 1.0
    parts = draw_folds(clusters, FOLDS, seed)
    rng = np.random.default_rng(seed)
    with config_context(skip_parameter_validation=True, assume_finite=True):
        explained, depth = _explained(x, added, parts)
        chance = [_explained(x, rng.permutation(added), parts)[0] for _ in range(PERMUTATIONS)]
    p = (1 + sum(value >= explained for value in chance)) / (1 + PERMUTATIONS)
    if p > LEVEL or explained <= 0:
        return (), explained, p
    tree = _tree(depth).fit(x, added).tree_
    return tuple(sorted(_leaves(tree, x, added, columns), key=lambda group: -group.mean)), explained, p


def _tree(depth: int) -> DecisionTreeRegressor:
    return DecisionTreeRegressor(max_depth=depth, min_samples_leaf=LEAST_LEAF, random_state=0)


def _explained(
    x: Float[np.ndarray, "task feature"],
    added: Float[np.ndarray, " task"],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[float, int]:
    """Largest share of variance explained on left-out tasks over depths, and the depth."""
    plain = sum(float(np.square(added[left] - added[fit].mean()).sum()) for fit, left in parts)
    found = []
    for depth in DEPTHS:
        error = sum(
            float(np.square(added[left] - _tree(depth).fit(x[fit], added[fit]).predict(x[left])).sum())
            for fit, left in parts
        )
        found.append((1.0 - error / plain, depth))
    return max(found, key=lambda pair: (pair[0], -pair[1]))


def _leaves(
    tree: Any, x: Float[np.ndarray, "task feature"], added: Float[np.ndarray, " task"], columns: Sequence[str]
) -> list[Group]:
    found = []

    def down(node: int, rows: np.ndarray, said: tuple[str, ...]) -> None:
        if tree.children_left[node] < 0:
            gaps = added[rows]
            found.append(Group(said, len(rows), int((gaps > 0).sum()), float(gaps.mean())))
            return
        feature, cut = int(tree.feature[node]), float(tree.threshold[node])
        below = x[rows, feature] <= cut
        name = columns[feature]
        down(int(tree.children_left[node]), rows[below], (*said, f"{name} at most {cut:.3g}"))
        down(int(tree.children_right[node]), rows[~below], (*said, f"{name} above {cut:.3g}"))

    down(0, np.arange(len(x)), ())
    return found


def _with_guard(
    result: EvaluationResult,
    names: Sequence[str],
    added: Float[np.ndarray, " task"],
    guarded: str,
    against: str,
    shots: int,
    metric: str,
) -> Guarded:
    known, other, _ = _added(result, guarded, against, shots, metric)
    place = {name: n for n, name in enumerate(known)}
    both = [n for n, name in enumerate(names) if name in place]
    with_guard = np.array([other[place[names[n]]] for n in both])
    without = added[both]
    hurt = without > 0

    def means(rows: np.ndarray) -> tuple[float, float]:
        return (float(without[rows].mean()), float(with_guard[rows].mean())) if rows.any() else (0.0, 0.0)

    return Guarded(guarded, means(hurt), means(~hurt))
