"""A data set is recognised by what it holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from upstairs.tasks.fingerprint import fingerprint


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 5))
def test_order_names_and_types_do_not_matter_but_every_cell_does(seed, rows, columns):
    rng = np.random.default_rng(seed)
    X, y = rng.integers(-3, 4, (rows, columns)).astype(float), rng.integers(0, 3, rows)
    X[rng.random(X.shape) < 0.1] = np.nan
    known = fingerprint(X, y)
    turned, moved = rng.permutation(rows), rng.permutation(columns)
    assert fingerprint(X[turned][:, moved], y[turned].astype(float)) == known
    frame = pd.DataFrame(X[:, moved], columns=[f"other {n}" for n in range(columns)])
    assert fingerprint(frame, y) == known
    row, column = rng.integers(rows), rng.integers(columns)
    changed = X.copy()
    changed[row, column] = 17.5
    assert fingerprint(changed, y) != known
    other = y.copy()
    other[row] += 1
    assert fingerprint(X, other) != known
    assert fingerprint(np.vstack([X, X[:1]]), np.append(y, y[0])) != known


def test_text_and_missing_text():
    frame = pd.DataFrame({"a": ["x", None, "z"], "b": [1.0, 2.0, 3.0]})
    known = fingerprint(frame, np.array(["u", "v", "u"]))
    assert fingerprint(frame.iloc[::-1, ::-1], np.array(["u", "v", "u"])) == known
    assert fingerprint(frame.fillna("y"), np.array(["u", "v", "u"])) != known
