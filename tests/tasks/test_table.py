"""Every frame becomes the same table, and a cell that does not belong is an error."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from upstairs.errors import TaskError
from upstairs.tasks.table import Table, as_columns, is_frame

CELLS = {"n": [1, None, 3], "x": [0.5, 1.5, None], "flag": [True, False, None], "word": ["a", None, "b"]}
FRAMES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": lambda cells: pd.DataFrame(cells),
    "pandas nullable": lambda cells: pd.DataFrame(cells).convert_dtypes(),
    "pandas object": lambda cells: pd.DataFrame(cells, dtype=object),
    "pandas arrow": lambda cells: pd.DataFrame(cells).convert_dtypes(dtype_backend="pyarrow"),
    "polars": lambda cells: pl.DataFrame(cells),
    "polars lazy": lambda cells: pl.LazyFrame(cells),
    "pyarrow": lambda cells: pa.table(cells),
}


@pytest.mark.parametrize("library", FRAMES)
def test_every_library_gives_the_same_table(library: str) -> None:
    frame = FRAMES[library](CELLS)
    assert is_frame(frame)
    table = Table.from_frame(frame)
    assert table.names == ("n", "x", "flag", "word")
    assert table.categorical == ("word",)
    assert table.shape == (3, 4)
    np.testing.assert_array_equal(table.column("n"), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(table.column("x"), [0.5, 1.5, np.nan])
    np.testing.assert_array_equal(table.column("flag"), [1.0, 0.0, np.nan])
    assert table.column("word").tolist() == ["a", None, "b"]


def test_categories_of_every_library_are_text() -> None:
    expected = ["1", "2", None]
    for frame in (
        pd.DataFrame({"c": pd.Categorical([1, 2, None])}),
        pl.DataFrame({"c": pl.Series(["1", "2", None], dtype=pl.Enum(["1", "2"]))}),
        pl.DataFrame({"c": pl.Series(["1", "2", None], dtype=pl.Categorical)}),
        pa.table({"c": pa.array(["1", "2", None]).dictionary_encode()}),
    ):
        assert Table.from_frame(frame).column("c").tolist() == expected


def test_decimals_are_numbers() -> None:
    cells = [decimal.Decimal("1.25"), None]
    for frame in (pl.DataFrame({"d": cells}), pa.table({"d": cells}), pd.DataFrame({"d": cells})):
        np.testing.assert_array_equal(Table.from_frame(frame).column("d"), [1.25, np.nan])


def test_a_pandas_column_may_bear_the_name_of_a_method() -> None:
    assert Table.from_frame(pd.DataFrame({"column_names": ["a"], "collect_schema": [1]})).names == (
        "column_names",
        "collect_schema",
    )


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": [1.0, np.inf]}), "'a' must be finite or missing, but row 1 is infinite"),
        (pd.DataFrame({"a": [1.0, np.inf]}, dtype=object), "'a' must be finite or missing, but row 1"),
        (pl.DataFrame({"a": [1.0, -np.inf]}), "row 1 is infinite"),
        (pd.DataFrame({"a": [1, "x", pd.NA]}, dtype=object), "'a' mixes numbers and text.*'x'"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}), "'a' has type Datetime.*days since the start"),
        (pl.DataFrame({"a": [[1, 2]]}), "'a' has type List"),
        (pd.DataFrame({"a": [{"b": 1}]}), "'a' holds dict objects"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' stand more than once"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "'a' stand more than once"),
    ],
)
def test_bad_columns_are_named(frame: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Table.from_frame(frame)


def test_take_select_drop_and_iterate() -> None:
    table = Table(["a", "b"], [np.array([1.0, 2.0, 3.0]), np.array(["x", "y", None], dtype=object)])
    assert table.take(slice(1, 3)).column("a").tolist() == [2.0, 3.0]
    assert table.take(np.array([True, False, True])).column("b").tolist() == ["x", None]
    assert table.select(["b", "a"]).names == ("b", "a")
    assert table.drop(["a"]).names == ("b",)
    assert [name for name, _ in table] == ["a", "b"]
    assert repr(table) == "Table(3 rows, columns a, b)"
    assert Table.from_frame(table) is table
    assert Table.from_frame(table.to_pandas()).column("b").tolist() == ["x", "y", None]
    with pytest.raises(TaskError, match="no column 'c'; the columns are 'a', 'b'"):
        table.column("c")


def test_a_table_is_made_of_equal_columns_with_names() -> None:
    with pytest.raises(TaskError, match="same length"):
        Table(["a", "b"], [np.ones(2), np.ones(3)])
    with pytest.raises(TaskError, match="one name a column"):
        Table(["a", "b"], [np.ones(2)])
    with pytest.raises(TaskError, match="'a' stand more than once"):
        Table(["a", "a"], [np.ones(2), np.ones(2)])


def test_concatenate_matches_by_name() -> None:
    first = Table(["a", "b"], [np.array([1.0]), np.array(["x"], dtype=object)])
    second = Table(["b", "a"], [np.array(["y"], dtype=object), np.array([2.0])])
    both = Table.concatenate([first, second])
    assert both.names == ("a", "b")
    assert both.column("a").tolist() == [1.0, 2.0]
    assert both.column("b").tolist() == ["x", "y"]
    with pytest.raises(TaskError, match="'a' holds numbers in some tables and text in others"):
        Table.concatenate([first, Table(["a", "b"], [np.array(["z"], dtype=object), np.array(["y"], dtype=object)])])


def test_a_column_without_any_present_cell_joins_numbers_and_text() -> None:
    nothing = np.array([None, None], dtype=object)
    numbers = Table.concatenate([Table(["a"], [nothing]), Table(["a"], [np.array([1.0])])])
    np.testing.assert_array_equal(numbers.column("a"), [np.nan, np.nan, 1.0])
    words = Table.concatenate([Table(["a"], [np.array(["x"], dtype=object)]), Table(["a"], [np.full(1, np.nan)])])
    assert words.column("a").tolist() == ["x", None]
    unknown = Table.concatenate([Table(["a"], [nothing]), Table(["a"], [np.full(1, np.nan)])])
    assert np.isnan(unknown.column("a")).all()


def test_arrays_become_float64() -> None:
    taken = as_columns([[1, 2], [3, None]])
    assert isinstance(taken, np.ndarray)
    assert taken.dtype == np.float64
    np.testing.assert_array_equal(taken, [[1.0, 2.0], [3.0, np.nan]])
    for bad, message in (
        (np.ones(3), "two dimensions"),
        ([["a", "b"]], "must hold numbers.*pass categories in a data frame"),
        ([[1.0, np.inf]], "row 0, column 1 is infinite"),
    ):
        with pytest.raises(TaskError, match=message):
            as_columns(bad)
