"""Changes found, against cases that are worked by hand."""

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.online.detection import declared_rows, judge_changes
from upstairs.online.stream import StreamResult


def result(chunk: list[int], missing: tuple[int, ...] = ()) -> StreamResult:
    actual = np.arange(float(len(chunk)))
    actual[list(missing)] = np.nan
    return StreamResult(actual, actual, 0.0 * actual, np.array(chunk), False, 1.0)


def test_every_change_found_at_once() -> None:
    held = judge_changes([100, 200], [110, 205], 300)
    assert held.delay.tolist() == [10.0, 5.0]
    assert (held.found, held.missed, held.false_alarms) == (2, 0, 0)
    assert held.stationary_rows == 285
    assert held.false_alarm_rate == 0.0


def test_an_alarm_at_the_row_of_a_change_came_before_it() -> None:
    """With 100 rows, 0 to 99, nothing of the new world had come."""
    held = judge_changes([100], [100], 200)
    assert (held.missed, held.false_alarms, held.stationary_rows) == (1, 1, 100)
    assert held.false_alarm_rate == 100.0


def test_further_alarms_are_false_and_the_next_change_ends_the_search() -> None:
    held = judge_changes([100, 200], [50, 120, 130, 150, 260], 300)
    assert held.delay.tolist() == [20.0, 60.0]
    assert held.false_alarms == 3
    assert held.stationary_rows == 300 - 20 - 60
    late = judge_changes([100, 200], [201], 300)
    np.testing.assert_array_equal(late.delay, [np.nan, 1.0])
    assert late.stationary_rows == 300 - 100 - 1


def test_too_late_is_missed_and_false() -> None:
    held = judge_changes([100], [160], 200, within=50)
    assert (held.missed, held.false_alarms, held.stationary_rows) == (1, 1, 150)
    assert judge_changes([100], [150], 200, within=50).delay.tolist() == [50.0]


def test_alarms_while_a_change_goes_on_are_not_false() -> None:
    found = [110, 130, 150, 151]
    assert judge_changes([100], found, 200).false_alarms == 3
    held = judge_changes([100], found, 200, widths=[50])
    assert (held.delay.tolist(), held.false_alarms, held.stationary_rows) == ([10.0], 1, 150)
    assert judge_changes([100], [140], 200, widths=[50], within=10).delay.tolist() == [40.0]


def test_a_stream_of_one_world() -> None:
    held = judge_changes([], [10, 500], 20_000)
    assert (held.found, held.missed, held.false_alarms, held.false_alarm_rate) == (0, 0, 2, 1.0)
    assert np.isnan(judge_changes([0], [], 10).false_alarm_rate)


def test_rows_that_were_learned_become_rows_that_came() -> None:
    chunk = [0, 0, 0, 1, 1, 1, 2, 2]
    assert declared_rows(result(chunk), [1, 3, 8]).tolist() == [1, 3, 8]
    assert declared_rows(result(chunk, missing=(1, 2)), [1, 2, 6]).tolist() == [1, 4, 8]
    late = declared_rows(result(chunk), [1, 3, 4, 8], delay=1)
    assert late.tolist() == [4, 6, 6, 8]  # a chunk of 3 rows later, one of 2, and none where the stream is over
    assert declared_rows(result(chunk), []).tolist() == []
    with pytest.raises(TaskError, match="from 1 to 6"):
        declared_rows(result(chunk, missing=(1, 2)), [7])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([100], [], 100), r"true=\[100\] must be rows from 0 to 99"),
        (([30, 20], [], 100), "the smallest first"),
        (([], [0], 100), r"found=\[0\] must be rows from 1 to 100"),
        (([], [101], 100), "from 1 to 100"),
    ],
)
def test_rows_outside_are_refused(arguments, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        judge_changes(*arguments)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(TaskError, match="within=0"):
        judge_changes([10], [], 100, within=0)
    with pytest.raises(TaskError, match=r"widths=\[1, 2\]"):
        judge_changes([10], [], 100, widths=[1, 2])
