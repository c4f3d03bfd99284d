"""Learn a Gaussian prior over the weights of tasks from many tasks: empirical Bayes.

Task t has weights ``w_t = mu + z_t`` with ``z_t ~ N(0, Sigma)`` on the columns ``random`` (zero elsewhere) and
targets ``y = phi w_t + noise``: the linear mixed-effects model [1]_. ``mu``, ``Sigma`` and the noise are those of
greatest (penalised) marginal likelihood, found by an expectation-maximisation that works on ``G_t = Phi' Phi``
and ``b_t = Phi' y`` only, so that an iteration does not depend on the number of rows.

References
----------
.. [1] Laird, N. M. and Ware, J. H. (1982). Random-effects models for longitudinal data. Biometrics 38.
.. [2] Lindley, D. V. and Smith, A. F. M. (1972). Bayes estimates for the linear model. JRSS B 34.
.. [3] Liu, C. and Rubin, D. B. (1994). The ECME algorithm. Biometrika 81.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from upstairs.inner.gaussian import factor as factor_of

_TINY = 1e-10


@dataclass(frozen=True, slots=True)
class Moments:
    """Sufficient statistics of every task: all that learning needs from the rows."""

    gram: Float[np.ndarray, "task feature feature"]
    cross: Float[np.ndarray, "task feature"]
    square: Float[np.ndarray, " task"]
    rows: Float[np.ndarray, " task"]


@dataclass(frozen=True, slots=True)
class LearnedGaussian:
    """A prior over weights and the objective after every iteration.

    ``mean`` and ``covariance`` are those of the weights, ``noise`` is the variance of one row around its task's
    line, ``history`` the (penalised) log marginal likelihood, which never falls.
    """

    mean: Float[np.ndarray, " feature"]
    covariance: Float[np.ndarray, "feature feature"]
    noise: float
    history: Float[np.ndarray, " step"]


def moments(
    phi: Float[np.ndarray, "row feature"], y: Float[np.ndarray, " row"], offsets: Int[np.ndarray, " boundary"]
) -> Moments:
    """Sum the rows of every task into its sufficient statistics.

    Parameters
    ----------
    phi, y
        All rows, task after task.
    offsets
        Where each task starts, and the number of rows at the end: shape ``(task + 1,)``.
    """
    tasks, width = len(offsets) - 1, phi.shape[1]
    gram, cross = np.empty((tasks, width, width)), np.empty((tasks, width))
    for t in range(tasks):
        rows = phi[offsets[t] : offsets[t + 1]]
        gram[t] = rows.T @ rows
        cross[t] = rows.T @ y[offsets[t] : offsets[t + 1]]
    square = np.add.reduceat(y * y, offsets[:-1]) if len(y) else np.zeros(tasks)
    return Moments(gram, cross, square, np.diff(offsets).astype(float))


def learn_gaussian(
    stats: Moments,
    *,
    random: Int[np.ndarray, " part"] | None = None,
    diagonal: bool = False,
    strength: float = 0.0,
    target: float = 0.0,
    ridge: float = 1e-8,
    noise_floor: float = 1e-6,
    max_iter: int = 300,
    tolerance: float = 1e-6,
) -> LearnedGaussian:
    """Learn mean, covariance and noise of the weights over tasks.

    Every iteration first sets the mean to its generalised least squares value given the rest (the ECME step of
    [3]_), then covariance and noise by expectation-maximisation; both raise the objective, the log marginal
    likelihood minus ``strength / 2 * (log|Sigma| + trace(target * Sigma^-1))`` minus a tiny ridge on the mean.

    Parameters
    ----------
    stats
        Sufficient statistics of the training tasks. Columns should be standardised.
    random
        Columns whose weight differs between tasks; default all.
    diagonal
        Whether the weights differ independently of each other.
    strength
        How many pseudo tasks pull the covariance to ``target`` times the unit matrix; 0 is maximum likelihood.
    target
        Variance that the pseudo tasks have.
    ridge
        Precision (a task, in units of the noise) that pulls the mean to zero; keeps collinear columns harmless.
    noise_floor
        Least noise variance, as a fraction of the variance of the targets.
    max_iter, tolerance
        At most so many iterations; stop when the objective gains less than ``tolerance`` a task.

    Returns
    -------
    LearnedGaussian
    """
    tasks, width = stats.cross.shape
    random = np.arange(width) if random is None else np.asarray(random)
    total = stats.rows.sum()
    gram_all, cross_all = stats.gram.sum(axis=0), stats.cross.sum(axis=0)
    mean = np.linalg.solve(gram_all + max(ridge, 1e-6) * total * np.eye(width), cross_all)
    spread = max(stats.square.sum() / total, _TINY)
    left = max((stats.square.sum() - cross_all @ mean) / total, 1e-3 * spread)
    noise = 0.5 * left
    q = len(random)
    cov = np.eye(q) * (0.5 * left / q)
    cross_gram = stats.gram[:, random, :]
    part = np.ascontiguousarray(cross_gram[:, :, random])
    flat = cross_gram.reshape(-1, width)
    eye = np.eye(q)
    history: list[float] = []
    for _ in range(max_iter):
        factor = factor_of(cov)
        scaled = part @ factor
        inner = np.swapaxes(scaled, 1, 2) @ factor / noise + np.eye(factor.shape[1])  # 1 + F' G F / s2
        lower = np.linalg.cholesky(0.5 * (inner + inner.swapaxes(1, 2)))
        inverse = np.linalg.inv(inner)
        spread_t = factor @ inverse @ factor.T  # posterior covariance of z_t
        # mean by generalised least squares: sum G - G C G / s2
        half = spread_t @ cross_gram
        weight = gram_all - flat.T @ half.reshape(-1, width) / noise
        side = cross_all - half.reshape(-1, width).T @ stats.cross[:, random].ravel() / noise
        mean = np.linalg.solve(weight + ridge * tasks * np.eye(width), side)
        residual = stats.cross[:, random] - cross_gram @ mean
        shift = (spread_t @ residual[..., None])[..., 0] / noise  # posterior mean of z_t
        loss = stats.square.sum() - 2.0 * mean @ cross_all + mean @ gram_all @ mean
        gain = float((shift * residual).sum())
        logdet = 2.0 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum()
        value = -0.5 * (total * np.log(2 * np.pi * noise) + logdet + (loss - gain) / noise)
        value -= 0.5 * ridge * tasks / noise * mean @ mean
        if strength > 0:
            value -= 0.5 * strength * (np.linalg.slogdet(cov)[1] + target * np.trace(np.linalg.inv(cov)))
        history.append(float(value))
        if len(history) > 1 and history[-1] - history[-2] < tolerance * tasks:
            break
        # expectation-maximisation of covariance and noise
        second = shift.T @ shift + spread_t.sum(axis=0)
        cov = (second + strength * target * eye) / (tasks + strength)
        if diagonal:
            cov = cov * eye
        expected = (
            loss
            - 2.0 * gain
            + float((shift * (part @ shift[..., None])[..., 0]).sum())
            + float(np.vdot(spread_t, part))
        )
        noise = max((expected + ridge * tasks * mean @ mean) / total, noise_floor * spread)
    full = np.zeros((width, width))
    full[np.ix_(random, random)] = cov
    return LearnedGaussian(mean, full, float(noise), np.array(history))
