from __future__ import annotations

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.online.stream import StreamResult
from upstairs.online.summary import BINS, begin_summary, summarised, with_rows


def result(loss: np.ndarray, classifies: bool = True) -> StreamResult:
    return StreamResult(loss, np.zeros(len(loss)), loss, np.arange(len(loss)), classifies, 1.0)


def test_totals_and_curves_are_those_of_the_result() -> None:
    loss = (np.random.default_rng(0).random(500) < 0.3).astype(float)
    loss[[3, 70]] = np.nan
    found = summarised({"mine": result(loss), "other": result(1.0 - loss)})
    assert found.total("mine") == pytest.approx(result(loss).total)
    assert found.total("other") == pytest.approx(1.0 - result(loss).total)
    at, height = found.curve("mine", 50)
    np.testing.assert_array_equal(at, np.arange(1, 501))
    np.testing.assert_allclose(height, result(loss).rolling(50))
    squared = summarised({"mine": result(loss, classifies=False)})
    np.testing.assert_allclose(squared.curve("mine", 50)[1], result(loss, classifies=False).rolling(50))


def test_memory_is_bounded_and_nothing_is_lost() -> None:
    loss = np.random.default_rng(0).random(5 * BINS + 7)
    summary = begin_summary(["mine"], False)
    for start in range(0, len(loss), 10):
        summary = with_rows(summary, loss[None, start : start + 10], world=start // 2000)
    assert summary.loss.shape == (1, BINS)
    assert (summary.width, summary.rows, summary.bins) == (8, len(loss), -(-len(loss) // 8))
    assert summary.total("mine") == pytest.approx(loss.mean())
    at, height = summary.curve("mine", 80)
    full = result(loss, classifies=False).rolling(80)
    np.testing.assert_allclose(height[:-1], full[at[:-1] - 1])
    assert at[-1] == len(loss)
    assert summary.world[: summary.bins].tolist() == sorted(summary.world[: summary.bins].tolist())
    assert [rows for rows, _, _ in summary.worlds.values()] == [2000, 2000, len(loss) - 4000]
    assert summary.total_of_world(1) == pytest.approx(loss[2000:4000].mean())


def test_a_large_chunk_at_once() -> None:
    loss = np.arange(float(3 * BINS))
    summary = with_rows(begin_summary(["a"], False), loss[None])
    assert (summary.width, summary.rows) == (4, 3 * BINS)
    assert summary.total("a") == pytest.approx(loss.mean())


def test_rows_without_loss_or_label() -> None:
    summary = begin_summary(["a", "b"], True)
    assert np.isnan(summary.total("a"))
    assert summary.curve("a", 5)[0].shape == (0,)
    assert with_rows(summary, np.zeros((2, 0))) is summary
    summary = with_rows(summary, np.array([[np.nan, 1.0, np.nan], [0.0, 0.0, np.nan]]))
    assert (summary.labels, summary.counted.sum(axis=1).tolist()) == (2, [1, 2])
    assert with_rows(summary, np.full((2, 1), np.nan), labels=1).labels == 3
    assert summary.worlds == {}


def test_results_of_different_rows_are_refused() -> None:
    with pytest.raises(TaskError, match="the same rows and the same kind"):
        summarised({"a": result(np.zeros(3)), "b": result(np.zeros(4))})
    with pytest.raises(TaskError, match="the same rows and the same kind"):
        summarised({"a": result(np.zeros(3)), "b": result(np.zeros(3), classifies=False)})
    with pytest.raises(TaskError, match="world has 2 rows"):
        summarised({"a": result(np.zeros(3))}, np.zeros(2, dtype=np.int64))
    with pytest.raises(TaskError, match="one learner"):
        summarised({})
