"""Learning curves over training tasks: what is fitted, what is said, and how often the interval is right."""

from __future__ import annotations

import json

import numpy as np
import pytest

import upstairs as up
from upstairs.errors import TaskError, UpstairsError
from upstairs.evaluate.curve_fit import fit_curve
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.curves import task_curve

SIZES = np.array([5, 8, 13, 20, 28, 40])


def measured(curve, rng, scatter=0.1, orders=5, more=80):
    """Errors of nested subsets of 40 tasks of which each moves the error a little, and that with 80 tasks."""
    influence = scatter * rng.standard_normal(more)
    losses = np.empty((1, orders, len(SIZES)))
    for order in range(orders):
        moved = influence[rng.permutation(40)]
        losses[0, order] = [curve(size) + moved[:size].mean() for size in SIZES]
    return losses, curve(more) + influence.mean()


@pytest.mark.parametrize(
    ("curve", "form", "limit"),
    [
        (lambda n: 0.5 + 2.0 / n, "power", 0.525),
        (lambda n: 0.5 + 0.3 * np.exp(-n / 16.0), "exponential", 0.502),
        (lambda n: 0.5 + 0.0 * n, "constant", 0.5),
    ],
)
def test_each_form_of_curve_is_found_where_it_is_the_truth(curve, form, limit):
    rng = np.random.default_rng(0)
    losses, _ = measured(curve, rng, scatter=0.002)
    found = fit_curve(losses, SIZES, bound=0.0)
    assert max(found.weights, key=found.weights.get) == form
    assert found.errors(80).mean() == pytest.approx(limit, abs=0.006)
    assert sum(found.weights.values()) == pytest.approx(1.0)


def test_the_interval_holds_what_it_says_and_is_narrower_than_that_of_the_tasks():
    rng = np.random.default_rng(1)
    inside, width = [], []
    for _ in range(60):
        exponent = rng.choice([0.5, 1.0, 2.0])
        losses, truth = measured(lambda n, c=exponent: 0.4 + 0.2 * (n / 5.0) ** -c, rng, scatter=0.15)
        low, high = np.quantile(fit_curve(losses, SIZES, bound=0.0, draws=1000).errors(80), [0.1, 0.9])
        inside.append(low <= truth <= high)
        width.append(high - low)
    assert 0.62 <= np.mean(inside) <= 0.95
    assert np.mean(width) < 0.1


def test_no_curve_ends_below_the_bound_and_wild_small_sizes_are_passed_over():
    losses, _ = measured(lambda n: 0.02 + 1.0 / n, np.random.default_rng(2), scatter=0.01)
    assert fit_curve(losses, SIZES, bound=0.0).expected(1e12).min() >= 0.0
    wild = losses.copy()
    wild[0, 0, 0] = 1e6
    assert fit_curve(wild, SIZES, bound=0.0).errors(80).std() < 0.1


def test_between_the_sizes_it_is_another_choice_of_the_same_tasks():
    losses, _ = measured(lambda n: 0.5 + 1.0 / n, np.random.default_rng(3))
    found = fit_curve(losses, SIZES)
    assert found.errors(40).mean() == pytest.approx(losses[0, 0, -1], abs=0.004)
    assert found.errors(40).std() < found.errors(20).std()
    with pytest.raises(TaskError, match="two orders and three ascending sizes, but has 1 orders"):
        fit_curve(losses[:, :1], SIZES)


def line(number, group=None):
    rng = np.random.default_rng(number)
    x = rng.normal(size=(16, 3))
    y = x @ np.array([3.0, 2.0, 1.0]) + rng.normal() + rng.normal(size=16)
    return up.Task(x, y, name=f"t{number}", group=group, kind="regression")


META = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear")


@pytest.fixture(scope="module")
def curve():
    tasks = up.TaskSet([line(number) for number in range(40)])
    return task_curve(
        META, tasks[range(16)], tasks[range(16, 40)], sizes=[4, 8], orders=2, shots=[2, 5], random_state=3
    )


def test_a_curve_is_measured_on_the_same_episodes_and_repeats(curve):
    tasks = up.TaskSet([line(number) for number in range(40)])
    assert curve.sizes == (4, 8, 16)
    assert curve.values[2].shape == (2, 3, 24)
    np.testing.assert_array_equal(curve.values[5][0, -1], curve.values[5][1, -1])
    backwards = tasks[list(range(15, -1, -1))]
    again = task_curve(META, backwards, tasks[range(16, 40)], sizes=[8, 4], orders=2, shots=[2, 5], random_state=3)
    np.testing.assert_array_equal(curve.values[5], again.values[5])
    alone = up.evaluate(
        {"m": up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear").meta_fit(tasks[range(16)])},
        tasks[range(16, 40)],
        train=tasks[range(16)],
        shots=[2, 5],
        baselines=None,
        random_state=3,
    )
    assert alone.episodes_hash == curve.episodes_hash
    assert curve.measured(5)[0, -1] == pytest.approx(alone.table(5)[0].mean, rel=1e-12)


def test_what_is_said_about_more_tasks(curve):
    there = curve.predict(32, shots=5)
    assert there.low < there.mean < there.high
    assert (there.tasks, there.level, there.on) == (32, 0.8, "same")
    new = curve.predict(32, shots=5, on="new")
    assert new.high - new.low > there.high - there.low
    assert curve.predict(32, shots=5, level=0.95).high > there.high
    said = curve.in_words(shots=5)
    assert said.startswith("With twice as many tasks (32 instead of 16) the mse at 5 shots is expected to")
    assert f"80 % interval {there.low:.3f} to {there.high:.3f}" in said
    assert curve.over_shots()[2] > curve.over_shots()[5]
    assert set(curve.over_shots(4)) == {2, 5}


def test_the_verdict_follows_the_gain():
    def of(fall):
        values = np.stack([[np.full(6, 0.5 + fall / n) for n in (10, 20, 40, 80)]] * 3)
        values[:, :3] += 0.0005 * np.random.default_rng(0).standard_normal((3, 3, 1))
        names = tuple("abcdef")
        return TaskCurve((10, 20, 40, 80), "tasks", "mse", {5: values}, {5: names}, {5: names}, np.ones((3, 4)), "")

    assert of(0.0).in_words().endswith("more tasks hardly help.")
    assert of(10.0).in_words().endswith("more tasks would help.")
    with pytest.raises(TaskError, match="on must be 'same'"):
        of(0.0).predict(100, on="other")


def test_a_metric_of_which_more_is_better_stays_below_one():
    values = np.stack([[np.full(6, 0.99 - 1.0 / n) for n in (10, 20, 40, 80)]] * 3)
    names = tuple("abcdef")
    curve = TaskCurve((10, 20, 40, 80), "tasks", "auc", {5: values}, {5: names}, {5: names}, np.ones((3, 4)), "")
    there = curve.predict(10**6)
    assert 0.98 < there.low <= there.mean <= there.high < 1.02
    assert there.gain > 0
    assert "rise from 0.978" in curve.in_words()


def test_records(curve):
    frame = curve.to_frame()
    assert list(frame.columns) == ["order", "tasks", "shots", "task", "group", "mse", "meta_seconds"]
    assert len(frame) == 2 * 3 * 2 * 24
    back = TaskCurve.from_dict(json.loads(json.dumps(curve.to_dict())))
    assert back.predict(32) == curve.predict(32)
    with pytest.raises(TaskError, match="'polars' or 'pyarrow'"):
        curve.to_frame("csv")


def test_groups_stay_together():
    train = up.TaskSet([line(number, f"g{number // 2}") for number in range(16)])
    seen = []

    class Spy:
        def get_params(self, deep=True):
            return {}

        def meta_fit(self, tasks):
            seen.append(tasks.groups)
            return META.meta_fit(tasks)

        def adapt(self, X, y):
            raise NotImplementedError

    test = up.TaskSet([line(number) for number in range(50, 54)])
    curve = task_curve(Spy(), train, test, sizes=[3, 4], orders=2)
    assert curve.unit == "groups"
    assert [len(set(groups)) for groups in seen] == [3, 3, 4, 4, 8]
    assert all(len(groups) == 2 * len(set(groups)) for groups in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": [4, 99]}, "sizes must be two or more whole numbers"),
        ({"orders": 1}, "orders must be a whole number of at least 2"),
        ({"baselines": "auto"}, "baselines= has no place"),
    ],
)
def test_arguments_out_of_range(settings, message):
    train, test = (up.TaskSet([line(number) for number in part]) for part in (range(12), range(12, 16)))
    with pytest.raises(TaskError, match=message):
        task_curve(META, train, test, **settings)
    with pytest.raises(TaskError, match="at least 6 tasks"):
        task_curve(META, train[range(5)], test)


def test_a_fit_that_fails_names_its_size():
    class Broken:
        def get_params(self, deep=True):
            return {}

        def meta_fit(self, tasks):
            raise ValueError("too few.")

        def adapt(self, X, y):
            raise NotImplementedError

    train, test = (up.TaskSet([line(number) for number in part]) for part in (range(12), range(12, 16)))
    with pytest.raises(UpstairsError, match=r"The fit on 5 tasks .order 0. failed, ValueError: too few"):
        task_curve(Broken(), train, test)
