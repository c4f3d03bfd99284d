"""Recovery, transfer, forgetting and regret, against cases that are worked by hand."""

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.online.metrics import (
    Segment,
    forgetting,
    forward_transfer,
    regret,
    rows_back,
    rows_to_recover,
    segments_of,
)
from upstairs.online.stream import StreamResult

NAN = float("nan")
WORLDS = segments_of(np.repeat([0, 1, 0, 2, 1], 4))


def test_stretches_of_worlds() -> None:
    assert segments_of(np.array([3, 3, 1])) == [Segment(0, 2, 3), Segment(2, 3, 1)]
    assert segments_of(np.zeros(0, dtype=np.int64)) == []


def test_back_is_where_the_running_mean_is_within_five_percent() -> None:
    loss = np.array([5.0, 2.0, 1.2, 0.8, 1.0, 1.0])
    assert rows_back(loss, 1.0, window=1) == 3.0
    assert rows_back(loss, 1.0, window=2) == 2.0  # (1.2 + 0.8) / 2
    assert rows_back(loss, 1.0, window=3) == 2.0  # 1.0, and (2.0 + 1.2 + 0.8) / 3 is more
    assert rows_back(loss, 1.0, window=6) == np.inf
    assert rows_back(loss, 1.0, window=7) == np.inf
    assert rows_back(loss, 1.0, window=3, close=4 / 3) == 1.0
    assert rows_back(np.array([1.05, 9.0]), 1.0, window=1) == 0.0
    assert rows_back(np.array([1.06, 9.0]), 1.0, window=1) == np.inf
    assert rows_back(np.array([9.0, 0.0, 0.0]), 0.0, window=2) == 1.0


def test_rows_that_do_not_count_are_left_out_of_the_running_mean() -> None:
    assert rows_back(np.array([NAN, 9.0, NAN, 1.0]), 1.0, window=2) == 2.0
    assert rows_back(np.array([NAN, NAN, NAN]), 1.0, window=2) == np.inf


def test_recovery_ends_with_the_next_change() -> None:
    loss = np.repeat([1.0, 9.0, 1.0, 9.0], [10, 3, 7, 5])
    assert rows_to_recover(loss, [10, 20], 1.0, window=2).tolist() == [3.0, np.inf]
    assert rows_to_recover(loss, [10, 20], [1.0, 9.0], window=2).tolist() == [3.0, 0.0]
    assert rows_to_recover(loss, [10, 20], window=2).tolist() == [3.0, 0.0]  # judged by its own last half
    result = StreamResult(loss, loss, loss, np.arange(25), False, 1.0)
    assert rows_to_recover(result, [10], 1.0, window=2).tolist() == [3.0]
    assert rows_to_recover(np.full(4, NAN), [2]).tolist() == [np.inf]


def test_transfer_is_of_the_first_rows_of_the_first_meeting() -> None:
    mine = np.array([8.0, 4, 0, 0, 2, 2, 0, 0, 9, 9, 9, 9, NAN, 1, 0, 0, 9, 9, 9, 9])
    nothing = np.array([8.0, 4, 0, 0, 8, 4, 0, 0, 0, 0, 0, 0, 7, 3, 0, 0, 0, 0, 0, 0])
    assert forward_transfer(mine, nothing, WORLDS, rows=2).tolist() == [0.0, 4.0, 2.0]
    assert forward_transfer(mine, nothing, WORLDS, rows=50).tolist() == [0.0, 2.0, pytest.approx(2 / 3)]
    assert np.isnan(forward_transfer(np.full(20, NAN), nothing, WORLDS)).all()


def test_forgetting_is_the_return_against_the_leave() -> None:
    loss = np.array([9.0, 9, 1, 3, 8, 8, 4, 4, 5, 3, 0, 0, 7, 7, 7, 7, 4, NAN, 0, 0])
    met = forgetting(loss, WORLDS, rows=2)
    assert [(found.at, found.world, found.left, found.back) for found in met] == [(8, 0, 2.0, 4.0), (16, 1, 4.0, 4.0)]
    assert [found.forgotten for found in met] == [2.0, 0.0]
    third = segments_of(np.repeat([0, 1, 0, 1, 0], 1))
    assert [found.left for found in forgetting(np.arange(5.0), third, rows=3)] == [0.0, 1.0, 2.0]


def test_regret_is_to_the_best_of_every_stretch() -> None:
    found = regret(
        {"a": np.array([1.0, 1, 1, 9, NAN]), "b": np.array([2.0, 2, 3, 4, 5]), "c": np.array([9.0, 9, 9, 9, 9])},
        [Segment(0, 2, 0), Segment(2, 5, 1)],
    )
    assert {name: array.tolist() for name, array in found.items()} == {
        "a": [0.0, 3.0],
        "b": [2.0, 0.0],
        "c": [16.0, 11.0],
    }


def test_errors_name_argument_and_value() -> None:
    loss = np.ones(20)
    for settings in ({"window": 0}, {"close": 0.9}, {"stationary": -1.0}, {"stationary": NAN}):
        with pytest.raises(TaskError, match=next(iter(settings))):
            rows_back(loss, **{"stationary": 1.0, **settings})
    with pytest.raises(TaskError, match="without has 19"):
        forward_transfer(loss, loss[1:], WORLDS)
    with pytest.raises(TaskError, match="rows=0"):
        forgetting(loss, WORLDS, rows=0)
    with pytest.raises(TaskError, match="segments must be stretches of the 19 rows"):
        forgetting(loss[1:], WORLDS)
    with pytest.raises(TaskError, match="segments must be"):
        forgetting(loss, [])
    with pytest.raises(TaskError, match="of the same rows"):
        regret({"a": loss, "b": loss[1:]}, WORLDS)
    with pytest.raises(TaskError, match="one learner"):
        regret({}, WORLDS)
    with pytest.raises(TaskError, match="shape"):
        forgetting(np.ones((2, 2)), WORLDS)
