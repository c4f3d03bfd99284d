"""A decision tree with a prior: splits learned over tasks, and what to expect in its leaves before a row is seen.

The value of a leaf is that of its path: ``1`` for the root and for every split on the way -1 (left) or 1 (right) times what
the split does. These weights, and that of a pooled prediction ``m(x)``, have a normal prior whose mean and covariance were
learned over tasks, so that rows in one leaf tell about others. A regression has its posterior in closed form; classes have
log-odds instead of values (a logistic-normal prior), and Laplace's approximation. On a task with many rows the tree may
grow further (`upstairs.inner.growing`).

References
----------
.. [1] Hajjem, A., Bellavance, F. and Larocque, D. (2011). Mixed effects regression trees for clustered data. Statistics and
   Probability Letters 81.
.. [2] Lindley, D. V. and Smith, A. F. M. (1972). Bayes estimates for the linear model. JRSS B 34.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.growing import Habits, Rest, best_split
from upstairs.inner.logistic import BayesianLogistic, latents_of
from upstairs.inner.logistic import probability as probability_of
from upstairs.inner.pooled import pooled_prediction, width
from upstairs.inner.rule import AdaptationRule, Gaussian, Params, Prediction, Rows, State
from upstairs.inner.tree_nodes import LEAF, NAMES, TreeView, ancestors, depths, descend

__all__ = ["PriorTree", "columns_of", "sides", "tree_of"]


def tree_of(params: Params) -> dict[str, np.ndarray]:
    """Return the learned tree of a prior."""
    return {name: params[f"tree/{name}"] for name in NAMES}


def sides(tree: Mapping[str, np.ndarray], splits: Int[np.ndarray, " split"]) -> Float[np.ndarray, "node split"]:
    """Return on which side of which split every node lies: -1 left, 1 right, 0 not below it.

    Examples
    --------
    >>> tree = {"feature": [0, -1, -1], "threshold": [0.5, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1]}
    >>> sides({name: np.array(values) for name, values in tree.items()}, np.array([0])).tolist()
    [[0.0], [-1.0], [1.0]]
    """
    above = ancestors(tree)
    left, right = (np.asarray(tree[name])[splits].astype(np.intp) for name in ("left", "right"))
    return above[:, right].astype(float) - above[:, left]


def columns_of(
    params: Params, x: Float[np.ndarray, "task row feature"]
) -> tuple[Float[np.ndarray, "task row column"], Int[np.ndarray, "task row"]]:
    """Return the columns ``[1, sides, m]`` of rows, and the learned node that each falls into."""
    tree = tree_of(params)
    node = descend(tree, x)
    parts = [np.ones((*node.shape, 1)), sides(tree, np.flatnonzero(tree["feature"] >= 0))[node]]
    if width(params):
        told = pooled_prediction(params, x.reshape(-1, x.shape[2]))
        parts.append(told.reshape(*node.shape, width(params)))
    return np.concatenate(parts, axis=2), node


@final
@dataclass(frozen=True, slots=True)
class PriorTree(AdaptationRule):
    """Posterior of the leaves of a learned tree.

    ``params``: the tree ``tree/feature``, ``tree/threshold``, ``tree/left``, ``tree/right``, and the mean ``tree/offset`` of ``m`` at
    each node; ``pooled/...`` of `upstairs.inner.pooled`; ``weight``, ``mean``, ``factor`` (and ``noise``) of the prior on
    ``[1, sides, m]``; ``grow/...``, the fields of `upstairs.inner.growing.Habits`. ``state``: the posterior, ``seen`` (rows at
    every node), and where the tree grows the nodes of each task's tree with the numbers of its own splits.

    Parameters
    ----------
    kind : {"regression", "classification"}
    grows : bool
        Whether the tree may grow further on a task. If not, more rows of a regression can be learned exactly.
    """

    kind: str
    grows: bool = False

    @property
    def updates(self) -> bool:
        """Whether `update` is exact: a regression on a tree that stays."""
        return self.kind == "regression" and not self.grows

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take ``min_samples_leaf`` (of what grows on a task), ``max_depth`` (of the learned tree, too), and ``prior_weight``."""
        changed = dict(self._base.override(params, settings))
        if "min_samples_leaf" in settings:
            changed["grow/least"] = np.array(float(settings["min_samples_leaf"]))
        if "max_depth" in settings:
            changed = _cut(changed, settings["max_depth"]) | {"grow/depth": np.array(float(settings["max_depth"]))}
        return changed

    def adapt(self, params: Params, support: Rows) -> State:
        """Posterior of every task."""
        phi, node = columns_of(params, support.x)
        phi = phi * support.mask[..., None]
        if not self.grows:
            state = self._base.adapt_on(params, phi, support)
            return state | {"seen": _counts(tree_of(params), node, support.mask)}
        return _stacked([self._grown(params, _one(support, t), phi[t], node[t]) for t in range(len(phi))])

    def update(self, params: Params, state: State, rows: Rows) -> State | None:
        """Add rows to the posterior of a regression whose tree stays."""
        base = self._base
        assert isinstance(base, BayesianLinear), "only asked for where `updates` is true"
        phi, node = columns_of(params, rows.x)
        known = {name: array for name, array in state.items() if name != "seen"}
        seen = state["seen"] + _counts(tree_of(params), node, rows.mask)
        return base.update_on(params, known, phi * rows.mask[..., None], rows) | {"seen": seen}

    @property
    def fades(self) -> bool:
        """Whether `faded` is offered: where `update` is."""
        return self.updates

    def faded(self, state: State, kept: float) -> State | None:
        """Forget the posterior of a regression whose tree stays."""
        base = self._base
        assert isinstance(base, BayesianLinear), "only asked for where `fades` is true"
        known = {name: array for name, array in state.items() if name != "seen"}
        return base.faded(known, kept) | {"seen": kept * state["seen"]}

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Prediction:
        """Predict rows of every task."""
        phi, _ = columns_of(params, x)
        if "own" in state:
            own, node = state["own"].astype(np.intp), self.apply(params, state, x)
            added = np.zeros((*node.shape, own.shape[1]))
            for t in np.flatnonzero((own >= 0).any(axis=1)).tolist():
                splits = own[t][own[t] >= 0]
                added[t, :, : len(splits)] = sides(_tree_of_task(state, t), splits)[node[t]]
            phi = np.concatenate([phi, added], axis=2)
        predicted: Prediction = self._base.predict_on(params, state, phi)
        if isinstance(predicted, Gaussian) and "noise" in state:
            return Gaussian(predicted.mean, predicted.variance + (state["noise"] - params["noise"][0])[:, None])
        return predicted

    def apply(
        self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]
    ) -> Int[np.ndarray, "task row"]:
        """Return the number of the leaf that every row falls into."""
        return descend({name: state[name] for name in NAMES} if "own" in state else tree_of(params), x)

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Log evidence a row."""
        state = self.adapt(params, support) if state is None else state
        joint = state["evidence"] + np.log(params["weight"])
        return np.logaddexp.reduce(joint, axis=1) / np.maximum(support.counts, 1)

    def view(self, params: Params, state: State) -> TreeView:
        """Describe the tree of the first task; a node's value is that at the mean of ``m`` over its training rows.

        ``share`` is the variance of that value that the rows have left, as a share of the variance before.
        """
        tree = _tree_of_task(state, 0) if "own" in state else tree_of(params)
        own = state["own"][0][state["own"][0] >= 0].astype(np.intp) if "own" in state else np.zeros(0, dtype=np.intp)
        offset = np.zeros((len(tree["feature"]), params["tree/offset"].shape[1]))
        offset[: len(params["tree/offset"])] = params["tree/offset"]
        for node in own:  # what grew on the task has the mean of the node that it grew on
            offset[[int(tree["left"][node]), int(tree["right"][node])]] = offset[node]
        learned = np.flatnonzero(params["tree/feature"] >= 0)
        phi = np.concatenate([np.ones((len(offset), 1)), sides(tree, learned), offset, sides(tree, own)], axis=1)
        width_ = state["mean"].shape[-1]
        phi = np.pad(phi, [(0, 0), (0, width_ - phi.shape[1])])[None]
        wide = _wider(params, width_ - params["mean"].shape[-1])
        nothing = Rows(phi[:, :0], np.zeros((1, 0)), np.zeros((1, 0), dtype=bool))
        before = _variance(self._base.adapt_on(wide, phi[:, :0], nothing), phi)
        after = _variance(state, phi)
        predicted = self._base.predict_on(params, _first(state), phi)
        if isinstance(predicted, Gaussian):
            value, spread = predicted.mean[0][:, None], np.sqrt(after)
        else:
            value = predicted.probability[0]
            both = np.concatenate([after, after], axis=1) if after.shape[1] == 1 else after
            spread = value * (1.0 - value) * np.sqrt(both)
        share = (after.sum(axis=1) + 1e-12) / (before.sum(axis=1) + 1e-12)
        number = {name: tree[name].astype(np.intp) for name in ("feature", "left", "right")}
        seen = state["seen"][0][: len(offset)]
        return TreeView(
            number["feature"], tree["threshold"], number["left"], number["right"], value, spread, seen, share
        )

    @property
    def _base(self) -> Any:
        return BayesianLinear() if self.kind == "regression" else BayesianLogistic()

    def _grown(
        self, params: Params, rows: Rows, phi: Float[np.ndarray, "row column"], node: Int[np.ndarray, " row"]
    ) -> dict[str, np.ndarray]:
        """Learn one task, growing the tree as long as a split gains evidence.

        A regression is less noisy around a tree that has grown; which of the two noises holds is decided by the evidence of the
        trees that grow with each, the prior of their splits counted.
        """
        there = np.flatnonzero(rows.mask[0])
        weight = None if rows.weight is None else rows.weight[:, there]
        task = Rows(rows.x[:, there], rows.y[:, there], rows.mask[:, there], weight)
        if self.kind == "classification":
            return self._growth(params, task, phi[there], node[there])[1]
        noises = [params["noise"]]
        if len(there) >= 2 * _habits(params, len(there)).least:
            noises.append(params["grow/noise"])
        grown = [self._growth({**params, "noise": noise}, task, phi[there], node[there]) for noise in noises]
        return max(grown, key=lambda entry: entry[0])[1]

    def _growth(
        self, params: Params, task: Rows, phi: Float[np.ndarray, "row column"], node: Int[np.ndarray, " row"]
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Grow with one noise; the log evidence less what the splits cost, and the state."""
        habits, x = _habits(params, len(phi)), task.x[0]
        tree = {name: array.copy() for name, array in tree_of(params).items()}
        depth, own, cost = depths(tree), list[int](), 0.0
        wide, columns = params, phi[None]
        state: State = self._base.adapt_on(wide, columns, task)
        while len(own) < habits.most:
            rest = self._rest(wide, state, columns[0], task)
            found = []
            for leaf in np.unique(node):
                if depth[leaf] < habits.depth:
                    split = best_split(x, rest, np.flatnonzero(node == leaf), habits)
                    found += [] if split is None else [(split.gain, int(leaf), split)]
            if not found:
                break
            _, leaf, split = max(found, key=lambda entry: (entry[0], -entry[1]))
            right = (node == leaf) & (x[:, split.feature] > split.threshold)
            inside = (node == leaf).astype(float)
            columns = np.concatenate([columns, np.where(right, inside, -inside)[None, :, None]], axis=2)
            new = len(tree["feature"])
            tree["feature"][leaf], tree["threshold"][leaf] = split.feature, split.threshold
            tree["left"][leaf], tree["right"][leaf] = new, new + 1
            for name in NAMES:
                tree[name] = np.append(tree[name], [0.0, 0.0] if name == "threshold" else [LEAF, LEAF])
            depth = np.append(depth, [depth[leaf] + 1] * 2)
            node = np.where(right, new + 1, np.where(node == leaf, new, node))
            own.append(leaf)
            cost += split.cost
            wide = _wider(params, len(own))
            state = self._base.adapt_on(wide, columns, task)
        kept = {name: state[name][0] for name in ("mean", "root", "evidence", "rows")}
        kept |= {"noise": params["noise"][0]} if self.kind == "regression" else {}
        seen = _counts(tree, node[None], np.ones((1, len(node)), dtype=bool))[0]
        found_state = kept | tree | {"own": np.array(own, dtype=float), "seen": seen}
        return float(state["evidence"][0, 0]) - cost, found_state

    def _rest(self, params: Params, state: State, phi: Float[np.ndarray, "row column"], task: Rows) -> Rest:
        """What the posterior leaves unexplained."""
        weight = np.ones(len(phi)) if task.weight is None else task.weight[0]
        if self.kind == "regression":
            precision = weight / params["noise"][0]
            slope = precision * (task.y[0] - phi @ state["mean"][0, 0])
            seen = (phi @ state["root"][0, 0].T) * precision[:, None]
            return Rest(slope[None], precision[None], seen[None])
        latents = state["mean"].shape[2]
        p = probability_of(phi @ state["mean"][0, 0].T)
        slope = (latents_of(task.y, latents)[0] - p) * weight[:, None]
        curvature = p * (1.0 - p) * weight[:, None]
        seen = np.einsum("nc,lrc->lnr", phi, state["root"][0, 0]) * curvature.T[..., None]
        return Rest(slope.T, curvature.T, seen)


def _habits(params: Params, rows: int) -> Habits:
    """How trees grow on a task of so many rows; a leaf size below 1 is a share of them."""
    least = float(params["grow/least"])
    return Habits(
        float(params["grow/effect"]),
        float(params["grow/split"]),
        params["grow/feature"],
        int(np.ceil(least * rows if least < 1.0 else least)),
        int(params["grow/most"]),
        float(params.get("grow/depth", np.inf)),
    )


def _cut(params: Params, depth: float) -> dict[str, np.ndarray]:
    """Return the prior of a tree without the splits below a depth: a node that becomes a leaf keeps what its path says."""
    tree = tree_of(params)
    at = depths(tree)
    inner = np.flatnonzero(tree["feature"] >= 0)
    splits, nodes = at[inner] < depth, at <= depth
    number = np.cumsum(nodes) - 1
    shut = at >= depth
    cut = {f"tree/{name}": np.where(shut, LEAF, tree[name])[nodes] for name in ("feature", "left", "right")}
    for side in ("tree/left", "tree/right"):
        cut[side] = np.where(cut[side] < 0, LEAF, number[cut[side].astype(np.intp)]).astype(float)
    cut["tree/threshold"] = np.where(shut, 0.0, tree["threshold"])[nodes]
    cut["tree/offset"] = params["tree/offset"][nodes]
    told = params["tree/offset"].shape[1]
    kept = np.concatenate([[True], splits, np.ones(told, dtype=bool)])
    return {**params, **cut, "mean": params["mean"][..., kept], "factor": params["factor"][..., kept, :]}


def _wider(params: Params, more: int) -> Params:
    """Return the prior with columns for splits of a task's own."""
    if more == 0:
        return params
    mean = np.pad(params["mean"], [(0, 0)] * (params["mean"].ndim - 1) + [(0, more)])
    factor = np.pad(params["factor"], [(0, 0)] * (params["factor"].ndim - 2) + [(0, more)] * 2)
    for place in range(1, more + 1):
        factor[..., -place, -place] = np.sqrt(params["grow/effect"])
    return {**params, "mean": mean, "factor": factor}


def _counts(
    tree: Mapping[str, np.ndarray], node: Int[np.ndarray, "task row"], mask: np.ndarray
) -> Float[np.ndarray, "task node"]:
    """Rows that come by at every node."""
    size = len(tree["feature"])
    cell = node + size * np.arange(len(node))[:, None]
    fallen = np.bincount(cell.ravel(), mask.ravel(), minlength=size * len(node)).reshape(len(node), size)
    return fallen.astype(float) @ ancestors(tree)


def _variance(state: State, phi: Float[np.ndarray, "1 node column"]) -> Float[np.ndarray, "node latent"]:
    """Variance of the value at every node under a posterior of the first task."""
    root = state["root"][0, 0]
    root = root[None] if root.ndim == 2 else root
    return np.square(np.einsum("nc,lrc->nlr", phi[0], root)).sum(axis=2)


def _first(state: State) -> State:
    return {name: state[name][:1] for name in ("mean", "root", "evidence")}


def _one(rows: Rows, task: int) -> Rows:
    weight = None if rows.weight is None else rows.weight[task : task + 1]
    return dataclasses.replace(
        rows,
        x=rows.x[task : task + 1],
        y=rows.y[task : task + 1],
        mask=rows.mask[task : task + 1],
        weight=weight,
    )


def _tree_of_task(state: State, task: int) -> dict[str, np.ndarray]:
    """The tree of one task without padding nodes, which come last."""
    tree = {name: state[name][task] for name in NAMES}
    count = int((depths(tree) >= 0).sum())
    return {name: array[:count] for name, array in tree.items()}


def _stacked(tasks: list[dict[str, np.ndarray]]) -> State:
    """Put tasks of different sizes together; missing columns have no weight, missing nodes and splits are leaves."""
    found = {}
    for name in tasks[0]:
        arrays = [np.asarray(task[name]) for task in tasks]
        shape = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True))
        fill = LEAF if name in ("feature", "left", "right", "own") else 0.0
        out = np.full((len(arrays), *shape), fill, dtype=float)
        for task, array in enumerate(arrays):
            place: Any = (task, *map(slice, array.shape))
            out[place] = array
        found[name] = out
    return found
