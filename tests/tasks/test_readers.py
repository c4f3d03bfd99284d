"""Frames and arrays become the same tasks; bad input is one error that names everything that is bad."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstairs.errors import TaskError
from upstairs.tasks.readers import from_arrays, from_frame, read_table
from upstairs.tasks.readers_common import stray_text
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

DATA = Path(os.environ.get("UPSTAIRS_DATA", Path(__file__).parents[3] / "shared" / "data"))

ROWS = {
    "site": ["b", "a", "b", "c", "a"],
    "age": [30, 40, None, 60, 70],
    "sex": ["f", "m", "f", None, "m"],
    "ward": [1, 2, 1, 3, 2],
    "clinic": ["north", "south", "north", "north", "south"],
    "dose": [1.5, 2.5, 3.5, 4.5, 5.5],
}
LIBRARIES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas nullable": lambda rows: pd.DataFrame(rows).convert_dtypes(),
    "polars": pl.DataFrame,
    "polars lazy": pl.LazyFrame,
    "pyarrow": pa.table,
}


def same(one: Task, other: Task) -> bool:
    """Tell whether two tasks are equal up to the order of rows."""
    if (one.name, one.group, one.kind, one.columns, len(one)) != (
        other.name,
        other.group,
        other.kind,
        other.columns,
        len(other),
    ):
        return False
    rows = [sorted(map(repr, zip(*(c.tolist() for c in t.X.columns), t.y.tolist(), strict=True))) for t in (one, other)]
    return rows[0] == rows[1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_equal_tasks(library: str) -> None:
    tasks = TaskSet.from_frame(
        LIBRARIES[library](ROWS), task="site", target="dose", group="clinic", categorical=["ward"]
    )
    assert tasks.names == ("b", "a", "c")
    assert tasks.groups == ("north", "south", "north")
    assert (tasks.kind, tasks.labels) == ("regression", None)
    first = tasks[0]
    assert first.columns == ("age", "sex", "ward")
    assert first.y.tolist() == [1.5, 3.5]
    np.testing.assert_array_equal(first.X.column("age"), [30.0, np.nan])
    assert first.X.column("sex").tolist() == ["f", "f"]
    assert first.X.column("ward").tolist() == ["1", "1"]
    assert tasks[2].X.column("sex").tolist() == [None]


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_a_shuffled_frame_gives_the_same_tasks(shuffle: Any, sites: list[int]) -> None:
    numbers = list(range(len(sites)))
    frame = pd.DataFrame({"site": sites, "x": numbers, "y": np.array(numbers) / 7, "g": [f"g{s % 2}" for s in sites]})
    straight = from_frame(frame, task="site", target="y", group="g", kind="regression").canonical()
    shuffle.shuffle(numbers)
    shuffled = from_frame(frame.iloc[numbers], task="site", target="y", group="g", kind="regression").canonical()
    assert straight.names == shuffled.names
    assert all(same(one, other) for one, other in zip(straight, shuffled, strict=True))


def test_task_names_have_no_decimal_point() -> None:
    for values, names in (
        ([3, 1, 3], ("3", "1")),
        ([3.0, 1.5, 3.0], ("3", "1.5")),
        (["007", "7", "007"], ("007", "7")),
        ([True, False, True], ("True", "False")),
        (pd.Categorical([2, 1, 2]), ("2", "1")),
    ):
        frame = pd.DataFrame({"t": values, "x": [1, 2, 3], "y": [1.0, 2.0, 3.0]})
        assert from_frame(frame, task="t", target="y").names == names
    dates = pl.DataFrame({"t": ["2024-05-01", "2024-05-02"], "x": [1, 2], "y": [1, 2]}).with_columns(
        pl.col("t").str.to_date()
    )
    assert from_frame(dates, task="t", target="y").names == ("2024-05-01", "2024-05-02")


def test_rows_keep_their_order_or_take_the_one_asked_for() -> None:
    frame = pd.DataFrame(
        {"t": list("abab"), "day": [2, 9, 1, 3], "when": ["x", "z", "w", "y"], "y": [0.1, 0.2, 0.3, 0.4]}
    )
    assert from_frame(frame, task="t", target="y").named("b").y.tolist() == [0.2, 0.4]
    for column in ("day", "when"):
        ordered = from_frame(frame, task="t", target="y", order=column)
        assert ordered.named("a").y.tolist() == [0.3, 0.1]
        assert ordered.named("b").y.tolist() == [0.4, 0.2]
        assert column in ordered[0].columns
    assert from_frame(frame, task="t", target="y", order="day", drop=["day"])[0].columns == ("when",)
    days = frame.assign(day=pd.to_datetime(["2024-01-02", "2024-01-09", "2024-01-01", "2024-01-03"]))
    assert from_frame(days, task="t", target="y", order="day", drop="day").named("a").y.tolist() == [0.3, 0.1]
    frame.loc[0, "day"] = None
    with pytest.raises(TaskError, match="order column 'day' is missing in 1 of 4 rows"):
        from_frame(frame, task="t", target="y", order="day")


def test_kind_is_inferred_on_the_whole_column() -> None:
    frame = pd.DataFrame({"t": list("aabb"), "x": range(4), "count": [0, 1, 2, 3]})
    tasks = from_frame(frame, task="t", target="count")
    assert [task.kind for task in tasks] == ["regression", "regression"]
    assert [task.y.dtype for task in tasks] == [np.float64, np.float64]
    labels = from_frame(frame, task="t", target="count", kind="classification")
    assert labels[0].classes == (0, 1)
    assert labels.labels == "shared"
    assert from_frame(frame, task="t", target="count", kind="classification", labels="own").labels == "own"


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["no", "yes", "yes", "yes"], ("no", "yes")),
        ([True, False, True, True], (False, True)),
        ([0.0, 1.0, 1.0, 1.0], (0, 1)),
        (pd.Categorical([4, 7, 4, 7]), ("4", "7")),
        ([2**60, 2**60 + 1, 2**60, 2**60], (2**60, 2**60 + 1)),
    ],
)
def test_labels_keep_their_type(values: Any, classes: tuple[Any, ...]) -> None:
    tasks = from_frame(pd.DataFrame({"t": list("aabb"), "x": range(4), "y": values}), task="t", target="y")
    assert (tasks.kind, tasks.labels, tasks.classes) == ("classification", "shared", classes)
    assert type(tasks.classes[0]) is type(classes[0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_wide_targets_leave_missing_rows_out(library: str) -> None:
    rows = {
        "t": ["a", "b", "a", "b"],
        "x": [1, 2, 3, 4],
        "tox": [0, None, 1, None],
        "burn": [True, False, None, True],
    }
    frame = LIBRARIES[library](rows)
    tasks = from_frame(frame, task="t", target=["tox", "burn"])
    assert tasks.names == ("a/tox", "a/burn", "b/burn")
    assert [task.y.tolist() for task in tasks] == [[0, 1], [True], [False, True]]
    assert tasks[2].X.column("x").tolist() == [2.0, 4.0]
    columns = from_frame(frame, task=None, target=["tox", "burn"], drop=["t"])
    assert columns.names == ("tox", "burn")
    assert columns[0].X.column("x").tolist() == [1.0, 3.0]
    assert columns[0].columns == ("x",)
    assert columns[1].y.tolist() == [True, False, True]
    assert from_frame(frame, task="t", target=["tox"]).names == ("a/tox",)
    single = from_frame(frame, task=None, target="x", kind="regression", drop=["t"])
    assert single.names == ("x",)


def test_wide_targets_of_two_kinds() -> None:
    frame = pd.DataFrame({"x": range(4), "active": [0, 1, 0, 1], "dose": [0.1, 0.2, 0.3, 0.4]})
    with pytest.raises(TaskError, match="'active' look like labels and 'dose' like numbers; pass kind="):
        from_frame(frame, task=None, target=["active", "dose"])
    assert from_frame(frame, task=None, target=["active", "dose"], kind="regression").kind == "regression"
    named = from_frame(frame.assign(dose=list("hlhl")), task=None, target=["active", "dose"], kind="classification")
    assert named.classes == ("0", "1", "h", "l")


def test_groups_are_constant_inside_a_task() -> None:
    frame = pd.DataFrame({"t": list("aabbc"), "x": range(5), "g": ["u", "v", "u", "u", None], "y": np.arange(5) / 3})
    with pytest.raises(TaskError) as caught:
        from_frame(frame, task="t", target="y", group="g")
    assert "not in task 'a' (2 rows: 'u', 'v')" in str(caught.value)
    assert "group 'g' is missing in task 'c'" in str(caught.value)
    assert from_frame(frame, task="t", target="y", group="t", drop=["g"]).groups == ("a", "b", "c")


def test_missing_and_infinite_targets_list_tasks_and_rows() -> None:
    frame = pd.DataFrame({"t": list("aaabbc"), "x": range(6), "y": [1.0, None, None, 2.0, None, 3.0]})
    with pytest.raises(TaskError) as caught:
        from_frame(frame, task="t", target="y")
    assert "target 'y' is missing in 3 rows of 2 tasks: task 'a' (2 of 3 rows), task 'b' (1 of 2 rows)" in str(
        caught.value
    )
    assert "target=['y']" in str(caught.value)
    assert from_frame(frame, task="t", target=["y"]).rows.tolist() == [1, 1, 1]
    infinite = frame.assign(y=[1.0, 2.0, np.inf, 3.0, 4.0, 5.0])
    with pytest.raises(TaskError, match=r"infinite in 1 rows of 1 tasks: task 'a' \(1 of 3 rows\)"):
        from_frame(infinite, task="t", target="y")
    with pytest.raises(TaskError, match="'y' is infinite in 1 rows"):
        from_frame(infinite, task="t", target=["y"])
    with pytest.raises(TaskError, match="'y' are missing in every row"):
        from_frame(frame.assign(y=np.nan), task="t", target=["y"])


def test_missing_task_names_are_counted() -> None:
    for values in (["a", None, None], [1.0, np.nan, np.nan]):
        for library in (pd.DataFrame, pl.DataFrame):
            with pytest.raises(TaskError, match="task column 't' is missing in 2 of 3 rows"):
                from_frame(library({"t": values, "x": [1, 2, 3], "y": [1, 2, 3]}), task="t", target="y")


def test_all_absent_columns_are_named_with_the_closest_name() -> None:
    with pytest.raises(TaskError) as caught:
        from_frame(pd.DataFrame(ROWS), task="Site", target="doze", categorical=["zzzzz"], drop=["ag"])
    message = str(caught.value)
    assert "no column 'Site' (task=); did you mean 'site'?" in message
    assert "no column 'doze' (target=); did you mean 'dose'?" in message
    assert "no column 'ag' (drop=); did you mean 'age'?" in message
    assert "no column 'zzzzz' (categorical=); the columns are 'site', 'age'" in message


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_text_in_a_number_column(library: Callable[[Any], Any]) -> None:
    cells = [str(i) for i in range(20)]
    cells[13] = "12,5"
    frame = library({"t": ["a"] * 10 + ["b"] * 10, "x": cells, "y": [i / 3 for i in range(20)]})
    with pytest.raises(TaskError, match=r"'x' holds numbers but for 1 of 20 cells \(first: '12,5' in row 13.*task 'b'"):
        from_frame(frame, task="t", target="y")
    assert from_frame(frame, task="t", target="y", categorical=["x"])[1].X.column("x")[3] == "12,5"
    with pytest.raises(TaskError, match="target 'x' holds numbers but for 1 of 20 cells"):
        from_frame(frame, task="t", target="x")
    assert from_frame(frame, task="t", target="x", kind="classification").kind == "classification"


def test_when_text_is_stray() -> None:
    assert stray_text(["1"] * 9 + ["x"]) is None
    assert stray_text(["1"] * 10 + ["x"]) is not None
    assert stray_text(["1"] * 10 + [None] * 90 + ["x"]) is not None
    assert stray_text(["1", "2", "NA"]) is not None
    assert stray_text(["1", "NA", "NA"]) is None
    assert stray_text(["1", "2", "more"]) is None
    assert stray_text(["01", "02"]) is None
    assert stray_text([None, None]) is None
    assert stray_text(["a", "b"]) is None


@pytest.mark.parametrize(
    ("frame", "settings_", "message"),
    [
        (pd.DataFrame([[1, 2, 3.5]], columns=["t", "y", "y"]), {}, "'y' stand more than once"),
        (pa.Table.from_arrays([pa.array([1])] * 3, ["t", "y", "y"]), {}, "'y' stand more than once"),
        (pd.DataFrame({"t": [], "x": [], "y": []}), {}, "the frame has no rows"),
        (pd.DataFrame({"t": [1], "y": [1.5]}), {}, "no feature column is left"),
        (pd.DataFrame({"t": [1], "x": [1], "y": [1.5]}), {"target": ["y", "y"]}, "each once"),
        (pd.DataFrame({"t": [1], "x": [1], "y": [1.5]}), {"target": []}, "at least one column"),
        (pd.DataFrame({"t": [1], "x": [1], "y": [1.5]}), {"target": "t"}, "also stands as task="),
        (pd.DataFrame({"t": [1], "x": [1], "y": [1.5]}), {"categorical": ["y"]}, "say kind='classification'"),
        (
            pd.DataFrame({"t": [1], "x": [np.inf], "y": [1.5]}),
            {},
            "'x' must be finite or missing, but row 0 is infinite",
        ),
        (pl.DataFrame({"t": [1], "x": [[1]], "y": [1.5]}), {}, "column 'x' has type List"),
        (pl.DataFrame({"t": [1], "x": [1], "y": [[1]]}), {}, "target 'y' has type List"),
        (pd.DataFrame({"t": [1, 1], "x": [1, 2], "y": [1, "a"]}), {}, "target 'y' mixes numbers and text.*'a'"),
        (pd.DataFrame({"t": [1], "Unnamed: 0": [1], "y": [1.5]}), {}, "looks like the row numbers"),
        (pd.DataFrame({"t": ["a"], "x": [1], "y": ["high"]}), {"kind": "regression"}, "'y' hold text.*'high'"),
    ],
)
def test_bad_frames(frame: Any, settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        from_frame(frame, **{"task": "t", "target": "y"} | settings_)


def test_every_bad_column_is_reported_at_once() -> None:
    frame = pd.DataFrame({"t": [1, 1], "u": [np.inf, 0], "v": [1, "x"], "y": [1.0, None]})
    with pytest.raises(TaskError) as caught:
        from_frame(frame, task="t", target="y")
    assert all(f"\n- {start}" in str(caught.value) for start in ("column 'u'", "column 'v'", "target 'y'"))


def test_what_is_not_a_frame() -> None:
    for thing in ([1, 2], np.ones((2, 2)), "a.csv", {"t": [1]}):
        with pytest.raises(TaskError, match="frame must be a data frame of pandas, polars or pyarrow"):
            from_frame(thing, task="t", target="y")
    with pytest.raises(TaskError, match="kind must be"):
        inspect.unwrap(from_frame)(pd.DataFrame(ROWS), task="site", target="dose", kind="regresion")
    with pytest.raises(TaskError, match="labels must be"):
        inspect.unwrap(from_frame)(pd.DataFrame(ROWS), task="site", target="dose", labels="common")


def test_column_names_may_be_numbers() -> None:
    tasks = from_frame(pd.DataFrame([[7, 1.0, 0.5], [8, 2.0, 1.5]]), task="0", target="2")
    assert tasks.names == ("7", "8")
    assert tasks[0].columns == ("1",)


def test_an_unnamed_index_may_be_dropped() -> None:
    frame = pd.DataFrame({"": [0, 1], "t": [1, 1], "x": [1, 2], "y": [0.5, 1.5]})
    assert from_frame(frame, task="t", target="y", drop=[""])[0].columns == ("x",)


def test_many_tasks_are_read_quickly() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"t": rng.integers(3000, size=75000), "a": rng.normal(size=75000), "y": rng.normal(size=75000)}
    )
    started = time.perf_counter()
    assert len(from_frame(frame, task="t", target="y")) == 3000
    assert time.perf_counter() - started < 3


@pytest.mark.skipif(not (DATA / "task_families").is_dir(), reason="the real data are not here")
def test_real_families() -> None:
    tasks = from_frame(read_table(DATA / "task_families" / "insteval.csv.gz"), task="task", target="target")
    assert (len(tasks), int(tasks.rows.sum()), tasks.kind) == (2972, 73421, "regression")
    mines = from_frame(read_table(DATA / "task_families" / "landmine.csv.gz"), task="task", target="target")
    assert (len(mines), mines.kind, mines.labels, mines.classes) == (29, "classification", "shared", (0, 1))


def test_arrays() -> None:
    X = np.arange(6.0).reshape(3, 2)
    tasks = TaskSet.from_arrays([X, X[:2]], [[0.1, 0.2, 0.3], np.array([0.4, 0.5])], groups=["g", None])
    assert tasks.names == ("task-0", "task-1")
    assert tasks.groups == ("g", "task:task-1")
    assert [task.kind for task in tasks] == ["regression", "regression"]
    np.testing.assert_array_equal(tasks[0].X, X)
    equal = from_arrays(np.ones((4, 3, 2)), np.arange(12.0).reshape(4, 3), names=list("abcd"))
    assert equal.names == ("a", "b", "c", "d")
    assert equal[1].y.tolist() == [3.0, 4.0, 5.0]
    frames = from_arrays([pd.DataFrame({"a": [1, 2]})], [np.array(["u", "v"], dtype=object)])
    assert frames[0].columns == ("a",)
    assert frames.classes == ("u", "v")
    own = from_arrays([X, X], [["a", "b", "a"], ["c", "d", "d"]])
    assert own.labels == "own"
    assert len(from_arrays([X] * 11, [[0, 1, 1]] * 11).named("task-10")) == 3


def test_wide_arrays() -> None:
    X = np.arange(6.0).reshape(3, 2)
    Y = np.array([[0, 1, np.nan], [1, np.nan, np.nan], [1, 0, np.nan]])
    tasks = from_arrays(X, Y)
    assert tasks.names == ("target-0", "target-1")
    assert tasks.classes == (0, 1)
    assert tasks[1].y.tolist() == [1, 0]
    np.testing.assert_array_equal(tasks[1].X, X[[0, 2]])
    named = from_arrays(pd.DataFrame({"a": [1, 2, 3]}), pd.DataFrame(Y, columns=["p", "q", "r"]))
    assert named.names == ("p", "q")
    assert isinstance(named[1].X, Table)
    assert named[1].X.column("a").tolist() == [1.0, 3.0]
    with pytest.raises(TaskError, match=r"one X of shape \(3, 2\) and ys of shape \(3,\); pass a list"):
        from_arrays(X, Y[:, 0])
    with pytest.raises(TaskError, match="X has 3 rows, but ys 2"):
        from_arrays(X, Y[:2])
    with pytest.raises(TaskError, match="'target-0' look like labels and 'target-1' like numbers"):
        from_arrays(X, np.array([[0, 0.1], [1, 0.2], [1, 0.3]]))


def test_every_bad_array_is_reported_at_once() -> None:
    X = np.ones((3, 2))
    with pytest.raises(TaskError) as caught:
        from_arrays(
            [X, X, X, X, X, np.ones(3)],
            [[0.1, 0.2, 0.3], np.ones((3, 2)), [1, 2], [0.1, np.nan, None], [0.1, np.inf, 0.2], [1, 2, 3]],
            names=list("abcdef"),
            kind="regression",
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[1].startswith("- Task 'b': y must have one dimension (row,), but has shape (3, 2); for several")
    assert lines[2].startswith("- Task 'c': X has 3 rows and y has 2")
    assert lines[3].startswith("- Task 'd' (3 rows): the target is missing in 2 rows (first: row 1)")
    assert lines[4].startswith("- Task 'e' (3 rows): the target is missing or infinite in 1 rows (first: row 1)")
    assert lines[5].startswith("- Task 'f': X must have two dimensions")


def test_arrays_that_do_not_match() -> None:
    X, y = np.ones((2, 1)), [0.1, 0.2]
    with pytest.raises(TaskError, match="got 2 Xs and 1 ys"):
        from_arrays([X, X], [y])
    with pytest.raises(TaskError, match="names= has 1 entries for 2 tasks"):
        from_arrays([X, X], [y, y], names=["a"])
    with pytest.raises(TaskError, match="groups= has 3 entries for 2 tasks"):
        from_arrays([X, X], [y, y], groups=["a", "b", "c"])
    with pytest.raises(TaskError, match="'a' stands 2 times"):
        from_arrays([X, X], [y, y], names=["a", "a"])
    with pytest.raises(TaskError, match="text in 'task-1' and numbers in 'task-0'"):
        from_arrays([X, X], [y, ["a", "b"]])
    with pytest.raises(TaskError, match="mixes numbers and text"):
        from_arrays([X], [np.array([1, "a"], dtype=object)])
