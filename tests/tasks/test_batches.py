import numpy as np
import pytest

from upstairs.errors import PriorMismatchError
from upstairs.tasks.batches import bucket, concatenate_columns, flatten, pad
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task


def test_flatten_and_pad_keep_every_row():
    parts = [(np.ones((2, 3)), np.array([1.0, 2.0])), (2 * np.ones((1, 3)), np.array([3.0]))]
    flat = flatten(parts)
    assert flat.offsets.tolist() == [0, 2, 3]
    assert flat.counts.tolist() == [2, 1]
    x, y, mask = pad(parts, 4)
    assert mask.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert x[~mask].sum() == 0
    assert y[mask].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("rows", "size"), [(0, 4), (1, 4), (5, 8), (8, 8), (9, 16), (1000, 1024)])
def test_buckets_are_powers_of_two(rows, size):
    assert bucket(rows) == size


def test_tasks_with_other_columns_name_both_tasks_and_the_column():
    first = Task(Table(["a", "b"], [np.zeros(2), np.zeros(2)]), np.array([0.1, 0.2]), name="north")
    other = Task(Table(["a", "c"], [np.zeros(2), np.zeros(2)]), np.array([0.1, 0.2]), name="south")
    with pytest.raises(PriorMismatchError, match="column 'b' stands in task 'north' and not in task 'south'"):
        concatenate_columns([first, other])
    with pytest.raises(PriorMismatchError, match="task 'a' has 2 columns and task 'b' has 3"):
        concatenate_columns([Task(np.zeros((2, n)), np.array([0.1, 0.2]), name=m) for n, m in ((2, "a"), (3, "b"))])
    with pytest.raises(PriorMismatchError, match="give all tasks as frames or all as arrays"):
        concatenate_columns([first, Task(np.zeros((2, 2)), np.array([0.1, 0.2]), name="x")])


def test_tables_are_stacked_by_name():
    first = Task(Table(["a", "b"], [np.zeros(1), np.ones(1)]), np.array([0.5]), name="north")
    second = Task(Table(["b", "a"], [np.ones(1), np.zeros(1)]), np.array([0.5]), name="south")
    stacked = concatenate_columns([first, second])
    assert isinstance(stacked, Table)
    assert stacked.column("b").tolist() == [1.0, 1.0]
