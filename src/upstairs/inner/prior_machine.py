"""A support vector machine with a prior: an offset, a kernel and costs learned over tasks; one convex problem a task.

References
----------
.. [1] Chapelle, O. (2007). Training a support vector machine in the primal. Neural Computation 19.
.. [2] Micchelli, C. and Pontil, M. (2005). Learning the kernel function via regularization. JMLR 6.
.. [3] Evgeniou, T. and Pontil, M. (2004). Regularized multi-task learning. KDD: the decision of a task as what all
   have in common plus a deviation.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from upstairs.errors import ApproximationWarning
from upstairs.inner.columns import features
from upstairs.inner.learned_kernel import curved_between, is_curved, kernel_of_rows, squares_of
from upstairs.inner.rule import AdaptationRule, Categorical, Gaussian, Params, Rows, State
from upstairs.inner.squared_hinge import matrix_on, solve_squared

__all__ = ["PriorMachine"]

MOST_ROWS = 2000
"""Of a task with more rows so many are drawn: the work grows with their third power, and the prior says the rest."""
_FAR = -1e9
"""Decision for a class of a task's own that has no support row."""


@final
@dataclass(frozen=True, slots=True)
class PriorMachine(AdaptationRule):
    """Squared hinge loss (regression: squared loss beyond epsilon) around a prior decision function [1]_ [3]_.

    Learned over tasks (``params``): ``mean`` (latent, column), the prior decision function, and ``factor`` (latent,
    column, rank), the linear part of the kernel, both on the columns ``[1, x, m(x)]`` of `upstairs.inner.columns`;
    ``rbf``, ``poly`` and ``map``, its curved part (`upstairs.inner.learned_kernel`); ``cost``, of rows outside and inside the
    class (regression: one number); ``epsilon`` and ``noise`` of a regression; ``slope``, from decisions to log odds. One
    latent for two classes and for a regression, else one a class, each against all others. The intercept is part of the
    kernel. With classes of a task's own also ``center`` and ``spread`` of training rows in the kernel's directions. A
    regression without epsilon is the posterior mean of a Gaussian process.

    Learned on a task (``state``): the rows, their dual coefficients ``alpha``, and ``weights`` of the linear part, prior
    included. More rows give the same as all rows at once: the optimum is unique.

    Parameters
    ----------
    kind : {"classification", "regression"}
    own : bool
        Whether classes are a task's own: ``mean`` and ``factor`` then have one latent for all.
    """

    kind: str = "classification"
    own: bool = False

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take ``C``, ``epsilon``, and weights of classes (``class <number>``, ``balanced``)."""
        new = dict(params)
        if "C" in settings:
            new["cost"] = np.full_like(params["cost"], settings["C"])
        if "epsilon" in settings:
            new["epsilon"] = np.asarray(settings["epsilon"])
        kept = {name: value for name, value in settings.items() if name == "balanced" or name.startswith("class ")}
        return new | {f"weight of {name}": np.asarray(value) for name, value in kept.items()}

    def adapt(self, params: Params, support: Rows) -> State:
        """Solve every task of the batch."""
        return self._adapted(params, support, None)

    @property
    def compact(self) -> bool:
        """A machine keeps its rows."""
        return False

    def update(self, params: Params, state: State, rows: Rows) -> State:
        """Add rows and solve again, from the rows that cost something so far."""
        both = Rows(
            np.concatenate([state["x"], rows.x], axis=1),
            np.concatenate([state["y"].astype(rows.y.dtype), rows.y], axis=1),
            np.concatenate([state["mask"] > 0, rows.mask], axis=1),
            np.concatenate([state["row weight"], np.ones(rows.mask.shape)], axis=1),
        )
        active: np.ndarray | None = np.concatenate(
            [state["alpha"] != 0, np.ones((*state["alpha"].shape[:2], rows.y.shape[1]), bool)], axis=2
        )
        if state["alpha"].shape[1] != _latents(self, params, both):
            active = None
        return self._adapted(params, both, active)

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Categorical | Gaussian:
        """Class probabilities, or the normal distribution of a Gaussian process with this kernel."""
        phi = features(params, x)
        score = self._scores(params, state, x, phi)
        if self.kind == "regression":
            return Gaussian(score[..., 0], self._variance(params, state, x, phi) + params["noise"])
        score = params["slope"] * score
        logits = np.concatenate([np.zeros_like(score), score], axis=2) if score.shape[2] == 1 else score
        shifted = np.exp(logits - logits.max(axis=2, keepdims=True))
        return Categorical(shifted / shifted.sum(axis=2, keepdims=True))

    def decide(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> np.ndarray:
        """Decision for every class; of two classes minus and plus the decision."""
        score = self._scores(params, state, x, features(params, x))
        return np.concatenate([-score, score], axis=2) if score.shape[2] == 1 else score

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Minus the objective at the optimum, a row; with classes of a task's own, how near rows are to all training rows."""
        if self.own:
            z = (features(params, support.x)[:, :, None, :] @ params["factor"])[:, :, 0] - params["center"]
            distance = np.where(support.mask, np.square(z / params["spread"]).mean(axis=2), 0.0).sum(axis=1)
            return -distance / np.maximum(support.counts, 1)
        state = self.adapt(params, support) if state is None else state
        return -state["objective"] / np.maximum(support.counts, 1)

    def _adapted(self, params: Params, support: Rows, active: np.ndarray | None) -> State:
        if support.y.shape[1] > MOST_ROWS:
            support, active = _thinned(support), None
        latents = _latents(self, params, support)
        tasks, rows = support.y.shape
        phi = features(params, support.x, support.mask)
        offset = np.moveaxis(phi @ params["mean"].T, 2, 1)
        kernel = kernel_of_rows(params, phi, phi, np)
        kernel = np.broadcast_to(kernel, (tasks, latents, rows, rows))
        target, cost = self._targets(params, support, latents)
        shape = (tasks * latents, rows)
        found = solve_squared(
            kernel.reshape(*shape, rows),
            (target - offset).reshape(shape),
            None if self.kind == "regression" else target.reshape(shape),
            cost.reshape(shape),
            float(params["epsilon"]) if "epsilon" in params else 0.0,
            None if active is None else active.reshape(shape),
        )
        alpha = found.alpha.reshape(tasks, latents, rows)
        spread = params["factor"] @ params["factor"].swapaxes(1, 2)
        state = {
            "x": support.x * support.mask[..., None],
            "y": np.where(support.mask, support.y, 0).astype(float),
            "mask": support.mask.astype(float),
            "row weight": np.ones((tasks, rows)) if support.weight is None else support.weight,
            "alpha": alpha,
            "weights": params["mean"] + ((alpha @ phi)[..., None, :] @ spread)[..., 0, :],
            "objective": found.objective.reshape(tasks, latents).sum(axis=1),
        }
        if self.kind == "regression":
            matrix = matrix_on(kernel[:, 0], cost[:, 0], found.active)
            state["half"] = np.linalg.inv(np.linalg.cholesky(matrix)) * found.active[:, None, :]
        elif self.own:
            state["present"] = (target > 0).any(axis=2).astype(float)
        return state

    def _targets(self, params: Params, support: Rows, latents: int) -> tuple[np.ndarray, np.ndarray]:
        """Targets and costs of every latent; padding rows cost nothing."""
        weight = support.mask.astype(float) if support.weight is None else support.weight * support.mask
        if self.kind == "regression":
            return np.where(support.mask, support.y, 0.0)[:, None], (params["cost"][0] * weight)[:, None]
        classes = np.array([1]) if latents == 1 else np.arange(latents)
        member = support.y[:, None, :] == classes[:, None]
        counts = np.stack([(support.y == k) @ np.ones(support.y.shape[1]) for k in range(max(latents, 2))], axis=1)
        if "weight of balanced" in params:
            share = support.counts[:, None] / np.maximum(counts, 1) / np.maximum((counts > 0).sum(axis=1), 1)[:, None]
            weight = weight * np.take_along_axis(share, support.y.astype(np.int64), axis=1)
        for name in [name for name in params if name.startswith("weight of class ")]:
            weight = np.where(support.y == int(name[16:]), weight * params[name], weight)
        return np.where(member, 1.0, -1.0), np.where(member, params["cost"][1], params["cost"][0]) * weight[:, None]

    def _scores(self, params: Params, state: State, x: np.ndarray, phi: np.ndarray) -> np.ndarray:
        score = phi @ state["weights"].swapaxes(1, 2)
        if is_curved(params):
            score = score + curved_between(params, x, state["x"], np) @ state["alpha"].swapaxes(1, 2)
        if "present" in state and score.shape[2] > 1:
            score = np.where(state["present"][:, None] > 0, score, _FAR)
        return score

    def _variance(self, params: Params, state: State, x: np.ndarray, phi: np.ndarray) -> np.ndarray:
        kept = features(params, state["x"], state["mask"] > 0)
        cross = kernel_of_rows(params, kept, phi, np)[:, 0]
        inside = squares_of(params, phi, np)[:, 0]
        return np.maximum(inside - np.square(state["half"] @ cross).sum(axis=1), 0.0)


def _thinned(support: Rows) -> Rows:
    """Some rows of every task that has too many, each of which then counts for several."""
    most = int(support.counts.max())
    if most > MOST_ROWS:
        warnings.warn(
            f"{most} rows are more than {MOST_ROWS}: so many of them, drawn at random, stand for all.",
            ApproximationWarning,
            stacklevel=2,
        )
    width = min(most, MOST_ROWS)
    pick = np.stack([_some(mask, width) for mask in support.mask])
    weight = np.ones(support.y.shape) if support.weight is None else support.weight
    weight = weight * np.maximum(support.counts / width, 1.0)[:, None]
    x = np.take_along_axis(support.x, pick[..., None], axis=1)
    y, mask, weight = (np.take_along_axis(array, pick, axis=1) for array in (support.y, support.mask, weight))
    return Rows(x, y, mask, weight)


def _some(mask: np.ndarray, width: int) -> np.ndarray:
    """Real rows first, as many as there is room for."""
    real = np.flatnonzero(mask)
    if len(real) > width:
        return np.sort(np.random.default_rng(0).choice(real, width, replace=False))
    return np.concatenate([real, np.flatnonzero(~mask)[: width - len(real)]])


def _latents(rule: PriorMachine, params: Params, support: Rows) -> int:
    """Machines of a task."""
    if not rule.own:
        return len(params["mean"])
    ways = max(int(support.y.max(initial=0)) + 1, 2)
    return 1 if rule.kind == "regression" else ways
