r"""Recursive Bayesian linear regression with forgetting: a posterior that follows a stream, a chunk or a row at a time.

Learned over tasks: the prior of the weights, ``w = mean + F z`` with ``z ~ N(0, noise-scaled 1)``, the noise, and how
fast to forget. Learned on a stream: sums over the rows seen, in which a row that is ``k`` rows old counts
``forgetting ** k``. Several rates are followed at once (the axis ``rate``); several outputs share one posterior shape.

Plain exponential forgetting divides the whole posterior precision, so that directions which the stream does not visit
wind up: their variance grows without bound. Here the posterior is forgotten *towards the prior* (stabilised forgetting,
the geometric mean of posterior and prior in references [1] and [2]):

.. math:: M_t = \lambda M_{t-1} + (1 - \lambda) M_0 + x_t x_t' / \sigma^2
          \quad\Longleftrightarrow\quad
          M_t = M_0 + \sum_s \lambda^{t-s} x_s x_s' / \sigma^2 .

It is chosen over restricted forgetting [3] because it is exact: the posterior is that of one weighted regression with the
whole prior, its precision never falls below the prior's, and it does not depend on how rows were cut into chunks. In
whitened coordinates the prior's precision is the identity, so no matrix that is solved is worse conditioned than the
data make it, however long the stream.

References
----------
.. [1] Kulhavy, R. and Zarrop, M. B. (1993). On a general concept of forgetting. International Journal of Control 58.
.. [2] Milek, J. J. and Kraus, F. J. (1995). Time-varying stabilized forgetting for recursive least squares
   identification. IFAC Adaptive Systems in Control and Signal Processing.
.. [3] Kulhavy, R. (1987). Restricted exponential forgetting in real-time identification. Automatica 23.
.. [4] Gelman, A. et al. (2013). Bayesian data analysis, section 14.2: the noise with its conjugate prior.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from upstairs.errors import PriorMismatchError
from upstairs.inner.definite import solve_definite, squared_length
from upstairs.inner.gaussian import factor
from upstairs.inner.rule import Gaussian, Params, State

Rates: TypeAlias = Float[np.ndarray, " rate"]


def recursive_params(
    mean: Float[np.ndarray, "column output"],
    covariance: Float[np.ndarray, "column column"],
    noise: float,
    forgetting: Rates,
    noise_rows: float = np.inf,
) -> dict[str, np.ndarray]:
    """Arrays of a prior for `linear_start`, `linear_learn` and `linear_predict`.

    Parameters
    ----------
    mean, covariance
        The normal prior of the weights; outputs share the covariance.
    noise : float
        Variance of a target around its mean.
    forgetting
        What a row counts after one more row, each in (0, 1]; 1 forgets nothing.
    noise_rows : float, default=inf
        How many rows the value of ``noise`` is worth. If finite, the noise of every output is learned with the weights
        (reference [4]), and the prior's covariance is understood in units of the noise.

    Raises
    ------
    PriorMismatchError
        For a noise, number of rows or forgetting rate out of range.

    Examples
    --------
    >>> params = recursive_params(np.zeros((2, 1)), np.eye(2), 1.0, np.array([1.0, 0.99]))
    >>> params["factor"].shape, params["forgetting"]
    ((2, 2), array([1.  , 0.99]))
    """
    if not (np.isfinite(noise) and noise > 0):
        raise PriorMismatchError(f"noise={noise} must be a positive finite variance; take that of the targets.")
    if not noise_rows > 0:
        raise PriorMismatchError(f"noise_rows={noise_rows} must be positive; inf keeps the noise as it is given.")
    return {
        "mean": np.asarray(mean, dtype=float),
        "factor": factor(np.asarray(covariance, dtype=float)),
        "noise": np.asarray(noise, dtype=float),
        "noise_rows": np.asarray(noise_rows, dtype=float),
        "forgetting": checked_forgetting(forgetting),
    }


def checked_forgetting(forgetting: Rates) -> Rates:
    """The rates as float64, or an error that names the one out of range.

    Examples
    --------
    >>> checked_forgetting(np.array([1.0, 0.9]))
    array([1. , 0.9])
    """
    rates = np.asarray(forgetting, dtype=float)
    wrong = rates[~((rates > 0.0) & (rates <= 1.0))]
    if len(wrong) or not len(rates):
        found = f"holds {wrong[0]}" if len(wrong) else "is empty"
        raise PriorMismatchError(f"forgetting {found}; every rate must be in (0, 1], where 1 forgets nothing.")
    return rates


def recency(forgetting: Rates, rows: int) -> Float[np.ndarray, "rate row"]:
    """What every row of a chunk counts at the end of the chunk; the last row counts 1.

    Examples
    --------
    >>> recency(np.array([1.0, 0.5]), 3)
    array([[1.  , 1.  , 1.  ],
           [0.25, 0.5 , 1.  ]])
    """
    return np.asarray(forgetting[:, None] ** np.arange(rows - 1, -1, -1.0))


def linear_start(params: Params) -> State:
    """The state before the first row: the prior itself.

    ``gram (rate, rank, rank)``, ``cross (rate, rank, output)``, ``square (rate, output)`` and ``rows (rate)`` are weighted
    sums over the rows seen, in whitened coordinates; ``white (rate, output, rank)`` and ``root (rate, rank, rank)`` are the
    posterior mean and the factor of the posterior precision that follow from them. No size depends on the number of rows.
    """
    rates, rank, outputs = len(params["forgetting"]), params["factor"].shape[1], params["mean"].shape[1]
    return {
        "gram": np.zeros((rates, rank, rank)),
        "cross": np.zeros((rates, rank, outputs)),
        "square": np.zeros((rates, outputs)),
        "rows": np.zeros(rates),
        "white": np.zeros((rates, outputs, rank)),
        "root": np.tile(np.eye(rank), (rates, 1, 1)),
    }


def linear_learn(
    params: Params, state: State, x: Float[np.ndarray, "row column"], y: Float[np.ndarray, "row output"]
) -> State:
    """Learn rows in their order; the same for a chunk and for its rows one after another, up to rounding.

    Examples
    --------
    >>> params = recursive_params(np.zeros((1, 1)), np.eye(1), 1.0, np.array([1.0, 0.5]))
    >>> state = linear_learn(params, linear_start(params), np.ones((3, 1)), np.ones((3, 1)))
    >>> linear_weights(params, state)[0][:, 0, 0]  # 3 of 3 + 1 rows, and 1.75 of 1.75 + 1
    array([0.75      , 0.63636364])
    """
    rates, noise = params["forgetting"], float(params["noise"])
    scaled = x @ params["factor"]
    miss = y - x @ params["mean"]
    kept = rates if len(x) == 1 else rates ** len(x)
    gram, cross = kept[:, None, None] * state["gram"], kept[:, None, None] * state["cross"]
    square, rows = kept[:, None] * state["square"], kept * state["rows"]
    if len(x) == 1:  # what the other branch does, in half the time
        gram += scaled.T * scaled
        cross += scaled.T * miss
        square += miss * miss
        rows += 1.0
    else:
        weight = recency(rates, len(x))
        root = np.sqrt(weight)[:, :, None] * scaled
        gram += root.swapaxes(1, 2) @ root
        cross += (weight[:, :, None] * scaled).swapaxes(1, 2) @ miss
        square += weight @ np.square(miss)
        rows += weight.sum(axis=1)
    precision = gram / noise
    precision.reshape(len(rates), -1)[:, :: gram.shape[1] + 1] += 1.0
    white = np.divide(cross.swapaxes(1, 2), noise, order="C")
    solve_definite(precision, white)
    return {"gram": gram, "cross": cross, "square": square, "rows": rows, "white": white, "root": precision}


def linear_mean(
    params: Params, state: State, x: Float[np.ndarray, "row column"]
) -> Float[np.ndarray, "rate row output"]:
    """Predictive mean of every rate, row and output."""
    return x @ params["mean"] + (x @ params["factor"]) @ state["white"].swapaxes(1, 2)


def linear_moments(
    params: Params, state: State, x: Float[np.ndarray, "row column"]
) -> tuple[Float[np.ndarray, "rate row output"], Float[np.ndarray, "rate row output"]]:
    """Predictive mean and variance (the noise of one new row included) of every rate, row and output."""
    scaled = x @ params["factor"]
    mean = x @ params["mean"] + scaled @ state["white"].swapaxes(1, 2)
    variance = squared_length(state["root"], scaled)[:, :, None] + float(params["noise"])
    doubt = 1.0 / float(params["noise_rows"])
    if doubt == 0.0:
        return mean, np.broadcast_to(variance, mean.shape)
    # how many times the stated noise the rows show
    fitted = (state["cross"].swapaxes(1, 2) * state["white"]).sum(axis=2)
    shown = np.maximum(state["square"] - fitted, 0.0) / float(params["noise"])
    return mean, variance * ((1.0 + doubt * shown) / (1.0 + doubt * state["rows"])[:, None])[:, None, :]


def linear_predict(params: Params, state: State, x: Float[np.ndarray, "row column"]) -> Gaussian:
    """Predict rows of a stream with one output; the task axis of the answer are the rates.

    Examples
    --------
    >>> params = recursive_params(np.zeros((1, 1)), np.eye(1), 1.0, np.array([1.0]))
    >>> linear_predict(params, linear_start(params), np.array([[2.0]]))
    Gaussian(mean=array([[0.]]), variance=array([[5.]]))
    """
    mean, variance = linear_moments(params, state, x)
    return Gaussian(mean[..., 0], variance[..., 0])


def linear_weights(
    params: Params, state: State
) -> tuple[Float[np.ndarray, "rate column output"], Float[np.ndarray, "rate column column"]]:
    """Posterior mean and covariance of the weights; with a learned noise the covariance is in units of the noise."""
    spread = params["factor"]
    root = np.triu(state["root"])
    half = np.linalg.solve(root.swapaxes(1, 2), np.broadcast_to(spread.T, (len(root), *spread.T.shape)))
    mean = params["mean"] + spread @ state["white"].swapaxes(1, 2)
    return mean, half.swapaxes(1, 2) @ half
