"""Are probabilities true? How often the predicted label is right, among the rows of equal confidence."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["BINS", "calibration_error", "confidence_bins"]

BINS = 10
"""Bins of equal width from 0 to 1."""


def confidence_bins(
    codes: Int[np.ndarray, " row"], probability: Float[np.ndarray, "row way"]
) -> Float[np.ndarray, "bin 3"]:
    """Sort rows by the probability of the label that is predicted, and count; sums of several sets of rows can be added.

    Parameters
    ----------
    codes : array of shape (row,)
        Numbers of the right labels.
    probability : array of shape (row, way)

    Returns
    -------
    array of shape (bin, 3)
        Of each of `BINS` bins of equal width: number of rows, sum of confidence, number of rows with the right label.

    Examples
    --------
    >>> found = confidence_bins(np.array([0, 1]), np.array([[0.95, 0.05], [0.98, 0.02]]))
    >>> found[9].round(2).tolist(), float(found[:9].sum())
    ([2.0, 1.93, 1.0], 0.0)
    """
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == codes
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    weights = (None, confidence, right)
    return np.stack([np.bincount(place, weight, minlength=BINS).astype(np.float64) for weight in weights], axis=1)


def calibration_error(bins: Float[np.ndarray, "bin 3"]) -> float:
    """Mean distance between confidence and share of right labels, over bins, each by its number of rows.

    Zero for true probabilities and endless rows. With few rows it is above zero by chance alone: about
    ``sqrt(bins / rows) / 2.5`` where labels are hard to tell.

    Parameters
    ----------
    bins : array of shape (bin, 3)
        As `confidence_bins` gives them. NaN if they hold no row.

    References
    ----------
    Guo et al. (2017). On calibration of modern neural networks. ICML, equation 3 ("expected calibration error").

    Examples
    --------
    >>> bins = np.zeros((10, 3))
    >>> bins[9] = 10, 9.5, 7
    >>> round(calibration_error(bins), 3)
    0.25
    """
    rows, confidence, right = bins.T
    return float(np.abs(confidence - right).sum() / rows.sum()) if rows.sum() else float("nan")
