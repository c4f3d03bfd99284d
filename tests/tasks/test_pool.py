"""Classes stay whole and in their group; episodes have the ways and examples asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.tasks.pool import ClassPool


@pytest.fixture
def pool() -> ClassPool:
    """Twelve classes of five examples in four groups; the first number of an example is its class."""
    labels = np.repeat(np.arange(12), 5)
    X = np.stack([labels, np.arange(60)], axis=1).astype(np.uint8).reshape(60, 1, 2)
    shuffled = np.random.default_rng(0).permutation(60)
    return ClassPool(X[shuffled], labels[shuffled], group=np.array([f"g{c // 3}" for c in labels])[shuffled])


def test_rows_of_a_class(pool: ClassPool) -> None:
    assert len(pool) == 12
    assert pool.counts.tolist() == [5] * 12
    assert pool.groups.tolist() == [f"g{c // 3}" for c in range(12)]
    for number in range(12):
        assert set(pool.X[pool.rows_of(number), 0, 0].tolist()) == {number}
    part = pool.select([7, 2])
    assert part.classes.tolist() == [2, 7]
    assert part.groups.tolist() == ["g0", "g2"]
    assert len(part.y) == 10


def test_split_keeps_groups_whole(pool: ClassPool) -> None:
    train, valid, test = pool.split(valid=0.25, test=0.25, random_state=3)
    groups = [set(part.groups.tolist()) for part in (train, valid, test)]
    assert [len(found) for found in groups] == [2, 1, 1]
    assert set.union(*groups) == {"g0", "g1", "g2", "g3"}
    assert sum(len(part) for part in (train, valid, test)) == 12


def test_split_does_not_depend_on_the_order_of_rows(pool: ClassPool) -> None:
    turned = ClassPool(pool.X[::-1], pool.y[::-1], group=pool.groups[pool.y][::-1])
    for mine, other in zip(pool.split(random_state=5), turned.split(random_state=5), strict=True):
        assert mine.classes.tolist() == other.classes.tolist()


def test_split_into_too_small_parts(pool: ClassPool) -> None:
    with pytest.raises(TaskError, match="leaves 0 of 12 classes as training classes, and 2 are needed"):
        pool.split(valid=0.5, test=0.5)


def test_episodes_have_what_was_asked_for(pool: ClassPool) -> None:
    tasks = pool.episodes(11, ways=4, shots=1, queries=3, random_state=0)
    assert tasks.labels == "own"
    assert tasks.names[0] == "episode-00"
    assert tasks.names[10] == "episode-10"
    for task in tasks:
        assert task.X.shape == (16, 2)
        assert task.X.dtype == np.float64
        assert len(task.classes) == 4
        assert np.bincount(task.y, minlength=12).max() == 4
        np.testing.assert_array_equal(task.X[:, 0], task.y)
        assert len(set(task.X[:, 1])) == 16


def test_episodes_repeat_with_the_seed(pool: ClassPool) -> None:
    first, again, other = (pool.episodes(2, ways=3, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[1].X, again[1].X)
    assert not np.array_equal(first[1].X, other[1].X)


def test_episodes_use_classes_with_enough_examples_only() -> None:
    labels = np.array([0, 1, 1, 2, 2, 3, 3])
    pool = ClassPool(np.ones((7, 1)), labels)
    for task in pool.episodes(10, ways=3, shots=1, queries=1, random_state=0):
        assert task.classes == (1, 2, 3)
    with pytest.raises(
        TaskError, match="ways=4 and shots=1 ask for 4 classes with at least 2 examples, but only 3 of 4"
    ):
        pool.episodes(1, ways=4, shots=1)


@pytest.mark.parametrize(
    ("X", "labels", "group", "message"),
    [
        (np.ones((3, 2)), [0, 1], None, r"got \(3, 2\) and \(2,\)"),
        (np.ones(3), [0, 1, 1], None, r"got \(3,\) and \(3,\)"),
        (np.array([[1.0], [np.nan]]), [0, 1], None, "finite numbers"),
        (np.array([["a"], ["b"]]), [0, 1], None, "finite numbers"),
        (np.ones((2, 1)), [0, 0], None, "at least 2 classes, but labels hold 1"),
        (np.ones((2, 1)), [0.0, np.nan], None, "labels must not be missing"),
        (np.ones((2, 1)), np.array(["a", None], dtype=object), None, "labels must not be missing"),
        (np.ones((2, 1)), [0, 1], ["a"], "group has 1 entries for 2 rows"),
        (np.ones((3, 1)), [0, 1, 1], ["a", "b", "c"], "Class .*1.* stands in the groups .*'b'.* and .*'c'"),
    ],
)
def test_bad_pools(X: Any, labels: Any, group: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        ClassPool(X, labels, group=group)
