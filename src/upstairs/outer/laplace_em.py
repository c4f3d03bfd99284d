"""Learn a Gaussian prior over the weights of classification tasks: expectation-maximisation with Laplace's method.

Task t has latents ``phi (mu + z_t)`` (log-odds of class 1, or one score a class), ``z_t ~ N(0, Sigma)`` on the
columns ``random``. In turn: the mode of every ``z_t`` and the curvature there, a Newton step on ``mu`` with the
``z_t`` following it, and ``Sigma`` as the mean second moment of the approximate posteriors.

References
----------
.. [1] Breslow, N. E. and Clayton, D. G. (1993). Approximate inference in generalized linear mixed models. JASA 88.
.. [2] Rasmussen, C. E. and Williams, C. K. I. (2006). Gaussian processes for machine learning, section 3.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from upstairs.inner.logistic import Mode, find_mode, latents_of, probability

_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True)
class LearnedLogistic:
    """A prior over weights, one line a latent; ``history`` is the approximate log evidence of every iteration."""

    mean: Float[np.ndarray, "latent column"]
    covariance: Float[np.ndarray, "latent column column"]
    history: Float[np.ndarray, " step"]


def learn_logistic(
    phi: Float[np.ndarray, "task row column"],
    y: Shaped[np.ndarray, "task row"],
    mask: Bool[np.ndarray, "task row"],
    ways: int,
    *,
    random: Int[np.ndarray, " part"] | None = None,
    diagonal: bool = False,
    tied: Int[np.ndarray, " part"] | None = None,
    strength: float = 5.0,
    target: float = 0.01,
    ridge: float | Float[np.ndarray, " column"] = 1.0,
    max_iter: int = 40,
    tolerance: float = 1e-3,
) -> LearnedLogistic:
    """Learn mean and covariance of the weights over tasks.

    Parameters
    ----------
    phi, y, mask
        Padded features (columns standardised) and class numbers of every training task; padding rows are zero.
    ways
        Number of classes.
    random
        Columns whose weight differs between tasks; default all.
    diagonal
        Whether the weights differ independently of each other.
    tied
        Group of every column of ``random``: independent weights of one group have one variance in common.
    strength, target
        As in ``learn_gaussian``: pseudo tasks and their variance.
    ridge
        Precision that pulls the mean (not its level, column 0) to zero; one for all columns, or one a column.
    max_iter, tolerance
        At most so many iterations; stop when the evidence changes by less than ``tolerance`` a task.
    """
    tasks, _, width = phi.shape
    random = np.arange(width) if random is None else np.asarray(random)
    latents, q = (1 if ways <= 2 else ways), len(random)
    onehot = latents_of(y, latents)
    mean = np.zeros((latents, width))
    cov = np.tile(np.eye(q) * (0.5 / q), (latents, 1, 1))
    pull = np.tile(np.broadcast_to(np.asarray(ridge, dtype=float), (width,)), (latents, 1))
    pull[:, 0] = 1e-3
    block = max(1, _BLOCK // max(1, phi.shape[1] * width * latents * latents))
    starts = [slice(s, s + block) for s in range(0, tasks, block)]
    history: list[float] = []
    deviation = np.zeros((tasks, latents, q))
    for _ in range(max_iter):
        spread = np.stack([_root(c) for c in cov])
        back = np.linalg.pinv(spread)
        info = np.zeros((latents, width, latents, width))
        side = np.zeros((latents, width))
        second = np.zeros((latents, q, q))
        value = 0.0
        for part in starts:
            rows = phi[part]
            design = np.einsum("tnq,lqr->tnlr", rows[:, :, random], spread, optimize=True)
            z = np.einsum("lrq,tlq->tlr", back, deviation[part]).reshape(len(rows), -1)
            mode = find_mode(design, rows @ mean.T, onehot[part], mask[part], z, 1e-6)
            value += float(mode.evidence.sum())
            own, cover = _moments(mode, spread)
            deviation[part] = own
            second += np.einsum("tlq,tlr->lqr", own, own) + cover
            _mean_step(rows, design, mode, mean, onehot[part], mask[part], info, side)
        value -= 0.5 * float((pull * mean * mean).sum())
        if strength > 0:
            value -= (
                0.5 * strength * float(sum(np.linalg.slogdet(c)[1] + target * np.trace(np.linalg.inv(c)) for c in cov))
            )
        history.append(value)
        if len(history) > 3 and abs(history[-1] - history[-2]) < tolerance * tasks:
            break
        size = latents * width
        matrix = info.reshape(size, size) + np.diag(pull.ravel()) + 1e-8 * np.eye(size)
        step = np.linalg.solve(matrix, (side - pull * mean).ravel()).reshape(latents, width)
        mean = mean + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        cov = (second + strength * target * np.eye(q)) / (tasks + strength)
        if tied is not None:
            cov = np.stack([np.diag(_means_of(tied, np.diagonal(part))) for part in cov])
        elif diagonal:
            cov = cov * np.eye(q)
    full = np.zeros((latents, width, width))
    full[:, random[:, None], random] = cov
    return LearnedLogistic(mean, full, np.array(history))


def _means_of(group: Int[np.ndarray, " part"], value: Float[np.ndarray, " part"]) -> Float[np.ndarray, " part"]:
    """Replace every value by the mean of its group."""
    number = np.unique(group, return_inverse=True)[1]
    return (np.bincount(number, value) / np.bincount(number))[number]


def _root(covariance: np.ndarray) -> np.ndarray:
    """A square factor of a covariance, directions without variance as zero columns."""
    value, vector = np.linalg.eigh(covariance)
    return vector * np.sqrt(np.maximum(value, 0.0))


def _moments(mode: Mode, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Deviation of every task, and the sum of posterior covariances of every latent."""
    latents, _, rank = spread.shape
    inverse = np.linalg.inv(mode.lower).reshape(len(mode.z), latents * rank, latents, rank)
    own = np.einsum("lqr,tlr->tlq", spread, mode.z.reshape(-1, latents, rank))
    white = np.einsum("tkla,tklb->lab", inverse, inverse, optimize=True)
    return own, spread @ white @ spread.swapaxes(1, 2)


def _mean_step(
    phi: np.ndarray,
    design: np.ndarray,
    mode: Mode,
    mean: np.ndarray,
    onehot: np.ndarray,
    mask: np.ndarray,
    info: np.ndarray,
    side: np.ndarray,
) -> None:
    """Add gradient and curvature in the mean, the deviations following it, to ``side`` and ``info``."""
    tasks, _, latents, rank = design.shape
    score = phi @ mean.T + np.einsum("tnlr,tlr->tnl", design, mode.z.reshape(tasks, latents, rank))
    p = probability(score)
    real = mask[..., None].astype(float)
    side += np.einsum("tnl,tnp->lp", (onehot - p) * real, phi)
    weight = (np.eye(latents) * p[..., None] - p[..., :, None] * p[..., None, :]) * real[..., None]
    if latents == 1:
        scaled = phi * weight[..., 0]
        info[0, :, 0] += np.einsum("tnp,tnq->pq", scaled, phi, optimize=True)
        cross = scaled.swapaxes(1, 2) @ design[:, :, 0]
        half = np.linalg.solve(mode.lower, cross.swapaxes(1, 2))
        info[0, :, 0] -= np.einsum("trp,trq->pq", half, half, optimize=True)
        return
    info += np.einsum("tnp,tnlm,tnq->lpmq", phi, weight, phi, optimize=True)
    cross = np.einsum("tnp,tnlm,tnmr->tlpmr", phi, weight, design, optimize=True)
    cross = cross.reshape(tasks, latents * phi.shape[2], latents * rank)
    half = np.linalg.solve(mode.lower, cross.swapaxes(1, 2))
    info -= np.einsum("tra,trb->ab", half, half, optimize=True).reshape(info.shape)
