"""Descriptions of data sets: finite whatever the table, bounded in time and memory, right where they can be worked out."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstairs.outer.landmarks import landmarks
from upstairs.outer.metafeatures import describe, feature_names
from upstairs.tasks.table import Table

NAMES = feature_names()


def named(X, y, kind=None):
    return dict(zip(NAMES, describe(X, y, kind).tolist(), strict=True))


COLUMNS = ["normal", "constant", "huge", "tiny", "missing", "binary", "category", "empty"]
TARGETS = ["numbers", "constant", "huge", "classes", "one row a class"]


def made(seed: int, rows: int, columns: list[str], target: str) -> tuple[Table, np.ndarray]:
    """Make a table with constant, huge, missing, binary and category columns."""
    rng = np.random.default_rng(seed)
    values = {
        "normal": lambda: rng.normal(size=rows),
        "constant": lambda: np.full(rows, 3.7),
        "huge": lambda: rng.normal(size=rows) * 1e300,
        "tiny": lambda: rng.normal(size=rows) * 1e-300,
        "missing": lambda: np.where(rng.random(rows) < 0.5, np.nan, rng.normal(size=rows)),
        "binary": lambda: rng.integers(0, 2, rows).astype(float),
        "category": lambda: np.array([None, "a", "b", "c"], dtype=object)[rng.integers(0, 4, rows)],
        "empty": lambda: np.full(rows, np.nan),
    }
    y = {
        "numbers": rng.normal(size=rows),
        "constant": np.zeros(rows),
        "huge": rng.normal(size=rows) * 1e200,
        "classes": np.array(list("abc"))[rng.integers(0, 3, rows)],
        "one row a class": np.array([f"c{n}" for n in range(rows)]),
    }
    return Table([f"c{n}" for n in range(len(columns))], [values[kind]() for kind in columns]), y[target]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 30),
    st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6),
    st.sampled_from(TARGETS),
)
def test_no_number_is_ever_missing(seed, rows, columns, target):
    X, y = made(seed, rows, columns, target)
    found = describe(X, y)
    assert found.shape == (30,) == (len(NAMES),)
    assert np.isfinite(found).all()
    assert np.isfinite(describe(X, y, with_landmarks=False)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_rows_and_columns_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(60, 5)), rng.integers(0, 3, 60).astype(str)
    rows, columns = rng.permutation(60), rng.permutation(5)
    np.testing.assert_allclose(describe(X[rows][:, columns], y[rows]), describe(X, y), atol=1e-9)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_time_and_memory_are_bounded(kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 50))
    y = X[:, 0] if kind == "regression" else (X[:, 0] > 0).astype(int)
    describe(X[:1000], y[:1000], kind)
    tracemalloc.start()
    describe(X, y, kind)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    start = time.perf_counter()
    describe(X, y, kind)
    assert time.perf_counter() - start < 1.0
    assert peak < 3 * X.nbytes  # the largest thing is one look at all cells


def test_what_can_be_worked_out():
    X = np.array([[0.0, 1.0, np.nan], [1.0, 1.0, 2.0], [0.0, 1.0, 3.0], [1.0, 1.0, np.nan]])
    found = named(X, np.array(["a", "b", "a", "b"]))
    assert found["log10 rows"] == pytest.approx(np.log10(4))
    assert found["share of missing cells"] == pytest.approx(2 / 12)
    assert found["share of columns with two values"] == pytest.approx(2 / 3)
    assert found["share of constant columns"] == pytest.approx(1 / 3)
    assert found["share of the largest class"] == 0.5
    assert found["log2 classes"] == 1.0
    assert found["entropy of the classes, relative to equal shares"] == pytest.approx(1.0)
    assert found["largest |correlation| of a column with the target"] == pytest.approx(1.0)


def test_landmarks_tell_lines_curves_and_noise_apart():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(250, 3))

    def scaled(y):
        return ((y - y.mean()) / y.std())[:, None]

    line, curve = landmarks(X, scaled(X[:, 0])), landmarks(X, scaled(np.cos(3 * X[:, 0])))
    noise = landmarks(X, scaled(rng.normal(size=250)))
    assert line[0] > 0.99
    assert curve[0] < 0.1 < curve[1]
    assert max(noise[:2]) < 0.1
