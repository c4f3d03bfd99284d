"""Bayesian logistic regression from a learned prior: Laplace's approximation for every task at once.

Learned over tasks: the prior ``N(mean, F F')`` of the weights (one weight vector for two classes, one a class for
more), a mixture of a few such priors if that helps, and a pooled log-odds used as a feature. Learned on one task:
the mode of its posterior and the curvature there, in whitened coordinates ``w = mean + F z``, ``z ~ N(0, 1)``.

References
----------
.. [1] Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, chapter 3;
   equations 3.20, 3.25 (averaged probability) and 3.32 (evidence).
.. [2] MacKay, D. J. C. (1992). The evidence framework applied to classification networks. Neural Computation 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import expit

from upstairs.inner.columns import features
from upstairs.inner.rule import Categorical, Params, PlainRule, Rows, State

_STEPS = 60
_PROBIT = np.pi / 8.0


@dataclass(frozen=True, slots=True)
class Mode:
    """Laplace's approximation for every task: mode and curvature of the whitened weights, and the evidence.

    The axis ``white`` runs over latents times ranks: one latent for two classes (log-odds of class 1), else one a
    class.
    """

    z: Float[np.ndarray, "task white"]
    lower: Float[np.ndarray, "task white white"]
    evidence: Float[np.ndarray, " task"]
    gradient: Float[np.ndarray, " task"]


def probability(score: np.ndarray) -> np.ndarray:
    """Class probabilities that belong to latents: one (log-odds) or one a class."""
    if score.shape[-1] == 1:
        return expit(score)
    shifted = np.exp(score - score.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _log_likelihood(score: np.ndarray, onehot: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Log-likelihood of every task at given latents."""
    if score.shape[-1] == 1:
        line = onehot[..., 0] * score[..., 0] - np.logaddexp(0.0, score[..., 0])
    else:
        line = (onehot * score).sum(axis=-1) - np.logaddexp.reduce(score, axis=-1)
    return (mask * line).sum(axis=1)


def find_mode(
    design: Float[np.ndarray, "task row latent rank"],
    start: Float[np.ndarray, "task row latent"],
    onehot: Float[np.ndarray, "task row latent"],
    mask: Shaped[np.ndarray, "task row"],
    z: np.ndarray | None = None,
    tolerance: float = 1e-10,
) -> Mode:
    """Maximise log-likelihood minus ``|z|^2 / 2`` for every task by damped Newton steps.

    Parameters
    ----------
    design
        ``A = phi F`` of every row and latent; zero in padding rows.
    start
        ``phi mean``: latents at ``z = 0``.
    onehot
        1 where the row has the class of the latent.
    mask
        Where rows are real, or what each counts.
    z
        Where to start, default zero.
    """
    tasks, _, latents, rank = design.shape
    real = mask[..., None].astype(float)
    z = np.zeros((tasks, latents * rank)) if z is None else z.copy()
    score = _latent(design, start, z)
    value = _log_likelihood(score, onehot, mask) - 0.5 * np.square(z).sum(axis=1)
    p, gradient = _slope(design, onehot, real, score, z)
    for _ in range(_STEPS):
        lower = np.linalg.cholesky(_curvature(design, p, real))
        if np.abs(gradient).max(initial=0.0) < tolerance:
            break
        step = np.linalg.solve(lower.swapaxes(1, 2), np.linalg.solve(lower, gradient[..., None]))[..., 0]
        length = np.ones(tasks)
        for _ in range(30):
            trial = z + length[:, None] * step
            score = _latent(design, start, trial)
            new = _log_likelihood(score, onehot, mask) - 0.5 * np.square(trial).sum(axis=1)
            worse = new < value - 1e-10 * (1.0 + np.abs(value))
            if not worse.any():
                break
            length = np.where(worse, 0.5 * length, length)
        z, value = trial, new
        p, gradient = _slope(design, onehot, real, score, z)
    else:
        lower = np.linalg.cholesky(_curvature(design, p, real))
    evidence = value - np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    return Mode(z, lower, evidence, np.abs(gradient).max(axis=1, initial=0.0))


def _latent(design: np.ndarray, start: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Latents of every row at given whitened weights."""
    tasks, rows, latents, rank = design.shape
    if latents == 1:
        return start + (design.reshape(tasks, rows, rank) @ weights[..., None]).reshape(tasks, rows, 1)
    return start + np.einsum("tnlr,tlr->tnl", design, weights.reshape(tasks, latents, rank))


def _slope(
    design: np.ndarray, onehot: np.ndarray, real: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities at given latents, and the gradient of the objective in the whitened weights."""
    tasks, rows, latents, rank = design.shape
    p = probability(score)
    miss = (onehot - p) * real
    if latents == 1:
        return p, (miss.swapaxes(1, 2) @ design.reshape(tasks, rows, rank))[:, 0] - weights
    return p, np.einsum("tnl,tnlr->tlr", miss, design).reshape(tasks, latents * rank) - weights


def _curvature(design: np.ndarray, p: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Negative second derivative of the objective in the whitened weights."""
    tasks, _, latents, rank = design.shape
    if latents == 1:
        flat = design[:, :, 0]
        return (flat * (p * (1.0 - p) * real)).swapaxes(1, 2) @ flat + np.eye(rank)
    weight = (np.eye(latents) * p[..., None] - p[..., :, None] * p[..., None, :]) * real[..., None]
    block = np.einsum("tnlr,tnlm,tnms->tlrms", design, weight, design, optimize=True)
    return block.reshape(tasks, latents * rank, latents * rank) + np.eye(latents * rank)


def latents_of(y: Shaped[np.ndarray, "task row"], latents: int) -> Float[np.ndarray, "task row latent"]:
    """Indicator of every row's class: of class 1 for one latent, else of each class."""
    classes = np.array([1]) if latents == 1 else np.arange(latents)
    return (np.asarray(y)[..., None] == classes).astype(float)


def averaged(mean: Float[np.ndarray, "*a latent"], variance: Float[np.ndarray, "*a latent"]) -> np.ndarray:
    """Class probabilities averaged over uncertain latents, shape ``(..., way)`` (equation 3.25 of [1], [2])."""
    moderated = mean / np.sqrt(1.0 + _PROBIT * variance)
    p = probability(moderated)
    if mean.shape[-1] > 1:
        return p
    both = np.empty((*p.shape[:-1], 2))
    both[..., 1:] = p
    np.subtract(1.0, p, out=both[..., :1])
    return both


@dataclass(frozen=True, slots=True)
class BayesianLogistic(PlainRule):
    """Logistic regression whose weights have a normal prior, or a mixture of a few, learned over tasks.

    ``params``: ``weight (component)``, ``mean (component, latent, column)``, ``factor (component, latent,
    column, rank)`` on the features ``[1, x, m(x)]`` with one latent for two classes and one a class for more, and
    the arrays ``pooled/...`` of ``upstairs.inner.pooled``. ``state``: ``mean`` and ``root`` of every component's
    posterior, and ``evidence``.

    Examples
    --------
    >>> import numpy as np
    >>> from upstairs.inner.rule import Rows
    >>> rule = BayesianLogistic()
    >>> x, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> params = rule.own_params(x, y, 2)
    >>> state = rule.adapt(params, Rows(x[None], y[None], np.ones((1, 4), dtype=bool)))
    >>> bool(rule.predict(params, state, np.array([[[3.0]]])).probability[0, 0, 1] > 0.7)
    True
    """

    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int = 2) -> Params:
        """L2 logistic regression (C = 1) on the columns standardised by the task's own rows, a nearly free level.

        With no more rows than columns the weights vary only where the rows speak: the most probable weights are the
        same, and the work is that of as many columns as rows. Departure from reference [1]: the variance of
        directions that no row touches is then left out of the averaged probabilities.
        """
        x = np.asarray(x, dtype=float)
        columns = x.shape[1]
        centre = x.mean(axis=0) if len(x) else np.zeros(columns)
        scale = x.std(axis=0) if len(x) else np.ones(columns)
        slope = np.where(scale > 1e-12 * (1.0 + np.abs(centre)), 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
        spread = np.zeros((1 + columns, 1 + columns))
        spread[0, 0] = 3.0
        spread[1:, 1:] = np.diag(slope)
        spread[0, 1:] = -centre * slope
        if 0 < len(x) <= columns:
            design = np.concatenate([np.ones((len(x), 1)), x], axis=1) @ spread
            spread = spread @ np.linalg.qr(design.T)[0]
        latents = 1 if ways <= 2 else ways
        return {
            "weight": np.ones(1),
            "mean": np.zeros((1, latents, 1 + columns)),
            "factor": np.tile(spread, (1, latents, 1, 1)),
        }

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take ``prior_weight``, which divides the prior's covariance."""
        return dict(params) | {"factor": params["factor"] / np.sqrt(settings.get("prior_weight", 1.0))}

    def _modes(self, params: Params, support: Rows, phi: np.ndarray) -> list[tuple[Mode, np.ndarray, np.ndarray]]:
        latents = params["mean"].shape[1]
        onehot = latents_of(support.y, latents)
        found = []
        for mean, spread in zip(params["mean"], params["factor"], strict=True):
            design = (phi[:, :, None, None, :] @ spread)[..., 0, :] if latents > 1 else (phi @ spread[0])[:, :, None, :]
            start = phi @ mean.T
            counts = support.mask if support.weight is None else np.where(support.mask, support.weight, 0.0)
            found.append((find_mode(design, start, onehot, counts), design, start))
        return found

    def adapt(self, params: Params, support: Rows) -> State:
        """Laplace approximation of the posterior of every task."""
        return self.adapt_on(params, features(params, support.x, support.mask), support)

    def adapt_on(self, params: Params, phi: Float[np.ndarray, "task row column"], support: Rows) -> State:
        """Posterior of every task on columns of one's own, zero in padding rows; ``support.weight`` counts."""
        modes = [m for m, _, _ in self._modes(params, support, phi)]
        latents, _, rank = params["factor"].shape[1:]
        tasks = len(phi)
        means, roots = [], []
        for mode, mean, spread in zip(modes, params["mean"], params["factor"], strict=True):
            inverse = np.linalg.inv(mode.lower).reshape(tasks, latents * rank, latents, rank)
            means.append(mean + np.einsum("lpr,tlr->tlp", spread, mode.z.reshape(tasks, latents, rank)))
            # root[t, l]: (all whitened, column); its cross product is the posterior covariance of latent l's weights
            roots.append(inverse.swapaxes(1, 2) @ spread.swapaxes(1, 2))
        return {
            "mean": np.stack(means, axis=1),
            "root": np.stack(roots, axis=1),
            "evidence": np.stack([mode.evidence for mode in modes], axis=1),
            "rows": support.counts.astype(float),
        }

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "task row feature"]) -> Categorical:
        """Class probabilities, averaged over the posterior and over the components of the prior."""
        return self.predict_on(params, state, features(params, x))

    def predict_on(self, params: Params, state: State, phi: Float[np.ndarray, "task row column"]) -> Categorical:
        """Predict from columns of one's own."""
        parts = []
        for k in range(len(params["weight"])):
            mean = phi @ state["mean"][:, k].swapaxes(1, 2)
            variance = np.square(phi[:, None] @ state["root"][:, k].swapaxes(2, 3)).sum(axis=3).swapaxes(1, 2)
            parts.append(averaged(mean, variance))
        if len(parts) == 1:
            return Categorical(parts[0])
        joint = state["evidence"] + np.log(params["weight"])
        weight = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        return Categorical(sum(weight[:, k, None, None] * part for k, part in enumerate(parts)))

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Log evidence (Laplace) a row; zero without rows."""
        state = self.adapt(params, support) if state is None else state
        joint = state["evidence"] + np.log(params["weight"])
        return np.logaddexp.reduce(joint, axis=1) / np.maximum(support.counts, 1)
