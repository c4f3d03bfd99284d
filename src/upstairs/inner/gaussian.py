"""Bayesian linear regression from a learned prior: the posterior of a task in closed form.

Learned over tasks: the prior of the weights, a (mixture of a few) normal distribution(s) ``N(mean, F F')``, the
noise, and a pooled prediction used as a feature. Learned on one task: the posterior of its weights. All is
computed in whitened coordinates, ``w = mean + F z`` with ``z ~ N(0, 1)``, where the posterior precision is
``M = 1 + A'A / noise`` with ``A = phi F``: well conditioned even if the prior knows some directions exactly.

References
----------
.. [1] Harrison, J., Sharma, A. and Pavone, M. (2018). Meta-learning priors for efficient online Bayesian
   regression. WAFR; equations 3 to 5.
.. [2] Lindley, D. V. and Smith, A. F. M. (1972). Bayes estimates for the linear model. JRSS B 34.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.columns import features
from upstairs.inner.rule import Gaussian, Params, PlainRule, Rows, State

_LOG_2PI = float(np.log(2.0 * np.pi))


def posterior(
    mean: Float[np.ndarray, " column"],
    covariance: Float[np.ndarray, "column column"],
    noise: float,
    phi: Float[np.ndarray, "row column"],
    y: Float[np.ndarray, " row"],
) -> tuple[Float[np.ndarray, " column"], Float[np.ndarray, "column column"]]:
    """Posterior mean and covariance of the weights of one task, one normal prior.

    Examples
    --------
    >>> import numpy as np
    >>> mean, covariance = posterior(np.zeros(1), np.eye(1), 1.0, np.ones((3, 1)), np.ones(3))
    >>> float(mean[0]), float(covariance[0, 0])
    (0.75, 0.25)
    """
    params = {"mean": mean[None], "factor": factor(covariance)[None], "noise": np.array([noise])}
    state = _condition(params, phi[None], y[None], np.array([float(len(y))]))
    return state["mean"][0, 0], state["root"][0, 0].T @ state["root"][0, 0]


def log_evidence(
    mean: Float[np.ndarray, " column"],
    covariance: Float[np.ndarray, "column column"],
    noise: float,
    phi: Float[np.ndarray, "row column"],
    y: Float[np.ndarray, " row"],
) -> float:
    """Log density of the targets of one task under the prior, the weights integrated out.

    Examples
    --------
    >>> import numpy as np
    >>> round(log_evidence(np.zeros(1), np.eye(1), 1.0, np.ones((1, 1)), np.zeros(1)), 4)
    -1.2655
    """
    params = {"mean": mean[None], "factor": factor(covariance)[None], "noise": np.array([noise])}
    return float(_condition(params, phi[None], y[None], np.array([float(len(y))]))["evidence"][0, 0])


def factor(covariance: Float[np.ndarray, "column column"]) -> Float[np.ndarray, "column rank"]:
    """A matrix ``F`` with ``F F' = covariance``; directions of (nearly) no variance are left out.

    Examples
    --------
    >>> import numpy as np
    >>> factor(np.diag([4.0, 0.0])).shape
    (2, 1)
    """
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.T))
    keep = value > max(float(value[-1]), 0.0) * 1e-13 if len(value) else np.zeros(0, dtype=bool)
    return vector[:, keep] * np.sqrt(value[keep])


def _condition(
    params: Params,
    phi: Float[np.ndarray, "task row column"],
    y: Float[np.ndarray, "task row"],
    rows: Float[np.ndarray, " task"],
    state: State | None = None,
) -> State:
    """Condition every component of the prior (or of ``state``) on rows; padding rows of ``phi``, ``y`` are zero."""
    noise = params["noise"]
    rank = params["factor"].shape[2]
    scaled = phi[:, None] @ params["factor"]  # A: task component row rank
    residual = y[:, None, :] - (phi @ params["mean"].T).swapaxes(1, 2)
    turned = scaled.swapaxes(2, 3)
    precision = turned @ scaled / noise[:, None, None]
    natural = (turned @ residual[..., None])[..., 0] / noise[:, None]
    square = np.square(residual).sum(axis=2)
    if state is None:
        precision += np.eye(rank)
    else:
        precision += state["precision"]
        natural = natural + state["natural"]
        square = square + state["square"]
        rows = rows + state["rows"]
    return _summarise(params, precision, natural, square, rows)


def _weighted(phi: Float[np.ndarray, "task row column"], rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, targets and numbers of rows, a row of weight w as w equal rows."""
    y = np.where(rows.mask, rows.y, 0.0)
    if rows.weight is None:
        return phi, y, rows.counts.astype(float)
    root = np.sqrt(np.where(rows.mask, rows.weight, 0.0))
    return phi * root[..., None], y * root, np.square(root).sum(axis=1)


def _summarise(
    params: Params, precision: np.ndarray, natural: np.ndarray, square: np.ndarray, rows: np.ndarray
) -> State:
    """The state made of the natural parameters of the whitened weights."""
    noise, spread = params["noise"], params["factor"]
    lower = np.linalg.cholesky(precision)
    inverse = _inverse(lower)
    white = (inverse @ natural[..., None])[..., 0]
    evidence = -0.5 * (
        rows[:, None] * (_LOG_2PI + np.log(noise))
        + 2.0 * np.log(np.diagonal(lower, axis1=2, axis2=3)).sum(axis=2)
        + square / noise
        - np.square(white).sum(axis=2)
    )
    root = inverse @ spread.swapaxes(1, 2)  # root' root is the posterior covariance of the weights
    mean = params["mean"] + (white[..., None, :] @ root)[..., 0, :]
    return {
        "precision": precision,
        "natural": natural,
        "square": square,
        "rows": rows,
        "mean": mean,
        "root": root,
        "evidence": evidence,
    }


def _inverse(lower: Float[np.ndarray, "task component rank rank"]) -> np.ndarray:
    """Invert lower triangular matrices; many at once by forward substitution, a row of all of them at a time."""
    tasks, components, rank, _ = lower.shape
    if tasks * components < 4 * rank:
        return np.linalg.inv(lower)
    out = np.zeros_like(lower)
    diagonal = 1.0 / np.diagonal(lower, axis1=2, axis2=3)
    for row in range(rank):
        if row:
            done = lower[:, :, row : row + 1, :row] @ out[:, :, :row, :row]
            out[:, :, row, :row] = -diagonal[:, :, row, None] * done[:, :, 0]
        out[:, :, row, row] = diagonal[:, :, row]
    return out


def _log_weights(params: Params, evidence: Float[np.ndarray, "task component"]) -> np.ndarray:
    """Log posterior weight of every component."""
    joint = evidence + np.log(params["weight"])
    return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)


@dataclass(frozen=True, slots=True)
class BayesianLinear(PlainRule):
    """Linear regression whose weights have a normal prior, or a mixture of a few, learned over tasks.

    ``params``: ``weight (component)``, ``mean (component, column)``, ``factor (component, column, rank)`` and
    ``noise (component)`` on the columns ``[1, x, m(x), h(x)]`` of ``upstairs.inner.columns``, whose arrays
    are ``pooled/...`` and ``hidden/...``. ``state``: ``precision``, ``natural``, ``square`` and ``rows`` are exact sums over
    the rows seen, so that more rows can be added.

    Examples
    --------
    >>> import numpy as np
    >>> from upstairs.inner.rule import Rows
    >>> rule = BayesianLinear()
    >>> x, y = np.arange(4.0)[:, None], np.arange(4.0)
    >>> params = rule.own_params(x, y, 0)
    >>> state = rule.adapt(params, Rows(x[None], y[None], np.ones((1, 4), dtype=bool)))
    >>> bool(abs(rule.predict(params, state, np.array([[[5.0]]])).mean[0, 0] - 5.0) < 0.1)
    True
    """

    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int = 0) -> Params:
        """Ridge regression on one task alone, its strength and noise by maximum evidence; free in the scale of y."""
        return ridge_by_evidence(np.asarray(x, dtype=float), np.asarray(y, dtype=float))

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take ``prior_weight`` (divides the prior's covariance) and ``noise`` (standard deviation)."""
        changed = dict(params)
        if "prior_weight" in settings:
            changed["factor"] = params["factor"] / np.sqrt(settings["prior_weight"])
        if "noise" in settings:
            changed["noise"] = np.full_like(params["noise"], settings["noise"] ** 2)
        return changed

    def adapt(self, params: Params, support: Rows) -> State:
        """Posterior of every task."""
        return self.adapt_on(params, features(params, support.x, support.mask), support)

    def adapt_on(self, params: Params, phi: Float[np.ndarray, "task row column"], support: Rows) -> State:
        """Posterior of every task on columns of one's own, zero in padding rows; ``support.weight`` counts."""
        return _condition(params, *_weighted(phi, support))

    def update(self, params: Params, state: State, rows: Rows) -> State:
        """Add rows to a posterior; equal to having seen them from the start."""
        return self.update_on(params, state, features(params, rows.x, rows.mask), rows)

    def update_on(self, params: Params, state: State, phi: Float[np.ndarray, "task row column"], rows: Rows) -> State:
        """Add rows on columns of one's own."""
        return _condition(params, *_weighted(phi, rows), state)

    def faded(self, state: State, kept: float) -> State:
        """Scale the sums over rows; the prior's part of the precision, the identity, stays whole (stabilised forgetting)."""
        prior = np.eye(state["precision"].shape[-1])
        sums = {name: kept * state[name] for name in ("natural", "square", "rows")}
        return dict(state) | sums | {"precision": prior + kept * (state["precision"] - prior)}

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Gaussian:
        """Mean and variance (noise of one new row included) of every row; a mixture is given by its moments."""
        return self.predict_on(params, state, features(params, x))

    def predict_on(self, params: Params, state: State, phi: Float[np.ndarray, "task row column"]) -> Gaussian:
        """Predict from columns of one's own."""
        mean = phi @ state["mean"].swapaxes(1, 2)
        variance = np.empty_like(mean)
        for k, noise in enumerate(params["noise"]):
            variance[..., k] = np.square(phi @ state["root"][:, k].swapaxes(1, 2)).sum(axis=2) + noise
        if mean.shape[2] == 1:
            centre, spread = mean[..., 0], variance[..., 0]
        else:
            weight = np.exp(_log_weights(params, state["evidence"]))[:, None, :]
            centre = (weight * mean).sum(axis=2)
            spread = (weight * (variance + np.square(mean - centre[..., None]))).sum(axis=2)
        return Gaussian(centre, spread)

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Log evidence a row; zero without rows."""
        state = self.adapt(params, support) if state is None else state
        joint = state["evidence"] + np.log(params["weight"])
        return np.logaddexp.reduce(joint, axis=1) / np.maximum(support.counts, 1)


def ridge_by_evidence(x: Float[np.ndarray, "row feature"], y: Float[np.ndarray, " row"]) -> dict[str, np.ndarray]:
    """Prior of one task alone: weights of standardised columns ``N(0, v)``, v and the noise of maximum evidence.

    The evidence is that of the targets around their mean, the noise in closed form for every ratio
    ``noise / v`` on a grid (Rasmussen and Williams 2006, section 5.4.1). One row, or targets that are all equal,
    give no slope.
    """
    rows, columns = x.shape
    centre, scale = x.mean(axis=0) if rows else np.zeros(columns), x.std(axis=0) if rows else np.ones(columns)
    varies = scale > 1e-12 * (1.0 + np.abs(centre))
    scale = np.where(varies, scale, 1.0)
    level = float(y.mean()) if rows else 0.0
    size = float(y.std()) if rows else 0.0
    if size <= 1e-12 * abs(level):
        size = 0.0
    floor = 1e-8 * (size * size if size > 0 else max(level * level, 1e-8))
    slope, noise = 0.0, max(level * level, 1.0 if level == 0 else 0.0) if rows < 2 else floor
    if size > 0:
        left, singular, _ = np.linalg.svd(np.where(varies, (x - centre) / scale, 0.0), full_matrices=False)
        singular = np.square(singular)
        ratio = rows * np.logspace(-3, 4, 36)[:, None]
        along = np.square(left.T @ (y - level))
        rest = max(float(np.square(y - level).sum() - along.sum()), 0.0)
        sigma = ((along * ratio / (singular + ratio)).sum(axis=1) + rest) / (rows - 1)
        sigma = np.maximum(sigma, floor)
        value = -0.5 * ((rows - 1) * np.log(sigma) + np.log1p(singular / ratio).sum(axis=1))
        best = int(np.argmax(value + 1e-3 * np.log(ratio[:, 0])))  # with fewer rows than columns it can be flat
        noise = float(sigma[best])
        slope = float(np.sqrt(noise / ratio[best, 0]))
    mean = np.zeros(1 + columns)
    mean[0] = level
    spread = np.zeros((1 + columns, 1 + columns))
    wide = 1e3 * max(size, np.sqrt(noise))  # the level is free
    spread[0, 0] = wide
    spread[1:, 1:] = np.diag(np.where(varies, slope / scale, 0.0))
    spread[0, 1:] = -centre @ spread[1:, 1:]
    return {
        "weight": np.ones(1),
        "mean": mean[None],
        "factor": spread[None],
        "noise": np.array([max(noise, floor)]),
    }
