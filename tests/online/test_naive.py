from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError

from upstairs.errors import TaskError
from upstairs.online.naive import Average, NoChange
from upstairs.online.stream import chunks, prequential

X = np.zeros((6, 1))


def test_the_newest_label_and_the_most_frequent_one() -> None:
    y = np.array(["a", "b", "b", "a", "a", "a"])
    assert prequential(NoChange(), chunks(X, y, 2)).predicted.tolist() == [None, None, "b", "b", "a", "a"]
    result = prequential(Average(), chunks(X, y))
    assert result.predicted.tolist() == [None, "a", "a", "b", "a", "a"]
    assert result.total == pytest.approx(2 / 5)


def test_numbers() -> None:
    y = np.array([1.0, 3.0, np.nan, 5.0, 7.0, 9.0])
    np.testing.assert_array_equal(prequential(NoChange("regression"), chunks(X, y)).predicted, [np.nan, 1, 3, 3, 5, 7])
    mean = prequential(Average("regression"), chunks(X, y)).predicted
    np.testing.assert_allclose(mean, [np.nan, 1, 2, 2, 3, 4])
    late = prequential(NoChange("regression"), chunks(X, y), delay=2).predicted
    np.testing.assert_array_equal(late, [np.nan, np.nan, np.nan, 1, 3, 3])


def test_what_they_are() -> None:
    for cls in (Average, NoChange):
        assert is_classifier(cls())
        assert is_regressor(clone(cls("regression")))
        with pytest.raises(NotFittedError, match=cls.__name__):
            cls().partial_fit(X[:1], [None]).predict(X)
        with pytest.raises(TaskError, match="kind='ranking'"):
            cls("ranking").partial_fit(X[:1], [1])
