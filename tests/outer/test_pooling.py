from __future__ import annotations

import numpy as np
import pytest

from upstairs.inner.pooled import pooled_prediction
from upstairs.outer.pooling import Data, Pooling, make_folds, without_deviation


def _data(kind: str, ways: int = 0, tasks: int = 9, rows: int = 30) -> Data:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((tasks * rows, 3))
    task = np.repeat(np.arange(tasks), rows)
    smooth = np.sin(2 * x[:, 0]) + x[:, 1]
    y = smooth + 2.0 * rng.standard_normal(tasks)[task] + 0.1 * rng.standard_normal(len(x))
    if kind == "classification":
        y = np.digitize(smooth, [0.0, 1.0][: ways - 1])
    folds = make_folds(np.arange(tasks), 3, 0)
    return Data(x, y, np.arange(tasks + 1) * rows, folds, kind, ways, 0)


def test_groups_are_never_split() -> None:
    groups = np.random.default_rng(0).integers(0, 7, 40)
    folds = make_folds(groups, 3, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in range(7))
    assert set(folds) == {0, 1, 2}


def test_a_tasks_own_deviation_is_taken_away() -> None:
    data = _data("regression")
    means = without_deviation(data).reshape(9, 30).mean(axis=1)
    assert means.std() < 0.2 * data.y.reshape(9, 30).mean(axis=1).std()


@pytest.mark.parametrize("pooled", ["ridge", "boosting"])
@pytest.mark.parametrize(("kind", "ways"), [("regression", 0), ("classification", 2), ("classification", 3)])
def test_out_of_fold_predictions_have_not_seen_the_task(pooled: str, kind: str, ways: int) -> None:
    data = _data(kind, ways)
    pool = Pooling(data, pooled)
    out, trees = pool.out_of_fold(frozenset({0, 1, 2}))
    assert out.shape == (270, ways if ways > 2 else 1)
    rows = data.row_fold == 1
    arrays = pool.arrays(frozenset({0, 2}), trees)
    np.testing.assert_allclose(pooled_prediction(arrays, data.x[rows]), out[rows], atol=1e-5)
    assert set(pool.models) == {frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2})}


def test_one_fold_is_dealt_anew() -> None:
    out, trees = Pooling(_data("regression"), "boosting").out_of_fold(frozenset({2}))
    assert out.shape == (90, 1)
    assert trees >= 1
