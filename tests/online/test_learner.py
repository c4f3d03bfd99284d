"""OnlineMetaLearner: worlds that change and come back, stops in mid-stream, odd rows."""

import numpy as np
import pandas as pd
import pytest

import upstairs as up
from upstairs.online.growth import check_grows
from upstairs.online.learner import OnlineMetaLearner
from upstairs.tasks import Task, TaskSet

FAMILY = up.tasks.synthetic.SharedSubspace()
ORDER = (0, 1, 2, 0, 2, 1, 0)
LENGTH = 120


@pytest.fixture(scope="module")
def learner():
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    return meta.meta_fit(FAMILY.sample(20, 25, random_state=0)).learner()


@pytest.fixture(scope="module")
def classes():
    """A prior of classes, two worlds that want opposite labels, and a level that differs."""
    rng = np.random.default_rng(0)

    def task(name, slope, rows=40):
        x = rng.normal(size=(rows, 2))
        p = 1.0 / (1.0 + np.exp(-3.0 * slope * x[:, 0]))
        return Task(x, np.where(rng.random(rows) < p, "yes", "no"), name=name, kind="classification")

    tasks = TaskSet([task(f"t{n}", rng.choice([-1.0, 1.0]), 25) for n in range(8)], labels="shared")
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10).meta_fit(tasks)
    return meta.learner(), task("up", 1.0, 400), task("down", -1.0, 400)


def stream():
    """Seven stretches of three worlds."""
    tasks = FAMILY.sample(3, 400, random_state=1)
    at = [0, 0, 0]
    for number in ORDER:
        part = slice(at[number], at[number] + LENGTH)
        at[number] += LENGTH
        yield number, tasks[number].X[part], tasks[number].y[part]


def followed(model, chunk=10):
    """Test, then train; squared errors of every stretch."""
    errors = []
    for _, X, y in stream():
        said = []
        for start in range(0, LENGTH, chunk):
            part = slice(start, start + chunk)
            said.append(model.predict(X[part]))
            model.partial_fit(X[part], y[part])
        errors.append(np.square(np.concatenate(said) - y))
    return np.array(errors)


def test_changes_are_found_and_worlds_recognised(learner):
    model = OnlineMetaLearner(learner)
    errors = followed(model)
    changes = model.changes_
    assert [change["world"] for change in changes] == list(ORDER[1:])
    assert [change["kind"] for change in changes] == ["new", "new", "recall", "recall", "recall", "recall"]
    delays = [change["at"] - LENGTH * (1 + number) for number, change in enumerate(changes)]
    assert max(delays) <= 30
    assert model.world_ == 0
    assert model.rows_seen_ == LENGTH * len(ORDER)
    assert sum(model.probabilities_.values()) == pytest.approx(1.0)
    stationary = errors[:, 60:].mean()
    assert errors[3:, 20:40].mean() < 2.0 * stationary, "twenty rows after a recurrence it is back"
    never = OnlineMetaLearner(learner, hazard=0.0)
    assert followed(never)[1:].mean() > 2.5 * errors[1:].mean()


def test_a_stream_without_a_change_has_no_alarm(learner):
    task = FAMILY.sample(1, 1000, random_state=5)[0]
    model = OnlineMetaLearner(learner).partial_fit(task.X, task.y)
    assert model.changes_ == []
    assert model.probabilities_[0] > 0.9
    alone = learner.__class__(learner.prior).fit(task.X, task.y)
    np.testing.assert_allclose(model.predict(task.X[:50]), alone.predict(task.X[:50]), atol=0.02)


def test_known_borders_are_taken_as_they_are_said(learner):
    model = OnlineMetaLearner(learner)
    for number, X, y in stream():
        model.partial_fit(X, y, world=number)
    assert [(change["kind"], change["world"]) for change in model.changes_] == [("border", n) for n in ORDER[1:]]
    tasks = FAMILY.sample(3, 400, random_state=1)
    rows = LENGTH * ORDER.count(0)
    alone = learner.__class__(learner.prior).fit(tasks[0].X[:rows], tasks[0].y[:rows])
    np.testing.assert_allclose(model.predict(tasks[0].X[:20]), alone.predict(tasks[0].X[:20]), atol=1e-6)


def test_classes_and_windows_of_a_rule_without_updates(classes):
    learner, one, other = classes
    model = OnlineMetaLearner(learner, rows=200)
    right = []
    for task, part in ((one, 0), (other, 0), (one, 200), (other, 200)):
        X, y = task.X[part : part + 200], task.y[part : part + 200]
        for start in range(0, 200, 10):
            right.append(np.mean(model.predict(X[start : start + 10]) == y[start : start + 10]))
            model.partial_fit(X[start : start + 10], y[start : start + 10])
    assert [change["world"] for change in model.changes_] == [1, 0, 1]
    right = np.array(right).reshape(4, 20)
    assert right[1:, 3:].mean() > right[0, 3:].mean() - 0.05
    np.testing.assert_allclose(model.predict_proba(one.X[:5]).sum(axis=1), 1.0)
    with pytest.raises(up.PriorMismatchError, match="Label 'perhaps' is unknown"):
        model.partial_fit(one.X[:1], ["perhaps"])
    assert model.rows_seen_ == 800


@pytest.mark.parametrize("stop", [130, 245])
def test_a_stop_in_mid_stream_changes_nothing(learner, tmp_path, stop):
    X = np.concatenate([part for _, part, _ in stream()])
    y = np.concatenate([part for _, _, part in stream()])
    whole = OnlineMetaLearner(learner).partial_fit(X[:stop], y[:stop])
    up.save(whole, tmp_path / "stream")
    again = up.load(tmp_path / "stream")
    for model in (whole, again):
        model.partial_fit(X[stop : stop + 200], y[stop : stop + 200])
    np.testing.assert_array_equal(again.predict(X[:30]), whole.predict(X[:30]))
    assert again.changes_ == whole.changes_
    assert again.probabilities_ == whole.probabilities_


def test_memory_is_bounded_and_what_is_alike_is_merged(learner):
    model = OnlineMetaLearner(learner, memory=2)
    followed(model)
    assert len(model.probabilities_) == 3  # two worlds, and "new"
    twice = OnlineMetaLearner(learner, memory=2)
    tasks = FAMILY.sample(2, 200, random_state=7)
    for number, task in enumerate((tasks[0], tasks[0], tasks[1])):
        part = slice(100 * (number == 1), 100 + 100 * (number == 1))
        twice.partial_fit(task.X[part], task.y[part], world=number)
    assert set(twice.probabilities_) == {0, 2, "new"}, "the two halves of one task have become one world"
    assert twice.world_ == 2


def test_river_protocol_and_missing_labels(learner):
    task = FAMILY.sample(1, 30, random_state=3)[0]
    by_row, by_chunk = OnlineMetaLearner(learner), OnlineMetaLearner(learner, chunk=1)
    for x, y in zip(task.X.tolist(), task.y.tolist(), strict=True):
        row = {f"x{n}": value for n, value in enumerate(x)}
        before = by_row.predict_one(row)
        by_row.learn_one(row, y)
        assert np.isfinite(before)
    turned = dict(reversed(list(row.items())))
    assert by_row.predict_one(turned) == by_row.predict_one(row)
    with pytest.raises(up.PriorMismatchError, match="x lacks 'x3'"):
        by_row.predict_one({name: value for name, value in row.items() if name != "x3"})
    with pytest.raises(ValueError, match="world must be a whole number"):
        by_row.partial_fit(task.X, task.y, world=-1)
    by_chunk.partial_fit(task.X, task.y)
    np.testing.assert_allclose(by_row.predict(task.X), by_chunk.predict(task.X))
    late = OnlineMetaLearner(learner).partial_fit(task.X, np.where(np.arange(30) < 20, np.nan, task.y))
    assert late.rows_seen_ == 10
    frame = pd.DataFrame(task.X)
    assert OnlineMetaLearner(learner).partial_fit(frame, np.where(np.arange(30) < 20, np.nan, task.y)).rows_seen_ == 10
    holes = task.X.copy()
    holes[::3, 0] = np.nan
    assert np.isfinite(OnlineMetaLearner(learner).partial_fit(holes, task.y).predict(holes)).all()
    constant = OnlineMetaLearner(learner).partial_fit(np.zeros((50, task.X.shape[1])), np.zeros(50))
    assert np.isfinite(constant.predict(task.X)).all()


@pytest.mark.filterwarnings("ignore:This task")
def test_a_prior_grows_by_what_it_meets(tmp_path):
    """A prior of five tasks knows little; after twenty worlds it knows how tasks look."""
    few, stream, new = (FAMILY.sample(count, 20, random_state=seed) for count, seed in ((5, 11), (20, 12), (30, 13)))
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=5).meta_fit(few)
    model, before = OnlineMetaLearner(meta), meta.prior_.hash
    for number, task in enumerate(stream):
        model.partial_fit(task.X, task.y, world=1 + number)
        if number == 9:
            up.save(model, tmp_path / "half")
    assert meta.prior_.hash == before
    assert model.prior_.provenance["tasks"] > 20
    again = up.load(tmp_path / "half")
    for number, task in enumerate(stream[10:]):
        again.partial_fit(task.X, task.y, world=11 + number)
    assert again.prior_.hash == model.prior_.hash
    np.testing.assert_array_equal(again.predict(new[0].X), model.predict(new[0].X))
    assert again.probabilities_ == model.probabilities_
    back = [each.partial_fit(new[0].X, new[0].y, world=3).predict(new[1].X) for each in (model, again)]
    np.testing.assert_array_equal(*back)  # a world of before the stop, too

    def error(prior):
        learner = up.PriorNeuralNetworkRegressor(prior)
        errors = [np.square(learner.fit(t.X[:5], t.y[:5]).predict(t.X[5:]) - t.y[5:]).mean() for t in new]
        return np.mean(errors)

    assert error(model.prior_) < 0.5 * error(meta.prior_)


def test_the_reservoir_is_bounded():
    meta = up.MetaDecisionTree(prior_mean="none", leaves=2, structure="shared", shots=5).meta_fit(FAMILY.sample(6, 15))
    model = OnlineMetaLearner(meta, reservoir=8)
    for number, task in enumerate(FAMILY.sample(12, 15, random_state=3)):
        model.partial_fit(task.X, task.y, world=1 + number)
    assert model.prior_.provenance["tasks"] == 8
    other = up.Prior("neural-network", {**meta.prior_.settings, "rule": "maml"}, {}, {})
    with pytest.raises(up.PriorMismatchError, match="cannot grow on a stream"):
        check_grows(other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hazard": 1.0}, "hazard must be"), ({"recall": 2.0}, "recall must be"), ({"memory": 0}, "memory must be")],
)
def test_arguments_out_of_range_are_refused(learner, settings, message):
    with pytest.raises(ValueError, match=message):
        OnlineMetaLearner(learner, **settings).partial_fit(np.zeros((1, 4)), [0.0])


def test_a_learner_without_a_prior_is_refused():
    with pytest.raises(up.PriorMismatchError, match="learner must be an estimator with a prior"):
        OnlineMetaLearner(up.PriorNeuralNetworkRegressor()).partial_fit(np.zeros((1, 4)), [0.0])
    with pytest.raises(up.PriorMismatchError, match="learner needs a prior on columns"):
        OnlineMetaLearner(up.PriorTreeRegressor("tabular")).partial_fit(np.zeros((1, 4)), [0.0])
