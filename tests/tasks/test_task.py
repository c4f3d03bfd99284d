"""Tasks and sets of tasks: checks, kinds, labels, groups, and splits that never depend on the order of tasks."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstairs.errors import TaskError
from upstairs.tasks.task import LazyTask, Task, infer_kind
from upstairs.tasks.taskset import TaskSet, check_disjoint


def regression(name: str, rows: int = 4, group: str | None = None) -> Task:
    return Task(np.ones((rows, 2)), np.linspace(0, 1, rows), name=name, kind="regression", group=group)


def labelled(name: str, labels: list[Any]) -> Task:
    return Task(np.ones((len(labels), 2)), np.array(labels), name=name, kind="classification")


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.array(["a", "b", "c"]), "classification"),
        (np.array([True, False]), "classification"),
        (np.array([0, 1, 1]), "classification"),
        (np.array([0.5, 1.5]), "classification"),
        (np.array([0, 1, 2]), "regression"),
        (np.array([0.1, 0.2, 0.3]), "regression"),
    ],
)
def test_infer_kind(y: np.ndarray, kind: str) -> None:
    assert infer_kind(y) == kind
    assert Task(np.ones((len(y), 1)), y, name="t").kind == kind


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (
            np.ones((2, 1)),
            [1.0, np.nan],
            r"Task 't' \(2 rows\): the target is missing or infinite in 1 rows \(first: row 1\)",
        ),
        (np.ones((2, 1)), [np.inf, 1.0], "missing or infinite in 1 rows"),
        (np.ones((2, 1)), np.array(["a", None], dtype=object), "missing or infinite in 1 rows"),
        (np.ones((2, 1)), [1.0], "X has 2 rows and y has 1"),
        (np.ones((0, 1)), np.empty(0), "at least one row"),
        (np.ones((2, 1)), np.ones((2, 2)), "y must have one dimension.*for several targets"),
        (np.ones(2), [1.0, 2.0], "Task 't': X must have two dimensions"),
        (pd.DataFrame({"a": [1, "x"]}), [1.0, 2.0], "Task 't': Column 'a' mixes numbers and text"),
    ],
)
def test_bad_tasks_are_named(X: Any, y: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Task(X, y, name="t")


def test_a_regression_needs_numbers() -> None:
    with pytest.raises(TaskError, match="must be numbers, not text"):
        Task(np.ones((1, 1)), ["a"], name="t", kind="regression")


def test_an_unknown_kind_is_refused() -> None:
    unchecked = object.__new__(Task)
    fields = {"X": np.ones((1, 1)), "y": [1.0], "name": "t", "kind": "regresion", "group": None}
    unchecked.__dict__.update(fields)
    with pytest.raises(TaskError, match="kind must be 'regression', 'classification' or None, but is 'regresion'"):
        inspect.unwrap(Task.__post_init__)(unchecked)


def test_labels_take_one_type() -> None:
    assert labelled("a", [0.0, 1.0]).classes == (0, 1)
    assert labelled("a", [0.0, 1.0]).y.dtype == np.int64
    assert Task(np.ones((2, 1)), np.array(["b", "a"], dtype=object), name="t").classes == ("a", "b")
    mixed = Task(np.ones((2, 1)), np.array([1, "a"], dtype=object), name="t")
    assert mixed.classes == ("1", "a")


def test_take_keeps_the_rest() -> None:
    task = Task(pd.DataFrame({"a": [1.0, 2.0, 3.0]}), [0.0, 1.0, 2.0], name="t", group="g")
    part = task.take([2, 0])
    assert part.y.tolist() == [2.0, 0.0]
    assert part.X.column("a").tolist() == [3.0, 1.0]
    assert (part.name, part.group, part.kind) == ("t", "g", "regression")
    assert part.columns == ("a",)
    assert regression("x").columns == 2
    assert regression("x").classes == ()
    assert task.load() is task


def test_a_set_has_one_kind_and_unique_names() -> None:
    with pytest.raises(TaskError, match="'c' is a classification, 'r' is a regression; pass kind="):
        TaskSet([regression("r"), labelled("c", [0, 1])])
    with pytest.raises(TaskError, match="'r' stands 2 times"):
        TaskSet([regression("r"), regression("r")])
    empty = TaskSet([])
    assert (len(empty), empty.kind, empty.labels) == (0, None, None)
    assert empty.describe()["rows"] == 0


def test_labels_are_inferred() -> None:
    assert TaskSet([labelled("a", [0, 1]), labelled("b", [1, 1])]).labels == "shared"
    assert TaskSet([labelled("a", ["x", "y"]), labelled("b", ["u", "v"])]).labels == "own"
    assert TaskSet([labelled("a", [0, 1]), labelled("b", [1, 2])], labels="shared").labels == "shared"
    assert TaskSet([regression("r")]).labels is None
    assert TaskSet([labelled("a", [0, 1]), labelled("b", [1, 2])]).classes == (0, 1, 2)


def test_own_labels_need_two_classes() -> None:
    with pytest.raises(TaskError, match=r"Task 'b' \(3 rows, 1 class\).*labels='shared'"):
        TaskSet([labelled("a", [0, 1]), labelled("b", [2, 2, 2])])


def test_indexing() -> None:
    tasks = TaskSet([regression(name) for name in "abcd"])
    assert tasks[1].name == "b"
    assert tasks[-1].name == "d"
    assert tasks[1:3].names == ("b", "c")
    assert tasks[[3, 0]].names == ("d", "a")
    assert tasks[np.array([2])].names == ("c",)
    assert tasks[np.array([True, False, False, True])].names == ("a", "d")
    assert tasks[[False, True, False, False]].names == ("b",)
    assert tasks[[]].names == ()
    assert tasks.named("c").name == "c"
    with pytest.raises(TaskError, match=r"tasks.named\('c'\)"):
        tasks["c"]  # type: ignore[call-overload]
    with pytest.raises(TaskError, match="no task 'z' among 4"):
        tasks.named("z")
    with pytest.raises(TaskError, match="one truth value a task, 4 in all"):
        tasks[np.array([True, False])]


def test_filter() -> None:
    tasks = TaskSet([labelled("a", [0, 1]), labelled("b", [1, 1, 1]), labelled("c", [0, 1, 1, 0])])
    assert tasks.filter(min_rows=3).names == ("b", "c")
    assert tasks.filter(max_rows=3).names == ("a", "b")
    assert tasks.filter(min_classes=2).names == ("a", "c")
    assert tasks.filter(lambda task: task.name > "a", min_classes=2).names == ("c",)
    assert tasks.filter(min_rows=9).kind == "classification"


def test_map() -> None:
    tasks = TaskSet([regression("a", group="g"), regression("b")])
    renamed = tasks.map(lambda task: replace(task, name=task.name.upper()))
    assert renamed.names == ("A", "B")
    assert renamed.groups == ("g", "task:B")
    with pytest.raises(TaskError, match="unique"):
        tasks.map(lambda task: replace(task, name="same"))
    with pytest.raises(TaskError, match="one kind"):
        tasks.map(lambda task: labelled("a", [0, 1]) if task.name == "a" else task)
    own = TaskSet([labelled("a", [0, 1]), labelled("b", [0, 1])], labels="own")
    assert own.map(lambda task: task).labels == "own"


def test_describe() -> None:
    tasks = TaskSet([regression("a", 3, "g"), regression("b", 5, "g"), regression("c", 10)])
    assert tasks.describe() == {
        "tasks": 3,
        "groups": 2,
        "kind": "regression",
        "rows": 18,
        "rows_min": 3,
        "rows_median": 5.0,
        "rows_max": 10,
        "same_columns": True,
    }
    one = Task(pd.DataFrame({"a": [1.0], "b": [2.0]}), [0], name="one", kind="classification")
    turned = Task(pd.DataFrame({"b": [1.0], "a": [2.0]}), [1], name="turned", kind="classification")
    other = Task(pd.DataFrame({"c": [1.0]}), [1], name="other", kind="classification")
    assert TaskSet([one, turned], labels="shared").describe()["same_columns"]
    found = TaskSet([one, other], labels="shared").describe()
    assert (found["same_columns"], found["labels"], found["classes"]) == (False, "shared", 2)


def test_split_shares_and_repeats() -> None:
    tasks = TaskSet([regression(f"t{i}") for i in range(10)])
    train, valid, test = tasks.split(valid=0.2, test=0.3, random_state=0)
    assert [len(part) for part in (train, valid, test)] == [5, 2, 3]
    assert sorted(train.names + valid.names + test.names) == sorted(tasks.names)
    assert tasks.split(valid=0.2, test=0.3, random_state=0)[2].names == test.names
    assert [len(part) for part in tasks.split(valid=0.0, test=0.01, random_state=0)] == [9, 0, 1]
    with pytest.raises(TaskError, match="leaves no training task: there are 10 groups in 10 tasks"):
        tasks.split(valid=0.5, test=0.5)


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=12, max_size=30).filter(lambda found: len(set(found)) >= 4),
    seed=st.integers(0, 100),
    shuffle=st.randoms(use_true_random=False),
)
def test_split_never_parts_a_group_and_ignores_the_order_of_tasks(groups: list[str], seed: int, shuffle: Any) -> None:
    tasks = [regression(f"t{i}", group=group) for i, group in enumerate(groups)]
    parts = TaskSet(tasks).split(random_state=seed)
    sides = [set(part.groups) for part in parts]
    assert sum(len(side) for side in sides) == len(set(groups))
    assert sum(len(part) for part in parts) == len(tasks)
    check_disjoint(train=parts[0], valid=parts[1], test=parts[2])
    shuffle.shuffle(tasks)
    for mine, other in zip(parts, TaskSet(tasks).split(random_state=seed), strict=True):
        assert set(mine.names) == set(other.names)
        assert mine.canonical().names == other.canonical().names


def test_a_group_on_both_sides_of_a_hand_made_split() -> None:
    tasks = TaskSet([regression("a", group="north"), regression("b", group="north"), regression("c")])
    with pytest.raises(TaskError, match=r"Group 'north' stands in train and in test.*tasks\.split"):
        check_disjoint(train=tasks[:1], test=tasks[1:])
    with pytest.raises(TaskError, match="Task 'c' stands in train and in test"):
        check_disjoint(train=tasks[2:], test=tasks[2:])
    check_disjoint(train=tasks[:2], test=tasks[2:])


def test_lazy_tasks_are_read_when_looked_at() -> None:
    reads: list[str] = []

    def entry(name: str, rows: int) -> LazyTask:
        def read() -> Task:
            reads.append(name)
            return labelled(name, [0, 1] * (rows // 2))

        return LazyTask(name, rows, "classification", (0, 1), 2, read, group="g")

    tasks = TaskSet([entry("b", 4), entry("a", 6), labelled("c", [0, 1])])
    assert tasks.labels == "shared"
    assert tasks.describe()["rows"] == 12
    assert tasks.filter(min_rows=3, min_classes=2).canonical().names == ("a", "b")
    assert tasks.groups == ("g", "g", "task:c")
    assert tasks.split(valid=0, test=0.5, random_state=0)[0].kind == "classification"
    assert repr(tasks) == "TaskSet(3 tasks, 12 rows, classification, shared labels)"
    assert reads == []
    assert tasks[1].name == "a"
    assert tasks.named("b").y.tolist() == [0, 1, 0, 1]
    assert [len(task) for task in tasks] == [4, 6, 2]
    assert reads == ["a", "b", "b", "a"]
