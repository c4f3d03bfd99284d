"""The mathematics of the baselines: variance components, normal priors on shifts and weights, class means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "as_logits",
    "class_codes",
    "class_distances",
    "log_loss",
    "most_probable_shift",
    "most_probable_weights",
    "softmax",
    "variance_components",
    "variance_inside",
    "with_unseen",
]


def variance_components(residuals: Sequence[np.ndarray]) -> tuple[float, float]:
    """Variance of residuals within and between tasks, by the method of moments (one-way analysis of variance)."""
    counts = np.array([len(part) for part in residuals], dtype=float)
    means = np.array([part.mean() for part in residuals])
    total, tasks = counts.sum(), len(counts)
    inside = sum(float(np.square(part - part.mean()).sum()) for part in residuals)
    within = max(inside / max(total - tasks, 1.0), 1e-12)
    overall = float(counts @ means / total)
    freedom = total - np.square(counts).sum() / total
    if tasks < 2 or freedom <= 0:
        return within, 0.0
    return within, max((counts @ np.square(means - overall) - (tasks - 1) * within) / freedom, 0.0)


def variance_inside(x: Float[np.ndarray, "row column"], offsets: np.ndarray) -> Float[np.ndarray, " column"]:
    """Squares of every column around the means of the tasks, summed."""
    counts = np.diff(offsets)[:, None]
    means = np.add.reduceat(x, offsets[:-1], axis=0) / counts
    return np.square(x).sum(axis=0) - (counts * np.square(means)).sum(axis=0)


def most_probable_shift(
    logits: Float[np.ndarray, "row way"], codes: Int[np.ndarray, " row"], variance: float
) -> tuple[Float[np.ndarray, " way"], float]:
    """Most probable shift of the log odds under ``N(0, variance)`` a class, and Laplace's log evidence."""
    ways = logits.shape[1]
    counts = np.bincount(codes, minlength=ways)
    shift = np.zeros(ways)
    for _ in range(50):
        p = softmax(logits + shift)
        slope = p.sum(axis=0) - counts + shift / variance
        curve = np.diag(p.sum(axis=0)) - p.T @ p + np.eye(ways) / variance
        step = np.linalg.solve(curve, slope)
        shift = shift - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-8:
            break
    log_p = np.log(np.maximum(softmax(logits + shift)[np.arange(len(codes)), codes], 1e-300)).sum()
    log_det = np.linalg.slogdet(curve * variance)[1]
    return shift, float(log_p - 0.5 * (shift @ shift / variance + log_det))


def most_probable_weights(
    phi: Float[np.ndarray, "row column"],
    y: Int[np.ndarray, " row"],
    mean: Float[np.ndarray, " column"],
    std: Float[np.ndarray, " column"],
) -> Float[np.ndarray, " column"]:
    """Weights of a logistic regression of greatest posterior density under a normal prior, by damped Newton steps."""

    def loss(w: np.ndarray) -> float:
        margin = phi @ w
        return float((np.logaddexp(0.0, margin) - y * margin).sum() + 0.5 * np.square((w - mean) / std).sum())

    weights, value = mean.copy(), loss(mean)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(phi @ weights, -500, 500)))
        slope = phi.T @ (p - y) + (weights - mean) / std**2
        step = np.linalg.solve((phi.T * (p * (1.0 - p))) @ phi + np.diag(1.0 / std**2), slope)
        size = 1.0
        while (new := loss(weights - size * step)) > value and size > 1e-6:
            size *= 0.5
        if value - new <= 1e-10 * (1.0 + abs(value)):
            break
        weights, value = weights - size * step, new
    return weights


def class_distances(x: np.ndarray, codes: np.ndarray, new: np.ndarray) -> Float[np.ndarray, "row way"]:
    """Squared distances of rows to the class means of others."""
    member = (codes[:, None] == np.arange(int(codes.max()) + 1)).astype(np.float64)
    means = member.T @ x / member.sum(axis=0)[:, None]
    squares = np.square(new).sum(axis=1)[:, None] - 2.0 * new @ means.T + np.square(means).sum(axis=1)
    return np.maximum(squares, 0.0)


def class_codes(y: np.ndarray, classes: Sequence[Any]) -> Int[np.ndarray, " row"]:
    """Number labels by their place in ``classes``."""
    number = {label: code for code, label in enumerate(classes)}
    return np.array([number[label] for label in y.tolist()], dtype=np.int64)


def as_logits(out: np.ndarray) -> Float[np.ndarray, "row way"]:
    """One column (two classes) to two; more stay as they are."""
    out = out.reshape(len(out), -1)
    return np.column_stack([np.zeros(len(out)), out]) if out.shape[1] == 1 else out


def softmax(logits: Float[np.ndarray, "row way"]) -> Float[np.ndarray, "row way"]:
    """Turn log odds into probabilities; rows sum to one."""
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def log_loss(logits: Float[np.ndarray, "row way"], codes: Int[np.ndarray, " row"]) -> float:
    """Mean negative log probability of the right class."""
    return float(-np.log(np.maximum(softmax(logits)[np.arange(len(codes)), codes], 1e-12)).mean())


def with_unseen(
    logits: Float[np.ndarray, "row seen"], places: Int[np.ndarray, " seen"], ways: int, rows: int
) -> Float[np.ndarray, "row way"]:
    """Give each class that none of ``rows`` support rows showed the probability ``1 / (rows + ways)``.

    Examples
    --------
    >>> softmax(with_unseen(np.zeros((1, 2)), np.array([0, 2]), ways=3, rows=7)).round(2).tolist()
    [[0.45, 0.1, 0.45]]
    """
    unseen = ways - len(places)
    if unseen == 0:
        return logits
    share = 1.0 / (rows + ways)
    level = np.logaddexp.reduce(logits, axis=1) + np.log(share / (1.0 - unseen * share))
    out = np.repeat(level[:, None], ways, axis=1)
    out[:, places] = logits
    return out
