"""Forms that a prior can take, each learned by empirical Bayes, and mixtures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from upstairs.inner.gaussian import factor
from upstairs.outer.empirical_bayes import learn_gaussian, moments
from upstairs.outer.laplace_em import learn_logistic
from upstairs.outer.pooling import Data
from upstairs.outer.thinning import thinned

MOST_FEATURES = 100_000
SPREADS = ("level", "diagonal", "full")
"""What differs between tasks: the level (and the weight of m), every weight on its own, or all together."""
REDUCED_SPREADS = ("level", "tied", "diagonal")
"""With few columns out of many: "tied" lets all directions differ by one variance in common."""
MOST_TASK_ROWS = 1000
"""Rows of a task from which the prior on few columns out of many is learned, drawn at random if there are more."""
PINNED = 1e6
"""Precision with which the mean of a direction is held at zero: what all tasks have in common is in m."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One form of the prior: the columns its weights belong to, and what may differ between tasks.

    ``features`` is ``"raw"``: weights of ``[1, x, m(x)]``; ``"network"``: weights of ``[1, h(x)]``; or ``"reduced"``: weights
    of ``[1, m(x), z(x)]``, few columns out of many (`upstairs.outer.reduction`). ``pooled`` says what ``m`` is.
    """

    pooled: str
    spread: str
    features: str = "raw"

    @property
    def name(self) -> str:
        """Short name for reports."""
        if self.features == "network":
            return f"network, {self.spread}"
        if self.features == "reduced":
            return f"mean of tasks, {self.spread}"
        return f"{'linear' if self.pooled == 'none' else self.pooled}, {self.spread}"

    def places(self, inputs: int, pooled: int) -> Int[np.ndarray, " column"]:
        """Where the candidate's columns stand among all columns ``[1, x, m(x), h(x)]``; h comes last and is open.

        Examples
        --------
        >>> Candidate("boosting", "full").places(2, 1).tolist()
        [0, 1, 2, 3]
        >>> Candidate("none", "full", "network").places(2, 1)[:3].tolist()
        [0, 4, 5]
        """
        if self.features == "network":
            return np.concatenate([[0], np.arange(1 + inputs + pooled, 1 + inputs + pooled + MOST_FEATURES)])
        return np.arange(1 + inputs + (0 if self.pooled == "none" else pooled))


def learn_candidate(
    candidate: Candidate, data: Data, told: Float[np.ndarray, "row output"] | None
) -> dict[str, np.ndarray]:
    """Learn the weights' prior of one candidate on standardised columns.

    Parameters
    ----------
    candidate
        The form.
    data
        Training rows, standardised.
    told
        Pooled predictions of the rows by models that have not seen the task, features of a network, or None.

    Returns
    -------
    dict
        ``mean`` and ``factor``, and for a regression ``noise``, of one component.
    """
    if candidate.features == "reduced":
        assert told is not None
        return _learn_reduced(candidate, data, told)
    extra = 0 if told is None else told.shape[1]
    columns = [np.ones((len(data.x), 1))]
    columns += [data.x] if candidate.features == "raw" else []
    phi = np.concatenate(columns + ([] if told is None else [told]), axis=1)
    shift, scale = phi.mean(axis=0), phi.std(axis=0)
    shift[0], scale[0] = 0.0, 1.0
    scale = np.where(scale > 1e-9, scale, 1.0)
    phi = (phi - shift) / scale
    width = phi.shape[1]
    random = np.arange(width)
    if candidate.spread == "level":
        random = np.concatenate([[0], np.arange(width - extra, width)])
    diagonal = candidate.spread == "diagonal"
    strength, target = (5.0, 0.01) if candidate.spread == "full" else (2.0, 0.005)
    back = np.diag(1.0 / scale)
    back[0, 1:] -= shift[1:] / scale[1:]
    if data.kind == "regression":
        stats = moments(phi, data.y, data.offsets)
        found = learn_gaussian(
            stats, random=random, diagonal=diagonal, strength=strength, target=target, max_iter=200, tolerance=1e-4
        )
        return {
            "weight": np.ones(1),
            "mean": (back @ found.mean)[None],
            "factor": (back @ factor(found.covariance))[None],
            "noise": np.array([found.noise]),
        }
    padded = pad_rows(phi, data.offsets)
    labels = pad_rows(data.y[:, None], data.offsets)[..., 0]
    mask = np.arange(padded.shape[1]) < np.diff(data.offsets)[:, None]
    logistic = learn_logistic(
        padded, labels, mask, data.ways, random=random, diagonal=diagonal, strength=strength, target=target
    )
    factors = [back @ factor(covariance) for covariance in logistic.covariance]
    rank = max(part.shape[1] for part in factors)
    return {
        "weight": np.ones(1),
        "mean": (logistic.mean @ back.T)[None],
        "factor": np.stack([np.pad(part, [(0, 0), (0, rank - part.shape[1])]) for part in factors])[None],
    }


def _learn_reduced(candidate: Candidate, data: Data, told: Float[np.ndarray, "row few"]) -> dict[str, np.ndarray]:
    """Learn a prior on ``[1, m, z]``; only the level and m have a mean, directions keep their relative lengths."""
    rows, offsets = thinned(data.offsets, MOST_TASK_ROWS, data.seed)
    counts = np.diff(offsets)
    outputs = data.ways if data.ways > 2 else 1
    width = 1 + told.shape[1]
    group = np.where(np.arange(width) <= outputs, np.minimum(np.arange(width), 1), 2)
    phi = np.concatenate([np.ones((len(rows), 1)), told[rows]], axis=1)
    shift, scale = phi.mean(axis=0), phi.std(axis=0)
    shift[0], scale[0] = 0.0, 1.0
    scale[group == 2] = np.sqrt(np.square(scale[group == 2]).mean()) if (group == 2).any() else 1.0
    scale = np.where(scale > 1e-9, scale, 1.0)
    phi = (phi - shift) / scale
    padded, labels = pad_rows(phi, offsets), pad_rows(data.y[rows][:, None], offsets)[..., 0]
    random = np.flatnonzero(group < 2) if candidate.spread == "level" else np.arange(width)
    logistic = learn_logistic(
        padded,
        labels,
        np.arange(padded.shape[1]) < counts[:, None],
        data.ways,
        random=random,
        diagonal=True,
        tied=group[random] if candidate.spread == "tied" else None,
        strength=2.0,
        target=0.005,
        ridge=np.where(group == 2, PINNED, 1.0),
    )
    back = np.diag(1.0 / scale)
    back[0, 1:] -= shift[1:] / scale[1:]
    return {
        "weight": np.ones(1),
        "mean": (logistic.mean @ back.T)[None],
        "factor": (back[:, random] @ np.stack([np.sqrt(c[np.ix_(random, random)]) for c in logistic.covariance]))[None],
    }


def pad_rows(rows: Shaped[np.ndarray, "row column"], offsets: np.ndarray) -> Float[np.ndarray, "task longest column"]:
    """Lay the rows of every task out on an axis of their own, padded by zeros."""
    counts = np.diff(offsets)
    out = np.zeros((len(counts), int(counts.max(initial=0)), rows.shape[1]))
    out[np.arange(out.shape[1]) < counts[:, None]] = rows
    return out


def mixture(
    parts: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float], places: Sequence[Int[np.ndarray, " _"]]
) -> dict[str, np.ndarray]:
    """Join priors into a mixture over all columns; a part gives no weight to columns that are not its own.

    Parameters
    ----------
    parts, weights
        Priors and their weights.
    places
        Where the columns of each stand among all (`Candidate.places`; more than there are columns are ignored).
    """
    own = [place[: part["mean"].shape[-1]] for part, place in zip(parts, places, strict=True)]
    columns = 1 + max(int(place.max()) for place in own)
    rank = max(part["factor"].shape[-1] for part in parts)

    def spread(array: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
        out = np.zeros((*array.shape[:axis], columns, *array.shape[axis:][1:]))
        out[(slice(None),) * axis + (place,)] = array
        return out

    means = [spread(part["mean"], place, part["mean"].ndim - 1) for part, place in zip(parts, own, strict=True)]
    factors = []
    for part, place in zip(parts, own, strict=True):
        wide = np.pad(part["factor"], [(0, 0)] * (part["factor"].ndim - 1) + [(0, rank - part["factor"].shape[-1])])
        factors.append(spread(wide, place, wide.ndim - 2))
    joined = {
        "weight": np.concatenate([w * np.asarray(part["weight"]) for w, part in zip(weights, parts, strict=True)]),
        "mean": np.concatenate(means),
        "factor": np.concatenate(factors),
    }
    if "noise" in parts[0]:
        joined["noise"] = np.concatenate([part["noise"] for part in parts])
    return joined


def in_units(params: Mapping[str, np.ndarray], center: float, scale: float) -> dict[str, np.ndarray]:
    """Turn a prior for standardised targets into one for targets in their own units."""
    mean = params["mean"] * scale
    mean[:, 0] += center
    return {**params, "mean": mean, "factor": params["factor"] * scale, "noise": params["noise"] * scale**2}
