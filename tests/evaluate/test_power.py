from __future__ import annotations

import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.power import paired_spread, smallest_difference, tasks_needed
from upstairs.tasks import Task, TaskSet


def family(tasks: int, spread: float, groups: bool = False) -> TaskSet:
    made = []
    for number in range(tasks):
        rng = np.random.default_rng([3, number])
        X = rng.normal(size=(20, 2))
        y = X @ np.ones(2) + spread * rng.normal() + 0.5 * rng.normal(size=20)
        made.append(Task(X, y, name=f"t{number}", group=f"g{number // 4}" if groups else None))
    return TaskSet(made)


def test_formula() -> None:
    assert smallest_difference(1.0, 100) == pytest.approx((1.959964 + 0.841621) / 10, abs=1e-6)
    assert smallest_difference(0.0, 5) == 0.0


def test_power_is_what_it_says() -> None:
    sd, tasks = 0.4, 60
    gain = smallest_difference(sd, tasks)
    draws = gain + sd * np.random.default_rng(0).normal(size=(4000, tasks))
    z = draws.mean(axis=1) / (sd / np.sqrt(tasks))
    assert np.mean(np.abs(z) > 1.959964) == pytest.approx(0.8, abs=0.02)


def test_tasks_needed_is_the_inverse() -> None:
    needed = tasks_needed(0.3, 0.05)
    assert smallest_difference(0.3, needed) <= 0.05 < smallest_difference(0.3, needed - 1)


def test_wrong_numbers() -> None:
    with pytest.raises(TaskError, match="at least 1"):
        smallest_difference(0.1, 0)
    with pytest.raises(TaskError, match="above 0"):
        tasks_needed(0.1, 0.0)


def test_spread_of_numbers() -> None:
    found = paired_spread(family(40, spread=1.0), shots=5)
    assert found is not None
    assert found.methods[0] == "pooled ridge, shifted"
    assert found.units == 40
    assert 0.05 < found.sd < 5.0
    assert paired_spread(family(40, spread=1.0), shots=5) == found


def test_groups_are_the_units() -> None:
    found = paired_spread(family(40, spread=1.0, groups=True))
    assert found is not None
    assert found.units == 10


def test_spread_of_labels() -> None:
    tasks = family(20, spread=1.0).map(lambda task: Task(task.X, np.where(task.y > 0, "a", "b"), name=task.name))
    found = paired_spread(TaskSet(list(tasks), labels="shared"))
    assert found is not None
    assert set(found.losses) == {"label rates", "pooled logistic", "both"}
    assert paired_spread(TaskSet(list(tasks), labels="own")) is None


def test_too_few_tasks() -> None:
    assert paired_spread(family(3, spread=1.0)) is None
    assert paired_spread(family(10, spread=1.0), shots=20) is None
