import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table


def table(**columns):
    return Table(
        list(columns),
        [np.array(v, dtype=object if any(isinstance(e, str) for e in v) else float) for v in columns.values()],
    )


def test_numbers_are_centred_and_scaled_over_all_rows():
    X = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]])
    encoded = Encoder.fit(X).encode(X)
    np.testing.assert_allclose(encoded[:, 0], [-(1.5**0.5), 0.0, 1.5**0.5])
    np.testing.assert_array_equal(encoded[:, 1], 0.0)  # constant everywhere: kept, never divided by zero


def test_missing_cells_become_the_mean_and_are_flagged_where_training_had_them():
    encoder = Encoder.fit(np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, 2.0]]))
    assert encoder.feature_names() == ("x0", "x0 missing", "x1")
    np.testing.assert_allclose(encoder.encode(np.array([[np.nan, np.nan]])), [[0.0, 1.0, 0.0]])


def test_mixed_table_one_hot_and_unseen_category():
    encoder = Encoder.fit(table(age=[1.0, 3.0], sex=["f", "m"]))
    assert encoder.feature_names() == ("age", "sex=f", "sex=m")
    np.testing.assert_allclose(encoder.encode(table(age=[1.0, np.nan], sex=["m", "x"])), [[-1, 0, 1], [0, 0, 0]])


def test_columns_in_another_order_are_matched_by_name():
    encoder = Encoder.fit(table(a=[0.0, 2.0], b=["u", "v"]))
    np.testing.assert_array_equal(encoder.encode(table(b=["u"], a=[2.0])), encoder.encode(table(a=[2.0], b=["u"])))


def test_identifiers_become_categories_whatever_their_type():
    encoder = Encoder.fit(np.array([[1.0, 0.5], [2.0, 0.7]]), categorical=[0])
    assert encoder.feature_names()[:2] == ("x0=1", "x0=2")
    as_int = Encoder.fit(Table(["dept"], [np.array([1.0, 2.0])]), categorical=["dept"])
    np.testing.assert_array_equal(as_int.encode(Table(["dept"], [np.array([2.0])])), [[0.0, 1.0]])


def test_rare_categories_beyond_the_limit_count_as_unseen():
    values = [f"v{n}" for n in range(150)] + ["v149"] * 3
    encoder = Encoder.fit(Table(["c"], [np.array(values, dtype=object)]))
    assert encoder.width == 100
    assert "c=v149" in encoder.feature_names()


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (table(a=[0.0]), "column 'b' is missing"),
        (table(a=[0.0], b=["u"], c=[1.0]), "column 'c' is unknown"),
        (np.zeros((1, 3)), "has 3 features, but the prior was learned on 2 features"),
        (table(a=["zero"], b=["u"]), "column 'a' held numbers .* 'zero'"),
    ],
)
def test_other_columns_are_refused_by_name(X, said):
    encoder = Encoder.fit(table(a=[0.0, 2.0], b=["u", "v"]))
    with pytest.raises(PriorMismatchError, match=f"Task 'north'.*{said}"):
        encoder.encode(X, task="north")


def test_unknown_categorical_argument():
    with pytest.raises(TaskError, match="categorical='dept' is not a column"):
        Encoder.fit(np.zeros((2, 2)), categorical=["dept"])


@given(st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), min_size=1, max_size=30))
def test_spec_round_trip_and_finite_output(values):
    X = np.array(values)[:, None]
    encoder = Encoder.fit(X)
    again = Encoder.from_spec(encoder.spec())
    encoded = encoder.encode(X)
    assert np.isfinite(encoded).all()
    np.testing.assert_array_equal(encoded, again.encode(X))
