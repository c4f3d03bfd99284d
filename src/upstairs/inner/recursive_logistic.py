"""Recursive Bayesian logistic regression with forgetting: assumed densities, a chunk or a row at a time.

Learned over tasks: the normal prior of the weights, ``w = mean + F z`` with ``z ~ N(0, 1)``, and how fast to forget.
Learned on a stream: a normal posterior of the whitened weights of every rate and latent (one latent, the log-odds of
class 1, for two classes; one against the rest for each of more). Before a chunk the posterior is forgotten towards the
prior as in ``upstairs.inner.recursive``; then it is matched to mode and curvature of "that posterior times the likelihood
of the chunk" (Laplace's approximation, reference [1]; sequentially as in [2]).

The mode is found by Newton's method. Every step is shortened until the concave objective does not fall, so that weights
never leave the level set they start in: undamped steps diverge on columns that are not scaled. A single row is a problem in
one unknown, which is solved between bounds. The result depends (a little) on how rows are cut into chunks: larger ones
are nearer to the batch mode.

References
----------
.. [1] Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, section 3.4.
.. [2] Penny, W. D. and Roberts, S. J. (1999). Dynamic logistic regression. IJCNN; equations 11 to 17.
"""

from __future__ import annotations

from math import sqrt, tanh

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from upstairs.inner.definite import solve_definite, squared_length
from upstairs.inner.gaussian import factor
from upstairs.inner.logistic import averaged
from upstairs.inner.recursive import Rates, checked_forgetting, recency
from upstairs.inner.rule import Categorical, Params, State

_STEPS = 12
_HALVINGS = 30
_TOLERANCE = 1e-6


def logistic_params(
    mean: Float[np.ndarray, "column latent"], covariance: Float[np.ndarray, "column column"], forgetting: Rates
) -> dict[str, np.ndarray]:
    """Arrays of a prior: ``mean`` has one column for two classes, else one a class; latents share the covariance.

    Examples
    --------
    >>> logistic_params(np.zeros((3, 1)), np.eye(3), np.array([0.999]))["factor"].shape
    (3, 3)
    """
    return {
        "mean": np.asarray(mean, dtype=float),
        "factor": factor(np.asarray(covariance, dtype=float)),
        "forgetting": checked_forgetting(forgetting),
    }


def logistic_start(params: Params) -> State:
    """The state before the first row: no curvature beyond the prior's, the prior's mode.

    ``curvature (rate, latent, rank, rank)`` is the posterior precision less that of the prior, ``natural (rate, latent,
    rank)`` the precision times the mean. What follows from them is kept for predictions: the mean ``white`` and the covariance
    ``(root' root)^-1 - spike spike'``, in whitened coordinates. No size depends on the number of rows.
    """
    rates, rank, latents = len(params["forgetting"]), params["factor"].shape[1], params["mean"].shape[1]
    return {
        "curvature": np.zeros((rates, latents, rank, rank)),
        "natural": np.zeros((rates, latents, rank)),
        "white": np.zeros((rates, latents, rank)),
        "root": np.tile(np.eye(rank), (rates, latents, 1, 1)),
        "spike": np.zeros((rates, latents, rank)),
    }


def _precision(curvature: np.ndarray) -> np.ndarray:
    """Add the prior's precision, the identity."""
    rates, latents, rank, _ = curvature.shape
    precision = curvature.copy()
    precision.reshape(rates * latents, rank * rank)[:, :: rank + 1] += 1.0
    return precision


def _solve(precision: np.ndarray, sides: np.ndarray) -> Float[np.ndarray, "rate latent side rank"]:
    """Solve for every rate and latent; both arguments are overwritten."""
    rates, latents, side, rank = sides.shape
    batch = rates * latents
    return solve_definite(precision.reshape(batch, rank, rank), sides.reshape(batch, side, rank)).reshape(sides.shape)


def logistic_learn(
    params: Params, state: State, x: Float[np.ndarray, "row column"], y: Int[np.ndarray, " row"]
) -> State:
    """Learn the rows of a chunk; within it a row counts less the earlier it came.

    Examples
    --------
    >>> params = logistic_params(np.zeros((1, 1)), np.eye(1), np.array([1.0]))
    >>> state = logistic_learn(params, logistic_start(params), np.ones((1, 1)), np.array([1]))
    >>> round(float(logistic_weights(params, state)[0][0, 0, 0]), 3)  # w = 1 - 1 / (1 + exp(-w))
    0.401
    """
    scaled = x @ params["factor"]
    offset = (x @ params["mean"]).T  # latent row
    kept = params["forgetting"][:, None, None] ** len(x)
    curvature, natural = kept[..., None] * state["curvature"], kept * state["natural"]
    classes = np.array([[1]]) if len(offset) == 1 else np.arange(len(offset))[:, None]
    target = (y == classes).astype(float)
    if len(x) == 1:
        return _learn_row(curvature, natural, scaled[0], offset[:, 0], target[:, 0])
    weight = recency(params["forgetting"], len(x))[:, None, :]
    precision = _precision(curvature)
    start = _solve(precision.copy(), natural[..., None, :].copy())[..., 0, :]
    z = _mode(precision, start, scaled, offset, target, weight)
    p = expit(offset + z @ scaled.T)
    root = np.sqrt(weight * p * (1.0 - p))[..., None] * scaled
    gained = root.swapaxes(2, 3) @ root
    precision += gained
    natural = (precision @ z[..., None])[..., 0]
    _solve(precision, z[..., None, :].copy())  # leaves the root in place of the precision
    curvature += gained
    return {"curvature": curvature, "natural": natural, "white": z, "root": precision, "spike": np.zeros_like(z)}


def _mode(
    precision: np.ndarray,
    start: np.ndarray,
    scaled: np.ndarray,
    offset: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
) -> Float[np.ndarray, "rate latent rank"]:
    """The most probable whitened weights of every rate and latent, by Newton's method that never goes down."""

    def value(score: np.ndarray, move: np.ndarray, pull: np.ndarray) -> np.ndarray:
        return (weight * (target * score - np.logaddexp(0.0, score))).sum(axis=2) - 0.5 * (move * pull).sum(axis=2)

    z, move, pull = start, np.zeros_like(start), np.zeros_like(start)
    score = offset + z @ scaled.T
    best = value(score, move, pull)
    for _ in range(_STEPS):
        p = expit(score)
        gradient = (weight * (target - p)) @ scaled - pull
        root = np.sqrt(weight * p * (1.0 - p))[..., None] * scaled
        step = _solve(precision + root.swapaxes(2, 3) @ root, gradient[..., None, :].copy())[..., 0, :]
        if (gradient * step).sum(axis=2).max() < _TOLERANCE:  # twice what is left to be gained
            break
        length = np.ones((*best.shape, 1))
        for _ in range(_HALVINGS):
            moved = move + length * step
            pull = (precision @ moved[..., None])[..., 0]
            score = offset + (start + moved) @ scaled.T
            new = value(score, moved, pull)
            worse = new < best - 1e-12 * (1.0 + np.abs(best))
            if not worse.any():
                break
            length = np.where(worse[..., None], 0.5 * length, length)
        z, move, best = start + moved, moved, new
    return z


def _learn_row(
    curvature: np.ndarray, natural: np.ndarray, scaled: np.ndarray, offset: np.ndarray, target: np.ndarray
) -> State:
    """Learn one row into sums that are overwritten.

    The mode moves along ``precision^-1 x`` by ``t = target - p(t)``, an equation in one unknown; the covariance loses what the
    row says about the same direction (Sherman and Morrison).
    """
    rates, latents, rank = natural.shape
    precision = _precision(curvature)
    known = np.empty((rates, latents, 2, rank))
    known[..., 0, :], known[..., 1, :] = natural, scaled
    solved = _solve(precision, known)
    white, spike, square = np.empty_like(natural), np.empty_like(natural), scaled[:, None] * scaled
    for rate in range(rates):
        for latent in range(latents):  # a row costs as much as its overhead: single numbers are faster than arrays
            middle, along = solved[rate, latent]
            before, slope = float(middle @ scaled), float(along @ scaled)
            t, bend = _move(float(offset[latent]) + before, slope, float(target[latent]))
            curvature[rate, latent] += bend * square
            # precision @ z of the new mode z, from what is known already: natural + t x + bend (x'z) x
            natural[rate, latent] += (t + bend * (before + slope * t)) * scaled
            white[rate, latent] = middle + t * along
            spike[rate, latent] = sqrt(bend / (1.0 + bend * slope)) * along
    return {"curvature": curvature, "natural": natural, "white": white, "root": precision, "spike": spike}


def _move(score: float, slope: float, target: float) -> tuple[float, float]:
    """The root ``t`` of ``t = target - p(score + slope t)`` between bounds, and ``p (1 - p)`` there."""
    low, high = min(target - 1.0, 0.0), max(target, 0.0)
    t = 0.0
    for _ in range(_HALVINGS):
        p = 0.5 + 0.5 * tanh(0.5 * (score + slope * t))
        miss = t - target + p  # grows with t
        if abs(miss) < 1e-9:
            break
        if miss < 0.0:
            low = t
        else:
            high = t
        t -= miss / (1.0 + slope * p * (1.0 - p))
        if not low <= t <= high:
            t = 0.5 * (low + high)
    return t, p * (1.0 - p)


def logistic_predict(params: Params, state: State, x: Float[np.ndarray, "row column"]) -> Categorical:
    """Class probabilities averaged over the posterior; the task axis of the answer are the rates.

    Examples
    --------
    >>> params = logistic_params(np.zeros((1, 3)), np.eye(1), np.array([1.0, 0.9]))
    >>> logistic_predict(params, logistic_start(params), np.ones((1, 1))).probability.shape
    (2, 1, 3)
    """
    scaled = x @ params["factor"]
    rates, latents, rank = state["white"].shape
    mean = (x @ params["mean"]).T + state["white"] @ scaled.T
    variance = squared_length(state["root"].reshape(rates * latents, rank, rank), scaled).reshape(mean.shape)
    variance -= np.square(state["spike"] @ scaled.T)
    if latents == 1:
        return Categorical(averaged(mean[:, 0, :, None], variance[:, 0, :, None]))
    each = averaged(mean[..., None], variance[..., None])[..., 1].swapaxes(1, 2)
    each = np.maximum(each, 1e-12)
    return Categorical(each / each.sum(axis=2, keepdims=True))


def logistic_weights(
    params: Params, state: State
) -> tuple[Float[np.ndarray, "rate column latent"], Float[np.ndarray, "rate latent column column"]]:
    """Posterior mean and covariance of the weights of every latent."""
    spread = params["factor"]
    inverse = np.linalg.inv(_precision(state["curvature"]))
    return params["mean"] + spread @ state["white"].swapaxes(1, 2), spread @ inverse @ spread.T
