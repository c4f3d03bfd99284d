"""Where a prior hurts: by hand, with a cause that can be read off a task, without one, and with guard."""

import dataclasses

import numpy as np
import pytest

import upstairs as up
from upstairs.errors import TaskError
from upstairs.evaluate.negative_transfer import negative_transfer


class Says:
    """Predicts a level that was given for the task."""

    def __init__(self, level):
        self.level = level

    def adapt_many(self, tasks):
        return [self.adapt(task.X, task.y) for task in tasks]

    def adapt(self, X, y):
        return Level(self.level(X, y))


class Level:
    def __init__(self, value):
        self.value = value

    def predict(self, X):
        return np.full(len(X), self.value)


def tasks(number=40, seed=0):
    """Targets near zero; odd tasks have a second column with two values, and their targets are three higher."""
    rng = np.random.default_rng(seed)

    def task(n):
        X = rng.normal(size=(30, 2))
        X[:, 1] = rng.integers(2, size=30) if n % 2 else X[:, 1]
        return up.Task(X, 3.0 * (n % 2) + 0.1 * rng.normal(size=30), name=f"t{n:02d}")

    return up.TaskSet([task(n) for n in range(number)])


TASKS = tasks()
RESULT = up.evaluate(
    {
        "prior": Says(lambda X, y: 0.0),
        "own": Says(lambda X, y: 1.5),
        "own, guard": Says(lambda X, y: 3.0 * (y.mean() > 1)),
    },
    TASKS,
    shots=[3],
    draws=4,
    baselines=None,
)


def test_the_cause_is_found_and_said():
    found = negative_transfer(RESULT, "prior", TASKS, "own", guarded="own, guard")
    assert found.hurt == 20
    assert {name[-1] in "13579" for name in found.tasks[:20]} == {True}
    assert set(found.surely) == set(found.tasks[:20])
    assert [(group.tasks, group.hurt) for group in found.groups] == [(20, 20), (20, 0)]
    assert len(found.groups[0].conditions) == 1
    assert found.explained > 0.9
    assert found.p == 0.01
    hurt, rest = found.guarded.where_hurt, found.guarded.elsewhere
    assert hurt[0] > 0 > hurt[1]
    assert rest == pytest.approx((rest[0], rest[0]))
    text = str(found)
    assert "prior is worse than own on 20 of 40 tasks" in text
    assert f"- {found.groups[0].conditions[0]}: hurt on 20 of 20 tasks" in text
    assert "With guard=True" in text


def test_without_a_cause_nothing_is_made_up():
    rng = np.random.default_rng(3)
    noisy = {**RESULT.columns, "mse": rng.normal(size=len(RESULT.columns["mse"]))}
    found = negative_transfer(dataclasses.replace(RESULT, columns=noisy, _cells={}), "prior", TASKS, "own")
    assert found.groups == ()
    assert found.p > 0.05
    assert "Nothing in the descriptions" in str(found)
    few = up.evaluate(
        {"prior": Says(lambda X, y: 0.0), "own": Says(lambda X, y: 1.0)}, TASKS[:8], shots=[3], baselines=None
    )
    said = few.negative_transfer("prior", TASKS[:8], against="own")
    assert said.surely == ()  # one draw says nothing about chance
    assert "fewer than 20 tasks" in str(said)


def test_chance_alone_seldom_finds_a_cause():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(8):
        noisy = {**RESULT.columns, "mse": rng.normal(size=len(RESULT.columns["mse"]))}
        found += bool(
            negative_transfer(dataclasses.replace(RESULT, columns=noisy, _cells={}), "prior", TASKS, "own").groups
        )
    assert found <= 3  # .4 is expected


def test_familiarity_is_one_of_the_descriptions():
    familiarity = {task.name: 90.0 - 80.0 * int(task.name[1:]) / 40 for task in TASKS}
    rows = np.array([familiarity[name] for name in RESULT.columns["task"].tolist()])
    values = np.where((RESULT.columns["learner"] == "prior") & (rows < 30), 1.0, 0.5)
    changed = dataclasses.replace(RESULT, columns={**RESULT.columns, "mse": values}, _cells={})
    found = negative_transfer(changed, "prior", TASKS, "own", familiarity=familiarity)
    assert found.groups[0].conditions == ("familiarity at most 29",)
    assert found.groups[0].mean == pytest.approx(0.5)


def test_wrong_questions_are_refused():
    with pytest.raises(TaskError, match="There is no learner 'x'"):
        RESULT.negative_transfer("x", TASKS, against="own")
    with pytest.raises(TaskError, match="no 'no-meta' was measured"):
        RESULT.negative_transfer("prior", TASKS)
    with pytest.raises(TaskError, match="must be one of which less or more"):
        RESULT.negative_transfer("prior", TASKS, against="own", metric="coverage")
    with pytest.raises(TaskError, match="is not among them"):
        RESULT.negative_transfer("prior", TASKS[:5], against="own")
