"""Few columns out of many: the decisions of models of single tasks, averaged, and the leading directions of the rows.

Over some hundred columns a prior with a weight of its own for every column can neither be learned from the usual
number of tasks nor be searched in reasonable time. All candidates are then formed on the columns ``[m(x), z(x)]``:
``m`` is the mean decision of ridge-penalised logistic regressions of the training tasks, one a task, each task having
the same say; ``z`` are principal components [1]_. Both are linear in the raw columns, and so is what is learned on
them: a prior on ``[1, x]`` whose covariance has low rank.

Tasks may hold the same rows under other labels (molecules of several assays). A model that has seen a row under one
label says more about its other labels than it would about a new row, and adaptation would be underrated. Rows are then
dealt into parts by their content, and a row gets the decision of models that were fitted without its part.

The weights of a task's model have a normal prior of variance one over the number of columns, with which the decision
of a standardised row has variance one: the strength follows from the columns and is not searched.

References
----------
.. [1] Jolliffe, I. T. (2002). Principal component analysis, section 8.1 (regression on leading components).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.utils.extmath import randomized_svd

from upstairs.outer.pooling import Data

DIRECTIONS = 50
"""Most principal components."""
MOST_ROWS = 10_000
"""Rows from which directions are learned, drawn at random if there are more."""


PARTS = 3
SHARED = 0.1
"""Share of rows that other tasks hold too from which decisions are those of models without the row's part."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """Models of single tasks, and directions; made once for all sets of folds.

    ``weights`` are those of every task's model on ``[1, x]``, zero where ``usable`` is False: the task does not
    show every class. The first along the axis ``without`` is fitted to all rows, the others (if tasks share rows)
    without one part of them. ``directions`` are orthonormal columns, which see no labels.
    """

    data: Data
    weights: Float[np.ndarray, "without task column output"]
    usable: Bool[np.ndarray, " task"]
    directions: Float[np.ndarray, "feature part"]

    @classmethod
    def fit(cls, data: Data) -> Reduction:
        """Fit a model to every task, and directions to all rows.

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> data = Data(rng.normal(size=(40, 5)), np.arange(40) % 2, np.array([0, 20, 40]), np.arange(2),
        ...             "classification", 2, 0)
        >>> Reduction.fit(data).coef(frozenset({0, 1})).shape
        (1, 6, 6)
        """
        tasks, width = len(data.fold), data.x.shape[1]
        number = _part_of(data.x) if _shared(data.x, data.offsets) else np.zeros(len(data.x), dtype=np.int64)
        left_out = range(PARTS + 1) if number.any() else range(1)
        weights = np.zeros((len(left_out), tasks, 1 + width, data.ways if data.ways > 2 else 1))
        usable = np.zeros(tasks, dtype=bool)
        for task in range(tasks):
            rows = np.arange(data.offsets[task], data.offsets[task + 1])
            whole = _model(data, rows)
            usable[task] = whole is not None
            if whole is None:
                continue
            weights[0, task] = whole
            for part in left_out[1:]:
                model = _model(data, rows[number[rows] != part])
                weights[part, task] = whole if model is None else model
        rng = np.random.default_rng(data.seed)
        x = data.x
        if len(x) > MOST_ROWS:
            x = x[np.sort(rng.choice(len(x), MOST_ROWS, replace=False))]
        centred = x - x.mean(axis=0)
        count = min(DIRECTIONS, width, max(len(centred) - 1, 1))
        return cls(data, weights, usable, randomized_svd(centred, count, random_state=data.seed)[2].T)

    def coef(self, folds: frozenset[int]) -> Float[np.ndarray, "without column few"]:
        """Map ``[1, x]`` of rows of other tasks to ``[m, z]``, m being that of the tasks in ``folds`` (see `reduced`)."""
        own = np.isin(self.data.fold, list(folds)) & self.usable
        return self._joined(self.weights[:, own].sum(axis=1) / max(int(own.sum()), 1))

    def told(self, folds: frozenset[int]) -> Float[np.ndarray, "row few"]:
        """``[m, z]`` of the rows of the tasks in ``folds``, m being that of the other tasks in ``folds``."""
        chosen = np.flatnonzero(np.isin(self.data.fold, list(folds)))
        total, usable = self.weights[:, chosen].sum(axis=1), int(self.usable[chosen].sum())
        parts = []
        for task in chosen:
            mean = (total - self.weights[:, task]) / max(usable - int(self.usable[task]), 1)
            rows = slice(self.data.offsets[task], self.data.offsets[task + 1])
            parts.append(reduced(self._joined(mean), self.data.x[rows]))
        return np.concatenate(parts)

    def _joined(self, mean: Float[np.ndarray, "without column output"]) -> Float[np.ndarray, "without column few"]:
        directions = np.broadcast_to(
            np.pad(self.directions, [(1, 0), (0, 0)]), (len(mean), *mean.shape[1:2], self.directions.shape[1])
        )
        return np.concatenate([mean, directions], axis=2)


def _model(data: Data, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "column output"] | None:
    x, y = data.x[rows], data.y[rows]
    if len(np.unique(y)) < max(data.ways, 2):
        return None
    model = LogisticRegression(C=1.0 / max(x.shape[1], 1), max_iter=300).fit(x, y)
    return np.concatenate([model.intercept_[None], model.coef_.T])


def _digests(x: Float[np.ndarray, "row feature"]) -> Int[np.ndarray, " row"]:
    """A number a row that depends on its content alone."""
    rows = np.ascontiguousarray(x + 0.0)  # minus zero becomes zero
    return np.array(
        [int.from_bytes(blake2b(row.tobytes(), digest_size=7).digest(), "big") for row in rows], dtype=np.int64
    )


def _part_of(x: Float[np.ndarray, "row feature"]) -> Int[np.ndarray, " row"]:
    """The part of every row, 1 to `PARTS`."""
    return 1 + _digests(x) % PARTS


def _shared(x: Float[np.ndarray, "row feature"], offsets: Int[np.ndarray, " boundary"]) -> bool:
    """Whether many rows are found in several tasks."""
    task = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    number, place = np.unique(_digests(x), return_inverse=True)
    tasks = np.bincount(np.unique(np.stack([place, task]), axis=1)[0], minlength=len(number))
    return bool((tasks[place] > 1).mean() > SHARED)


def reduced(
    coef: Float[np.ndarray, "without column few"], x: Float[np.ndarray, "row feature"]
) -> Float[np.ndarray, "row few"]:
    """Columns ``[m, z]`` of rows; with several lines of ``coef`` from models that have not seen the row.

    Examples
    --------
    >>> import numpy as np
    >>> reduced(np.array([[[0.5], [3.0]]]), np.array([[2.0]])).tolist()
    [[6.5]]
    """
    if len(coef) == 1:
        return x @ coef[0, 1:] + coef[0, 0]
    part = _part_of(x)
    out = np.empty((len(x), coef.shape[2]))
    for number in range(1, len(coef)):
        rows = part == number
        out[rows] = x[rows] @ coef[number, 1:] + coef[number, 0]
    return out


def to_raw(params: Mapping[str, np.ndarray], coef: Float[np.ndarray, "without column few"]) -> dict[str, np.ndarray]:
    """Turn a prior on ``[1, m, z]`` into the same prior on ``[1, x]``, with the models of all rows.

    Examples
    --------
    >>> import numpy as np
    >>> told = {"weight": np.ones(1), "mean": np.array([[[1.0, 2.0]]]), "factor": np.ones((1, 1, 2, 1))}
    >>> to_raw(told, np.array([[[0.5], [3.0], [0.0]]]))["mean"].tolist()
    [[[2.0, 6.0, 0.0]]]
    """
    back = np.concatenate([np.eye(coef.shape[1], 1), coef[0]], axis=1)
    return {**params, "mean": params["mean"] @ back.T, "factor": back @ params["factor"]}
