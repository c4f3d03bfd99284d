from __future__ import annotations

import pathlib
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import upstairs as up
from upstairs.errors import MissingExtraError, PriorMismatchError, StorageError, TaskError
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
from upstairs.online.stream import chunks, prequential

FEW = {"frequencies": 8, "forgetting": (1.0, 0.97)}


def _rows(rows: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 2))
    return x, np.where(x[:, 0] > 0, "up", "down")


@parametrize_with_checks([ForgetfulClassifier(**FEW), ForgetfulRegressor(**FEW)])
def test_scikit_learn(estimator: object, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_a_chunk_is_predicted_before_it_is_learned() -> None:
    seen: list[tuple[str, int]] = []

    class Spy:
        def predict(self, X: np.ndarray) -> np.ndarray:
            seen.append(("predict", int(X[0, 0])))
            if len(seen) == 1:
                raise NotFittedError
            return np.ones(len(X))

        def partial_fit(self, X: np.ndarray, y: np.ndarray) -> None:
            seen.append(("learn", int(X[0, 0])))

    x = np.arange(6.0)[:, None]
    result = prequential(Spy(), chunks(x, np.array([1.0, 1.0, 1.0, 3.0, np.nan, 1.0]), 2), delay=1)
    assert seen == [("predict", 0), ("predict", 2), ("learn", 0), ("predict", 4), ("learn", 2)]
    np.testing.assert_array_equal(result.loss, [np.nan, np.nan, 0.0, 4.0, np.nan, 0.0])
    assert result.total == pytest.approx(4 / 3)
    np.testing.assert_array_equal(result.rolling(2), [np.nan, np.nan, 0.0, 2.0, 4.0, 0.0])
    assert [record["mse"] for record in result.records()][1:] == [2.0, 0.0]
    assert list(result.to_frame()["first"]) == [0, 2, 4]


def test_labels_of_several_kinds_of_rows_and_learners() -> None:
    x, y = _rows()
    arrays = prequential(ForgetfulClassifier(**FEW), chunks(x, y, 10))
    frames = prequential(ForgetfulClassifier(**FEW), chunks(pd.DataFrame(x, columns=["a", "b"]), y, 10))
    np.testing.assert_array_equal(arrays.predicted, frames.predicted)
    assert arrays.total == frames.total > 0.85
    assert np.isnan(arrays.loss[:10]).all()
    assert arrays.rolling(30)[-1] > 0.85
    linear = SGDClassifier(random_state=0).partial_fit(x[:10], y[:10], classes=["down", "up"])
    assert prequential(linear, chunks(x, y, 10)).total > 0.7


def test_late_labels_are_worse_and_missing_ones_do_not_count() -> None:
    x, y = _rows(200)
    drifting = np.where(np.arange(200) // 50 % 2, y, np.where(y == "up", "down", "up"))
    totals = [prequential(ForgetfulClassifier(**FEW), chunks(x, drifting, 5), delay=delay).total for delay in (0, 6)]
    assert totals[0] > totals[1]
    holes = y.astype(object)
    holes[::3] = None
    result = prequential(ForgetfulClassifier(**FEW), chunks(x, holes, 5))
    assert np.isnan(result.loss[::3]).all()
    assert result.total > 0.85


def test_rows_without_label_are_not_learned() -> None:
    x, y = _rows()
    holes = y.astype(object)
    holes[::2] = None
    model = ForgetfulClassifier(**FEW).partial_fit(x, holes)
    alone = ForgetfulClassifier(**FEW).partial_fit(x[1::2], y[1::2])
    assert model.rows_seen_ == 60
    np.testing.assert_array_equal(model.predict_proba(x), alone.predict_proba(x))
    before = model.predict_proba(x)
    model.partial_fit(x, np.full(120, np.nan))
    model.learn_one({"a": 1.0, "b": 2.0}, None)
    np.testing.assert_array_equal(model.predict_proba(x), before)
    regressor = ForgetfulRegressor(**FEW).partial_fit(x, np.where(np.arange(120) % 2, x[:, 0], np.nan))
    assert regressor.rows_seen_ == 60
    assert np.isfinite(regressor.predict(x)).all()


def test_rivers_protocol_is_partial_fit_of_one_row() -> None:
    x, y = _rows(40)
    one, many = ForgetfulClassifier(**FEW), ForgetfulClassifier(**FEW)
    assert one.predict_one({"a": 0.0, "b": 0.0}) is None
    assert one.predict_proba_one({"a": 0.0, "b": 0.0}) == {}
    for row, label in zip(x, y, strict=True):
        one.learn_one({"a": row[0], "b": row[1]}, label)
        many.partial_fit(row[None], [label])
    assert one.predict_one({"b": 0.0, "a": 2.0}) == "up"
    said = one.predict_proba_one({"a": 2.0})
    np.testing.assert_array_equal(list(said.values()), many.predict_proba([[2.0, np.nan]])[0])
    with pytest.raises(TaskError, match="'c', which is no column"):
        one.predict_one({"c": 1.0})
    with pytest.raises(TaskError, match="x has 1 keys"):
        many.predict_one({"a": 1.0})
    number = ForgetfulRegressor(**FEW)
    assert number.predict_one({"a": 1.0}) == 0.0
    for value in range(20):
        number.learn_one({"a": float(value)}, 2.0 * value)
    assert number.predict_one({"a": 10.0}) == pytest.approx(20.0, abs=2.0)


def test_a_new_class_is_added_in_its_place() -> None:
    x, y = _rows()
    model = ForgetfulClassifier(**FEW).partial_fit(x, y)
    assert model.predict_proba(x).shape == (120, 2)
    model.partial_fit(x + np.array([0.0, 9.0]), np.full(120, "left"))
    assert model.classes_.tolist() == ["down", "left", "up"]
    assert model.predict([[0.0, 9.0]]).tolist() == ["left"]
    announced = ForgetfulClassifier(**FEW).partial_fit(x, y, classes=["up", "left", "down"])
    assert announced.predict_proba(x).shape == (120, 3)
    one = ForgetfulClassifier(**FEW).partial_fit(x, np.full(120, "up"))
    np.testing.assert_array_equal(one.predict_proba(x), 1.0)


def test_missing_cells_count_as_the_mean_and_a_constant_stream_is_fine() -> None:
    x, y = _rows()
    model = ForgetfulClassifier(**FEW).partial_fit(x, y)
    np.testing.assert_allclose(
        model.predict_proba([[np.nan, np.nan]]), model.predict_proba([model._state["scale/mean"]])
    )
    still = ForgetfulClassifier(**FEW).partial_fit(np.full((50, 2), np.nan), np.array(["a", "b"] * 25))
    assert np.isfinite(still.predict_proba(np.ones((1, 2)))).all()
    with pytest.raises(ValueError, match="infinity"):
        model.partial_fit([[np.inf, 0.0]], ["up"])


@pytest.mark.parametrize("kind", [ForgetfulClassifier, ForgetfulRegressor])
def test_a_stop_at_any_row_changes_nothing(kind: type, tmp_path: pathlib.Path) -> None:
    x, label = _rows()
    y = label if kind is ForgetfulClassifier else x[:, 0] * 2.0
    whole, first = kind(**FEW), kind(**FEW)
    for row in range(30):
        whole.learn_one({"a": x[row, 0], "b": x[row, 1]}, y[row])
        if row == 15:
            up.save(first, tmp_path / "half")
            first = up.load(tmp_path / "half")
        first.learn_one({"a": x[row, 0], "b": x[row, 1]}, y[row])
    assert whole.predict_one({"a": 0.3, "b": 1.0}) == first.predict_one({"a": 0.3, "b": 1.0})
    assert first.rows_seen_ == 30
    frame = pd.DataFrame(x, columns=["a", "b"])
    named = kind(**FEW).partial_fit(frame, y)
    up.save(named, tmp_path / "named")
    again = up.load(tmp_path / "named")
    np.testing.assert_array_equal(again.predict(frame), named.predict(frame))
    assert list(again.feature_names_in_) == ["a", "b"]
    assert again.get_params() == named.get_params()
    with pytest.raises(StorageError, match="not fitted"):
        up.save(kind(**FEW), tmp_path / "nothing")


def test_numbers_as_labels_with_gaps() -> None:
    x, _ = _rows(30)
    y = (x[:, 0] > 0).astype(int).astype(object)
    y[::4] = None
    model = ForgetfulClassifier(**FEW).partial_fit(x, y)
    assert model.classes_.tolist() == [0, 1]
    assert model.classes_.dtype.kind == "i"


def test_errors_name_argument_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _rows(20)
    model = ForgetfulClassifier(**FEW)
    with pytest.raises(TaskError, match="delay=-1"):
        prequential(model, chunks(x, y), delay=-1)
    with pytest.raises(TaskError, match="stream has no rows"):
        prequential(model, iter(()))
    with pytest.raises(TaskError, match="rows=0"):
        list(chunks(x, y, 0))
    with pytest.raises(TaskError, match="X has 20 rows and y has 19"):
        list(chunks(x, y[1:]))
    for settings in ({"share": 2.0}, {"scale_forgetting": 0.0}, {"products": -1}, {"frequencies": 1.5}, {"width": 0}):
        with pytest.raises(PriorMismatchError, match="{}={}".format(*next(iter(settings.items())))):
            ForgetfulClassifier(**settings).fit(x, y)
    assert ForgetfulClassifier(products=0, frequencies=0).fit(x, y).score(x, y) > 0.9
    result = prequential(model, chunks(x, y, 10))
    with pytest.raises(TaskError, match="rows=0"):
        result.rolling(0)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="records"):
        result.to_frame()
