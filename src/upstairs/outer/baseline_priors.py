"""Two classical priors over tasks, as baselines: the linear mixed-effects model, and pooled weights with a spread."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Shaped
from sklearn.linear_model import LogisticRegression

from upstairs.inner.gaussian import factor
from upstairs.outer.candidates import in_units
from upstairs.outer.empirical_bayes import learn_gaussian, moments

__all__ = ["linear_gaussian_prior", "pooled_logistic_prior"]


def linear_gaussian_prior(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    *,
    max_iter: int = 1000,
) -> dict[str, np.ndarray]:
    """Params of ``BayesianLinear``: mean, full covariance and noise on ``[1, x]`` of greatest marginal likelihood.

    The linear mixed-effects model of Laird and Ware (1982), without a penalty and without a pooled prediction.

    Parameters
    ----------
    x, y, offsets
        Encoded training rows, task after task.
    max_iter
        Iterations at most; learning stops when one gains less than 1e-6 a task.
    """
    center, scale = _center_scale(x)
    level, unit = float(np.mean(y)), float(np.std(y)) or 1.0
    phi = np.column_stack([np.ones(len(x)), (x - center) / scale])
    stats = moments(phi, (np.asarray(y, dtype=float) - level) / unit, np.asarray(offsets))
    found = learn_gaussian(stats, max_iter=max_iter, tolerance=1e-6)
    back = _back(center, scale)
    params = {
        "weight": np.ones(1),
        "mean": (back @ found.mean)[None],
        "factor": (back @ factor(found.covariance))[None],
        "noise": np.array([found.noise]),
    }
    return in_units(params, level, unit)


def pooled_logistic_prior(
    x: Float[np.ndarray, "row feature"],
    y: Shaped[np.ndarray, " row"],
    offsets: Int[np.ndarray, " boundary"],
    ways: int,
    *,
    fraction: float = 0.3,
) -> dict[str, np.ndarray]:
    """Params of ``BayesianLogistic``: pooled weights, and ``fraction`` times the spread of the tasks' own weights.

    Parameters
    ----------
    x, y, offsets
        Encoded training rows, task after task; class numbers.
    ways
        Number of classes.
    fraction
        Standard deviation of a weight, relative to that of the weights fitted to every task alone.
    """
    center, scale = _center_scale(x)
    inner = (x - center) / scale
    latents = 1 if ways <= 2 else ways
    mean = _weights(inner, y, latents)
    own = [_weights(inner[a:b], y[a:b], latents) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    usable = [weights for weights in own if weights is not None]
    if mean is None:
        mean = np.zeros((latents, 1 + x.shape[1]))
    spread = np.std(usable, axis=0) if len(usable) > 1 else np.ones_like(mean)
    back = _back(center, scale)
    return {
        "weight": np.ones(1),
        "mean": (mean @ back.T)[None],
        "factor": np.stack([back * (fraction * line) for line in spread])[None],
    }


def _weights(x: np.ndarray, y: np.ndarray, latents: int) -> np.ndarray | None:
    if len(np.unique(y)) < max(latents, 2):
        return None
    model = LogisticRegression(C=1.0, max_iter=1000).fit(x, y)
    return np.column_stack([model.intercept_, model.coef_])


def _center_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = x.std(axis=0)
    return x.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)


def _back(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Matrix from weights of standardised columns to weights of the columns themselves."""
    back = np.diag(np.concatenate([[1.0], 1.0 / scale]))
    back[0, 1:] = -center / scale
    return back
