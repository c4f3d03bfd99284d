"""OnlineMetaLearner: worlds that change and come back, stops in mid-stream, odd rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

import upstairs as up
from upstairs.online.growth import check_grows
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.stream import chunks, prequential
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
    never = OnlineMetaLearner(learner, hazard=0.0, forgetting=None)
    assert followed(never)[1:].mean() > 2.5 * errors[1:].mean()


def test_a_stream_without_a_change_has_no_alarm(learner):
    task = FAMILY.sample(1, 1000, random_state=5)[0]
    follows = OnlineMetaLearner(learner).partial_fit(task.X, task.y)
    assert follows.changes_ == []
    assert follows.drift_ < 0.5
    model = OnlineMetaLearner(learner, forgetting=None).partial_fit(task.X, task.y)
    assert model.changes_ == []
    assert model.drift_ == 0.0
    assert model.probabilities_[0] > 0.9
    alone = learner.__class__(learner.prior).fit(task.X, task.y)
    np.testing.assert_allclose(model.predict(task.X[:50]), alone.predict(task.X[:50]), atol=0.02)
    np.testing.assert_allclose(follows.predict(task.X[:50]), alone.predict(task.X[:50]), atol=0.1)


def test_known_borders_are_taken_as_they_are_said(learner):
    model = OnlineMetaLearner(learner, forgetting=None)
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
    by_row, by_chunk = OnlineMetaLearner(learner), OnlineMetaLearner(learner)
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
    for x, y in zip(task.X, task.y, strict=True):
        by_chunk.partial_fit(x[None], [y])
    np.testing.assert_array_equal(by_row.predict(task.X), by_chunk.predict(task.X))
    at_once = OnlineMetaLearner(learner).partial_fit(task.X, task.y)
    np.testing.assert_allclose(by_row.predict(task.X), at_once.predict(task.X), atol=0.02)
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
    other = up.Prior("neural-network", {**meta.prior_.settings, "rule": "bayesian-linear", "net": {}}, {}, {})
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
    pool = up.ClassPool(np.random.default_rng(0).normal(size=(40, 4)), np.repeat(np.arange(8), 5))
    own = up.MetaNeuralNetwork("prototype", net=None, ways=2, shots=2, training=up.Training(steps=1)).meta_fit(pool)
    with pytest.raises(up.PriorMismatchError, match="learner needs labels that all tasks share"):
        OnlineMetaLearner(own.learner()).partial_fit(np.zeros((1, 4)), [0.0])


def test_without_a_prior_a_world_that_comes_back_is_known_at_once(tmp_path):
    """Two concepts take turns; a mixture that forgets learns each again, worlds are recalled."""
    rng = np.random.default_rng(0)
    blocks, rows = 6, 150
    x = rng.normal(size=(blocks * rows, 2))
    block = np.arange(blocks * rows) // rows
    right = (x[:, 0] > 0) == (block % 2 > 0)
    y = np.where(right ^ (rng.random(len(x)) < 0.1), "up", "down")
    plain = up.ForgetfulClassifier(frequencies=20)
    model = OnlineMetaLearner(plain)
    with pytest.raises(NotFittedError, match="has seen no row yet"):
        model.predict(x[:1])
    assert model.predict_one({"a": 1.0, "b": 2.0}) is None
    said = prequential(model, chunks(x, y, 5)).loss == 0.0
    assert [change["world"] for change in model.changes_] == [1, 0, 1, 0, 1]
    assert [change["kind"] for change in model.changes_] == ["new", "recall", "recall", "recall", "recall"]
    without = prequential(OnlineMetaLearner(plain, hazard=0.0), chunks(x, y, 5)).loss == 0.0
    after = np.arange(len(x)) % rows < 60
    late = after & (block > 1)
    assert said[late].mean() > without[late].mean() + 0.05, "a world that comes back is known at once"
    assert said.mean() > 0.75

    stopped = OnlineMetaLearner(plain.set_params(random_state=None)).partial_fit(x[:333], y[:333])
    up.save(stopped, tmp_path / "stream")
    again = up.load(tmp_path / "stream")
    for each in (stopped, again):
        each.partial_fit(x[333:500], y[333:500])
    np.testing.assert_array_equal(stopped.predict_proba(x[:20]), again.predict_proba(x[:20]))
    with pytest.raises(AttributeError, match="has no prior"):
        _ = again.prior_


def test_without_a_prior_classes_come_and_targets_have_any_scale():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    small = up.ForgetfulClassifier(frequencies=5, forgetting=(1.0, 0.95))
    model = OnlineMetaLearner(small).partial_fit(x, np.full(120, None))
    assert not hasattr(model, "_live"), "nothing but labels can begin a stream of classes"
    model.partial_fit(x[:60], np.where(x[:60, 0] > 0, "b", "c"))
    assert model.classes_.tolist() == ["b", "c"]
    model.partial_fit(x[60:63], ["a"] * 3)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict_proba(x).shape == (120, 3)
    frame = pd.DataFrame(x, columns=["p", "q"])
    regression = OnlineMetaLearner(up.ForgetfulRegressor(frequencies=5), chunk=4)
    holes = np.where(np.arange(120) % 7 == 0, np.nan, 1000.0 + 100.0 * x[:, 0])
    regression.partial_fit(frame, holes)
    assert regression.feature_names_in_.tolist() == ["p", "q"]
    assert not hasattr(model, "feature_names_in_")
    mean, std = regression.predict(frame, return_std=True)
    assert np.abs(mean - 1000.0 - 100.0 * x[:, 0]).mean() < 20.0
    assert (std < 60.0).all()
    assert regression.rows_seen_ == np.isfinite(holes).sum()
    assert regression.predict_one({"q": 0.0, "p": 0.0}) == pytest.approx(1000.0, abs=20.0)
    constant = OnlineMetaLearner(up.ForgetfulRegressor(frequencies=5)).partial_fit(np.zeros((30, 2)), np.full(30, 7.0))
    assert constant.predict(np.zeros((1, 2)))[0] == pytest.approx(7.0)
    alone = OnlineMetaLearner(small).partial_fit(x, np.full(120, "b"))
    assert alone.predict(x[:2]).tolist() == ["b", "b"]


def test_what_drifts_within_a_world_is_followed(learner):
    """Weights that turn slowly: nobody knows such a world, but followers go along."""
    one, other = FAMILY.sample(2, 600, random_state=9)
    share = np.linspace(0.0, 1.0, 600)
    rng = np.random.default_rng(0)
    first, second = (np.linalg.lstsq(np.c_[np.ones(600), t.X], t.y, rcond=None)[0] for t in (one, other))
    phi = np.c_[np.ones(600), one.X]
    y = (1.0 - share) * (phi @ first) + share * (phi @ second) + 0.3 * rng.normal(size=600)
    errors = {}
    for rates in ("auto", None):
        result = prequential(OnlineMetaLearner(learner, forgetting=rates, hazard=0.0), chunks(one.X, y, 10))
        errors[rates] = result.total
    assert errors["auto"] < 0.5 * errors[None]


def test_a_window_follows_where_a_rule_cannot_forget(classes):
    learner, one, other = classes
    model = OnlineMetaLearner(learner, forgetting=(0.98,), hazard=0.0)
    model.partial_fit(one.X[:200], one.y[:200])
    model.partial_fit(other.X[:150], other.y[:150])
    assert model.drift_ > 0.9, "the newest 50 rows say more than all 350"
    assert np.mean(model.predict(other.X[150:]) == other.y[150:]) > 0.8
    for wrong in ((1.5,), (), "fast", ("a",), np.array([0.9, 0.0])):
        with pytest.raises(ValueError, match="forgetting must be"):
            OnlineMetaLearner(learner, forgetting=wrong).partial_fit(one.X, one.y)
    never = OnlineMetaLearner(learner, forgetting=np.array([1.0, 0.98]), hazard=0.0).partial_fit(one.X, one.y)
    assert 0.0 < never.drift_ < 1.0


@pytest.mark.filterwarnings("ignore:This task")
def test_a_prior_that_is_trained_by_gradients_takes_more_steps():
    """Waves that grow larger than those the prior was learned on: it follows."""
    tasks = up.tasks.synthetic.Sinusoids(amplitudes=(0.1, 1.0)).sample(8, 30, random_state=0)
    meta = up.MetaNeuralNetwork(
        "ridge",
        net={"name": "mlp", "sizes": (20,)},
        training=up.Training(steps=200),
        shots=(5, 10),
    ).meta_fit(tasks)
    before = meta.prior_.hash
    model = OnlineMetaLearner(meta, meta_steps=400, forgetting=None)
    larger = up.tasks.synthetic.Sinusoids(amplitudes=(3.0, 5.0))
    for number, task in enumerate(larger.sample(6, 30, random_state=1)):
        model.partial_fit(task.X, task.y, world=1 + number)
    assert meta.prior_.hash == before
    assert model.prior_.settings["outer"]["steps"] > meta.prior_.settings["outer"]["steps"]
    assert model.prior_.provenance["tasks"] == 8 + 4  # a tenth more at a time

    def error(prior):
        learner, new = up.PriorNeuralNetworkRegressor(prior), larger.sample(20, 30, random_state=2)
        return np.mean([np.square(learner.fit(t.X[:10], t.y[:10]).predict(t.X[10:]) - t.y[10:]).mean() for t in new])

    assert error(model.prior_) < 0.3 * error(meta.prior_)


def test_two_classes_that_drift_are_followed_by_a_recursion(classes, tmp_path):
    """A prior over logistic weights: the slope turns round slowly, and nobody says so."""
    learner = classes[0]
    rng = np.random.default_rng(3)
    slope = np.cos(np.linspace(0.0, np.pi, 800))
    x = rng.normal(size=(800, 2))
    y = np.where(rng.random(800) < 1.0 / (1.0 + np.exp(-6.0 * slope * x[:, 0])), "yes", "no")
    totals = {}
    for rates in ("auto", None):
        model = OnlineMetaLearner(learner, forgetting=rates, hazard=0.0)
        totals[rates] = prequential(model, chunks(x, y, 10)).total
    assert totals["auto"] > totals[None] + 0.03
    stopped = OnlineMetaLearner(learner).partial_fit(x[:50], y[:50])
    up.save(stopped, tmp_path / "stream")
    again = up.load(tmp_path / "stream").partial_fit(x[50:90], y[50:90])
    np.testing.assert_array_equal(again.predict_proba(x), stopped.partial_fit(x[50:90], y[50:90]).predict_proba(x))


@pytest.mark.filterwarnings("ignore:This task")
def test_a_prior_of_classes_grows_and_is_followed(tmp_path):
    rng = np.random.default_rng(5)

    def task(name, slope):
        x = rng.normal(size=(30, 2))
        y = np.where(rng.random(30) < 1.0 / (1.0 + np.exp(-3.0 * slope * x[:, 0] - slope)), "yes", "no")
        return Task(x, y, name=name, kind="classification")

    tasks = [task(f"t{n}", rng.normal(1.0, 0.5)) for n in range(12)]
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    model = OnlineMetaLearner(meta.meta_fit(TaskSet(tasks[:4], labels="shared")))
    for number, each in enumerate(tasks[4:]):
        model.partial_fit(each.X, each.y, world=1 + number)
        if number == 4:
            up.save(model, tmp_path / "half")
    assert model.prior_.provenance["tasks"] > 8
    again = up.load(tmp_path / "half")
    for number, each in enumerate(tasks[9:]):
        again.partial_fit(each.X, each.y, world=6 + number)
    np.testing.assert_array_equal(again.predict_proba(tasks[0].X), model.predict_proba(tasks[0].X))
    assert np.mean(model.predict(tasks[0].X) == tasks[0].y) > 0.6
