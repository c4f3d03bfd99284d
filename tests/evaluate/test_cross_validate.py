import numpy as np
import pytest
from sklearn.linear_model import Ridge

import upstairs as up
from upstairs.errors import TaskError
from upstairs.evaluate import meta_cross_validate
from upstairs.tasks import ClassPool, Task, TaskSet


def lines(number=12, group=False):
    rng = np.random.default_rng(0)

    def task(name):
        X = rng.normal(size=(12, 1))
        return Task(
            X,
            2 * X[:, 0] + rng.normal() + 0.1 * rng.normal(size=12),
            name=name,
            group=f"g{int(name[1:]) // 3}" if group else None,
        )

    return TaskSet([task(f"t{number:02d}") for number in range(number)])


def test_every_task_is_left_out_once():
    seen = []
    meta = up.MetaNeuralNetwork(prior_mean="linear")
    result = meta_cross_validate(
        meta, lines(), folds=3, shots=[2], baselines=["no-meta"], progress=lambda *pair: seen.append(pair)
    )
    assert result.learners == ("MetaNeuralNetwork", "no-meta")
    assert result.table(2)[0].tasks == 12
    assert sorted(set(result.columns["split"].tolist())) == [0, 1, 2]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not hasattr(meta, "prior_")
    assert result.meta_seconds["MetaNeuralNetwork"] > 0


def test_order_of_tasks_does_not_matter_and_groups_stay_together():
    tasks = lines(group=True)
    first, turned = (
        meta_cross_validate({"ridge": Ridge()}, part, folds=4, shots=[3], baselines=["pooled"])
        for part in (tasks, tasks[::-1])
    )
    assert first.episodes_hash == turned.episodes_hash
    np.testing.assert_array_equal(first.columns["mse"], turned.columns["mse"])
    table = first.to_frame()
    assert (table.groupby("group").split.nunique() == 1).all()


def test_pools():
    rng = np.random.default_rng(0)
    centre = 3 * rng.normal(size=(9, 3))
    pool = ClassPool(np.repeat(centre, 6, axis=0) + rng.normal(size=(54, 3)), np.repeat(np.arange(9), 6))
    result = meta_cross_validate({}, pool, folds=3, shots=[1], draws=5, baselines=["nearest prototype"])
    assert result.table(1)[0].tasks == 15
    with pytest.raises(TaskError, match="A fold holds 1 class"):
        meta_cross_validate({}, pool, folds=9, shots=[1])


def test_errors():
    with pytest.raises(TaskError, match="makes train and test itself"):
        meta_cross_validate(Ridge(), lines(), train=lines())
    with pytest.raises(TaskError, match="n_folds=50"):
        meta_cross_validate(Ridge(), lines(), folds=50)
    with pytest.raises(TaskError, match="tasks must be a TaskSet"):
        meta_cross_validate(Ridge(), [1])
