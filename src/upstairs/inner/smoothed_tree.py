"""One decision tree a task, each node's estimate pulled towards its parent's, and a rule that turns probabilities into decisions.

The tree is scikit-learn's; what it found is kept as arrays. Smoothing and decisions are computed from those arrays when
they are asked for, so that several values of their settings cost one fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn import config_context
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from upstairs.inner.class_costs import override_costs, with_costs
from upstairs.inner.row_order import row_key
from upstairs.inner.rule import Categorical, Gaussian, Params, PlainRule, Rows, State, log_density
from upstairs.inner.tree_nodes import NAMES, TreeView, depths, descend, parents

__all__ = ["CRITERIA", "SQRT", "SmoothedTree", "along_path"]

CRITERIA: Mapping[str, tuple[str, ...]] = {
    "classification": ("gini", "entropy"),
    "regression": ("squared_error", "absolute_error"),
}
"""What splits are chosen by, in the order of the numbers in ``params``."""
ALL, SQRT, LOG2 = 0.0, -1.0, -2.0
"""How ``max_features`` is written where it is no number: all columns, or a root or logarithm of their number."""
_ROOT_ROWS = 1.0
"""Rows that the estimate before any row is seen (all classes alike; the mean target) counts as, where trees are smoothed."""
_LEAST_VARIANCE = 1e-12
_LARGEST = float(np.finfo(np.float32).max)
_NUMBERS = (
    "max_depth",
    "min_samples_leaf",
    "min_samples_split",
    "criterion",
    "max_features",
    "ccp_alpha",
    "smoothing",
    "decision_power",
    "spread",
)


@final
@dataclass(frozen=True, slots=True)
class SmoothedTree(PlainRule):
    """One decision tree a task [1]_, with m-estimates along its paths [2]_.

    A node of n rows with raw estimate r (class shares, or the mean target) says ``(n r + s parent) / (n + s)``, where
    ``parent`` is what its parent says and s is ``smoothing``; the root is pulled towards equal shares (or the mean
    target) with the weight of one row, or of s if that is less. With s = 0 predictions are those of scikit-learn.
    Decisions go to the class with the largest ``p / share^a``, where ``share`` is the class's share of the rows of
    the task and a is ``decision_power``: 0 the most probable class, 1 as if all classes were equally frequent.

    ``params``: scikit-learn's settings as numbers (``max_depth`` infinite: no bound; ``criterion``: its place in
    `CRITERIA`; shares below 1 where scikit-learn takes a share), ``class_cost`` (way), ``balanced`` if classes are to count
    the same, ``smoothing``, ``decision_power``, and ``spread``, which variances are multiplied by. ``state``: the nodes
    (`upstairs.inner.tree_nodes.NAMES`), and for each its raw ``value`` (output), ``weight`` and number of ``rows``, and
    of a regression ``scatter``, the mean squared deviation from ``value``.

    Departures: hierarchical shrinkage [3]_ divides by the rows of the parent; here a node's own rows count, as in [2]_.
    A regression's target is scaled by the caller, so that ``ccp_alpha`` is a share of its variance. The variance at a node is
    ``(n scatter + s' parent) / (n + s' - 1)`` with s' at least 1: the few rows of a leaf look too much alike.

    References
    ----------
    .. [1] Breiman, L. et al. (1984). Classification and regression trees.
    .. [2] Buntine, W. (1992). Learning classification trees. Statistics and Computing 2, section 5 (smoothing along paths).
    .. [3] Agarwal, A. et al. (2022). Hierarchical shrinkage: improving the accuracy and interpretability of tree-based
       methods. ICML, equation 2.

    Examples
    --------
    >>> rule, x, y = SmoothedTree(), np.arange(4.0)[:, None], np.array([0, 0, 1, 1])
    >>> rows = Rows(x[None], y[None], np.ones((1, 4), dtype=bool))
    >>> for smoothing in (0.0, 2.0):
    ...     params = rule.override(rule.own_params(x, y, 2), {"smoothing": smoothing})
    ...     print(rule.predict(params, rule.adapt(params, rows), x[None, :1]).probability.tolist())
    [[[1.0, 0.0]]]
    [[[0.75, 0.25]]]
    """

    kind: str = "classification"

    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int) -> Params:
        """The defaults of scikit-learn: a tree that is grown until its leaves are pure, no smoothing, the most probable class."""
        numbers = {"max_depth": np.inf, "min_samples_leaf": 1.0, "min_samples_split": 2.0, "spread": 1.0}
        found = {name: np.asarray(numbers.get(name, 0.0)) for name in _NUMBERS}
        return found | {"class_cost": np.ones(ways if self.kind == "classification" else 0)}

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take settings as `upstairs.learners.tree_arguments.as_numbers` writes them."""
        given = {name: np.asarray(float(settings[name])) for name in _NUMBERS if name in settings}
        return override_costs(dict(params) | given, settings)

    def adapt(self, params: Params, support: Rows) -> State:
        """Grow the tree of every task; states are padded to the largest."""
        parts = []
        for number, real in enumerate(support.mask):
            weight = None if support.weight is None else support.weight[number][real]
            parts.append(_grown(params, support.x[number][real], support.y[number][real], weight, self.kind))
        most = max(len(part["feature"]) for part in parts)
        for part in (part for part in parts if len(part["feature"]) < most):
            for name, array in part.items():
                wide = [(0, most - len(array)), *[(0, 0)] * (array.ndim - 1)]
                part[name] = np.pad(array, wide, constant_values=-1.0 if name in NAMES else 0.0)
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Categorical | Gaussian:
        """Class probabilities, or a normal distribution."""
        node, task = self.apply(params, state, x), np.arange(len(x))[:, None]
        believed = [self._believed(params, one) for one in _each(state)]
        value = np.stack([mean for mean, _ in believed])[task, node]
        if self.kind == "classification":
            return Categorical(value)
        return Gaussian(value[..., 0], np.stack([spread for _, spread in believed])[task, node, 0] ** 2)

    def decide(
        self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]
    ) -> Float[np.ndarray, "task row way"]:
        """How strongly rows belong to each class: log probability, less ``decision_power`` times the log share of the class."""
        predicted = self.predict(params, state, x)
        assert isinstance(predicted, Categorical)
        share = np.maximum(state["value"][:, :1], np.finfo(np.float64).tiny)
        log = np.log(np.maximum(predicted.probability, np.finfo(np.float64).tiny))
        return log - float(params["decision_power"]) * np.log(share)

    def apply(
        self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]
    ) -> Int[np.ndarray, "task row"]:
        """The leaf that every row falls into; numbers are compared in single precision, as scikit-learn does."""
        return descend(state, np.clip(x, -_LARGEST, _LARGEST).astype(np.float32))

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Mean log predictive density of the rows after they were learned: a proxy."""
        state = self.adapt(params, support) if state is None else state
        each = np.where(support.mask, log_density(self.predict(params, state, support.x), support.y), 0.0)
        return each.sum(axis=1) / np.maximum(support.counts, 1)

    def view(self, params: Params, state: State) -> TreeView:
        """Read the tree of the only task of a state; ``share`` is what a node's value has from its parent."""
        (one,) = _each(state)
        value, spread = self._believed(params, one)
        pull = np.full(len(one["feature"]), float(params["smoothing"]))
        pull[0] = min(pull[0], _ROOT_ROWS)
        total = one["weight"] + pull
        nodes = {name: one[name].astype(np.intp) for name in ("feature", "left", "right")}
        share = np.divide(pull, total, out=np.ones(len(pull)), where=total > 0)
        return TreeView(threshold=one["threshold"], value=value, spread=spread, rows=one["rows"], share=share, **nodes)

    def _believed(
        self, params: Params, tree: Mapping[str, np.ndarray]
    ) -> tuple[Float[np.ndarray, "node output"], Float[np.ndarray, "node output"]]:
        """What the nodes of one tree say, and the standard deviation of that (classification) or of a new target."""
        strength, rows = float(params["smoothing"]), tree["weight"]
        outputs = tree["value"].shape[1]
        start = np.full(outputs, 1.0 / outputs if self.kind == "classification" else 0.0)
        value = along_path(tree, tree["value"], rows, strength, start, min(strength, _ROOT_ROWS))
        if self.kind == "classification":
            return value, np.sqrt(value * (1.0 - value) / (rows + strength + 1.0)[:, None])
        pull = max(strength, 1.0)
        scatter = tree["scatter"][:, None] + (tree["value"] - value) ** 2
        # n - 1 rows and s' above: a leaf of one row spreads as its parent does
        less = np.maximum(rows - 1.0, 0.0)
        raw = scatter * np.divide(rows, less, out=np.zeros(len(rows)), where=less > 0)[:, None]
        variance = along_path(tree, raw, less, pull, np.ones(1), 1.0) * (1.0 + 1.0 / (rows + pull))[:, None]
        return value, np.sqrt(np.maximum(variance * float(params["spread"]), _LEAST_VARIANCE))


def along_path(
    tree: Mapping[str, np.ndarray],
    raw: Float[np.ndarray, "node output"],
    rows: Float[np.ndarray, " node"],
    strength: float,
    start: Float[np.ndarray, " output"],
    start_strength: float,
) -> Float[np.ndarray, "node output"]:
    """Pull the estimate of each node towards that of its parent, from the root down.

    Parameters
    ----------
    tree : mapping
        Arrays of `upstairs.inner.tree_nodes.NAMES`.
    raw, rows
        The estimate of each node's own rows, and what they count.
    strength : float
        Rows that the parent counts as.
    start, start_strength
        What the root is pulled towards, and rows that this counts as.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> tree = {name: np.array(values, dtype=float) for name, values in tree.items()}
    >>> raw, rows = np.array([[0.5], [0.0], [1.0]]), np.array([4.0, 2.0, 2.0])
    >>> along_path(tree, raw, rows, 2.0, np.array([0.5]), 1.0).ravel().tolist()
    [0.5, 0.25, 0.75]
    """
    if strength == 0.0 and rows[0] > 0:
        return raw
    found, above = np.array(raw), parents(tree)
    depth = depths(tree)
    order = np.argsort(depth, kind="stable")
    layers = np.split(order, np.searchsorted(depth[order], np.arange(int(depth.max()) + 1)))[1:]
    for number, layer in enumerate(layers):
        pull, parent = (strength, found[above[layer]]) if number else (start_strength, start)
        total = (rows[layer] + pull)[:, None]
        mixed = rows[layer, None] * raw[layer] + pull * parent
        found[layer] = np.divide(mixed, total, out=np.broadcast_to(parent, mixed.shape).copy(), where=total > 0)
    return found


def _grown(
    params: Params, x: Float[np.ndarray, "row feature"], y: np.ndarray, weight: np.ndarray | None, kind: str
) -> dict[str, np.ndarray]:
    """Grow the tree of one task."""
    classification = kind == "classification"
    ways = 1
    if classification:
        params = with_costs(params, y)
        ways = len(params["class_cost"])
        if (params["class_cost"] != 1.0).any():
            weight = params["class_cost"][y] * (1.0 if weight is None else weight)
    if len(y) == 0:
        nodes = {name: np.full(1, -1.0) for name in NAMES}
        return nodes | {"value": np.zeros((1, ways))} | {n: np.zeros(1) for n in ("weight", "rows", "scatter")}
    order = np.lexsort([y, row_key(x)])  # by content: sums are rounded in the same way whatever order rows come in
    x, y, weight = x[order], y[order], None if weight is None else weight[order]
    grower = (DecisionTreeClassifier if classification else DecisionTreeRegressor)(**_arguments(params, kind))
    x = np.clip(x, -_LARGEST, _LARGEST).astype(np.float32)
    with config_context(skip_parameter_validation=True):
        tree = grower.fit(x, y, sample_weight=weight, check_input=False).tree_
    found = {
        "feature": np.maximum(tree.feature, -1),
        "threshold": np.where(tree.children_left < 0, 0.0, tree.threshold),
        "left": tree.children_left,
        "right": tree.children_right,
        "value": np.zeros((tree.node_count, ways)),
        "weight": tree.weighted_n_node_samples,
        "rows": tree.n_node_samples,
    }
    found["value"][:, grower.classes_ if classification else [0]] = tree.value[:, 0, :]
    if not classification:
        found["scatter"] = tree.impurity if grower.criterion == "squared_error" else _scatter(tree, x, y, weight)
    return {name: np.asarray(array, dtype=np.float64) for name, array in found.items()}


def _arguments(params: Params, kind: str) -> dict[str, Any]:
    """Settings as scikit-learn takes them."""
    said = {name: float(params[name]) for name in _NUMBERS}
    features = {ALL: None, SQRT: "sqrt", LOG2: "log2"}.get(said["max_features"], said["max_features"])
    return {
        "max_depth": int(said["max_depth"]) if np.isfinite(said["max_depth"]) else None,
        "min_samples_leaf": _count(said["min_samples_leaf"]),
        "min_samples_split": _count(said["min_samples_split"]),
        "criterion": CRITERIA[kind][int(said["criterion"])],
        "max_features": _count(features) if isinstance(features, float) else features,
        "ccp_alpha": said["ccp_alpha"],
        "random_state": 0,
    }


def _count(value: float) -> int | float:
    """A number of rows or columns, or a share of them."""
    return int(value) if value >= 1.0 else value


def _scatter(tree: Any, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> Float[np.ndarray, " node"]:
    """Mean squared deviation of the targets at each node from its value."""
    counts, path, value = np.ones(len(y)) if weight is None else weight, tree.decision_path(x).T, tree.value[:, 0, 0]
    first, second = (path @ (counts * moment) / tree.weighted_n_node_samples for moment in (y, y**2))
    return np.maximum(second - 2.0 * value * first + value**2, 0.0)


def _each(state: State) -> list[dict[str, np.ndarray]]:
    return [{name: array[number] for name, array in state.items()} for number in range(len(state["feature"]))]
