import functools
import pickle

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.dummy import DummyRegressor

from upstairs.errors import TaskError
from upstairs.learners.baseline_mathematics import most_probable_shift, most_probable_weights, variance_components
from upstairs.learners.baselines import BASELINES, Situated, baseline_reasons, make_baseline
from upstairs.tasks import ClassPool, Table, Task, TaskSet

LINE = Situated("regression", None)
BINARY = Situated("classification", "shared", (0, 1))
OWN = Situated("classification", "own")


def lines(number=30, rows=15, level=1.0, seed=0):
    rng = np.random.default_rng(seed)

    def task(name):
        X = rng.normal(size=(rows, 2))
        return Task(X, X @ [2.0, -1.0] + level * rng.normal() + 0.5 * rng.normal(size=rows), name=name)

    return TaskSet([task(f"t{seed}-{number}") for number in range(number)])


def sides(number=14, rows=40, level=1.5, seed=0, classes=2):
    rng = np.random.default_rng(seed)

    def task(name):
        X = rng.normal(size=(rows, 2))
        score = np.column_stack([np.zeros(rows), 2 * X])[:, :classes] + level * rng.normal(size=classes)
        p = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
        return Task(X, (p.cumsum(axis=1) < rng.random(rows)[:, None]).sum(axis=1), name=name, kind="classification")

    return TaskSet([task(f"t{seed}-{number}") for number in range(number)], labels="shared")


@functools.cache
def fitted(name, at):
    train = lines() if at.kind == "regression" else sides(8 if len(at.classes) > 2 else 14, classes=len(at.classes))
    settings = {"pooled": fitted("pooled", at)} if name == "pooled + offset" else {}
    return make_baseline(name, at, **settings).meta_fit(train)


def loss(model, task, start):
    X, y = task.X[start:], task.y[start:]
    if task.kind == "regression":
        return float(np.square(model.predict(X) - y).mean())
    column = {label: place for place, label in enumerate(model.classes_.tolist())}
    p = model.predict_proba(X)[np.arange(len(y)), [column[label] for label in y.tolist()]]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


def mean_loss(name, at, test, shots):
    made = fitted(name, at)
    return float(np.mean([loss(made.adapt(task.X[:shots], task.y[:shots]), task, shots) for task in test]))


def test_strength_where_levels_differ():
    test = lines(seed=1)
    found = {n: mean_loss(n, LINE, test, 5) for n in ("pooled", "pooled + offset", "linear Gaussian prior", "tuned")}
    best = 0.25 * (1 + 1 / 5)  # noise, and what five rows leave open of the level
    assert best < found["linear Gaussian prior"] < 1.2 * best
    assert found["pooled + offset"] < 1.2 * best
    assert found["pooled"] > 3 * best
    assert found["tuned"] > found["linear Gaussian prior"]


def test_offset_shrinks_to_nothing_where_tasks_are_alike():
    made = make_baseline("pooled + offset", LINE).meta_fit(lines(60, level=0.0))
    assert made.between < 0.05 * made.within
    moved = make_baseline("pooled + offset", LINE).meta_fit(lines(60, level=2.0))
    assert moved.between == pytest.approx(4.0, rel=0.5)
    assert moved.within == pytest.approx(0.25, rel=0.3)


def test_offset_by_hand():
    made = fitted("pooled + offset", LINE)
    task = lines(1, seed=2)[0]
    n, k = 4, made.within / made.between
    pooled = made.pooled.adapt(task.X, task.y).predict(task.X)
    expected = pooled[4:] + n / (n + k) * (task.y[:4] - pooled[:4]).mean()
    np.testing.assert_allclose(made.adapt(task.X[:4], task.y[:4]).predict(task.X[4:]), expected)


def test_classification_baselines_beat_what_they_should():
    test = sides(seed=1)
    names = ("pooled", "pooled + offset", "logistic, pooled Gaussian prior", "tuned")
    found = {name: mean_loss(name, BINARY, test, 12) for name in names}
    assert found["pooled + offset"] < 0.9 * found["pooled"]
    assert found["logistic, pooled Gaussian prior"] < found["tuned"]
    assert found["pooled + offset"] < found["tuned"]


def test_three_shared_classes():
    at = Situated("classification", "shared", (0, 1, 2))
    test = sides(8, seed=1, classes=3)
    found = {name: mean_loss(name, at, test, 15) for name in ("pooled", "pooled + offset", "tuned")}
    assert found["pooled + offset"] < found["pooled"]
    assert found["tuned"] < np.log(3)


def test_one_class_and_one_row_are_answered():
    train = sides()
    for name in ("pooled", "pooled + offset", "logistic, pooled Gaussian prior"):
        model = fitted(name, BINARY).adapt(train[0].X[:2], np.array([1, 1]))
        assert not model.fallback
        assert model.predict_proba(train[0].X).shape == (40, 2)
    model = make_baseline("tuned", BINARY).adapt(train[0].X[:2], np.array([1, 1]))
    assert model.fallback == "one class in the support"
    np.testing.assert_allclose(model.predict_proba(train[0].X[:1]), [[0.25, 0.75]])
    for name in ("pooled", "pooled + offset", "linear Gaussian prior", "tuned"):
        task = lines(1)[0]
        model = fitted(name, LINE).adapt(task.X[:1], task.y[:1])
        assert np.isfinite(model.predict(task.X)).all()


def test_no_meta_fits_a_copy_and_falls_back_on_errors():
    plain = DummyRegressor()
    made = make_baseline("no-meta", LINE, plain=plain)
    assert made.adapt(np.ones((2, 1)), np.array([1.0, 3.0])).predict(np.ones((1, 1)))[0] == 2.0
    assert not hasattr(plain, "constant_")
    broken = make_baseline("no-meta", LINE, plain=DummyRegressor(strategy="quantile"))
    model = broken.adapt(np.ones((2, 1)), np.array([1.0, 3.0]))
    assert model.predict(np.ones((1, 1)))[0] == 2.0
    assert "quantile" in model.fallback


def test_prototype_learns_how_sharp_to_be():
    rng = np.random.default_rng(0)
    centre = 2 * rng.normal(size=(30, 6))
    pool = ClassPool(np.repeat(centre, 8, axis=0) + rng.normal(size=(240, 6)), np.repeat(np.arange(30), 8))
    train, _, test = pool.split(valid=0.1, test=0.4, random_state=0)
    tasks = test.episodes(30, ways=5, shots=3, queries=5, random_state=0)
    sharp = make_baseline("nearest prototype", OWN).meta_fit(train)
    learned, alone = [], []
    for task in tasks:
        order = np.argsort(np.tile(np.arange(8), 5), kind="stable")
        task = task.take(order)
        learned.append(loss(sharp.adapt(task.X[:15], task.y[:15]), task, 15))
        alone.append(loss(make_baseline("nearest prototype", OWN).adapt(task.X[:15], task.y[:15]), task, 15))
    assert np.mean(learned) < np.mean(alone)
    assert np.mean(learned) < 0.5
    again = make_baseline("nearest prototype", OWN).meta_fit(tasks)
    assert again.sharpness is not None


def test_prototype_of_tables_with_text():
    X = Table(["a", "b"], [np.array([0.0, 0.1, 5.0, 5.1]), np.array(["u", "u", "v", None], dtype=object)])
    model = make_baseline("nearest prototype", OWN).adapt(X, np.array(["p", "p", "q", "q"]))
    assert model.predict(X).tolist() == ["p", "p", "q", "q"]


def test_tuned_takes_the_scale_of_training_rows():
    made = make_baseline("tuned", LINE).meta_fit(lines())
    assert made.encoder is not None
    assert make_baseline("tuned", Situated("regression", None, same_columns=False)).meta_fit(lines()).encoder is None


def test_baselines_are_pure_and_can_be_pickled():
    train = lines()
    for name, at, tasks in (
        ("pooled + offset", LINE, train),
        ("linear Gaussian prior", LINE, train),
        ("tuned", LINE, train),
    ):
        made = fitted(name, at)
        before = made.adapt(train[0].X[:5], train[0].y[:5]).predict(train[0].X)
        made.adapt(train[1].X[:5], train[1].y[:5])
        again = pickle.loads(pickle.dumps(made)).adapt(train[0].X[:5], train[0].y[:5]).predict(train[0].X)
        np.testing.assert_array_equal(before, again)
        turned = make_baseline(name, at).meta_fit(tasks[::-1]).adapt(train[0].X[:5], train[0].y[:5])
        np.testing.assert_array_equal(before, turned.predict(train[0].X))


def test_many_at_once_equals_one_by_one():
    train = lines()
    made = make_baseline("linear Gaussian prior", LINE).meta_fit(train)
    parts = [task.take(np.arange(2 + number)) for number, task in enumerate(train[:5])]
    for task, model in zip(parts, made.adapt_many(parts), strict=True):
        mean, std = model.predict(task.X, return_std=True)
        one_mean, one_std = made.adapt(task.X, task.y).predict(task.X, return_std=True)
        np.testing.assert_allclose(mean, one_mean, rtol=1e-8)
        np.testing.assert_allclose(std, one_std, rtol=1e-8)


def test_variance_components_by_hand():
    # tasks of two rows with means 0 and 2: within 2/2 = 1, between (2*1 + 2*1 - 1) / (4 - 8/4) = 1.5
    parts = [np.array([-1 / np.sqrt(2), 1 / np.sqrt(2)]), 2 + np.array([-1 / np.sqrt(2), 1 / np.sqrt(2)])]
    within, between = variance_components(parts)
    assert within == pytest.approx(1.0)
    assert between == pytest.approx(1.5)
    assert variance_components([np.zeros(1), np.ones(1)])[0] > 0


def test_most_probable_weights_are_the_minimum():
    rng = np.random.default_rng(0)
    phi, y = rng.normal(size=(12, 3)), rng.integers(2, size=12)
    mean, std = rng.normal(size=3), np.array([0.5, 1.0, 2.0])

    def objective(w):
        margin = phi @ w
        return np.sum(np.logaddexp(0, margin) - y * margin) + 0.5 * np.sum(((w - mean) / std) ** 2)

    found = most_probable_weights(phi, y, mean, std)
    expected = minimize(objective, mean, tol=1e-12)
    np.testing.assert_allclose(found, expected.x, atol=1e-4)
    assert objective(found) <= expected.fun + 1e-9


def test_most_probable_shift_is_the_minimum():
    rng = np.random.default_rng(1)
    logits, codes = rng.normal(size=(9, 3)), rng.integers(3, size=9)

    def objective(b):
        shifted = logits + b
        return np.sum(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(9), codes]) + b @ b / (2 * 0.7)

    found, evidence = most_probable_shift(logits, codes, 0.7)
    np.testing.assert_allclose(found, minimize(objective, np.zeros(3), tol=1e-12).x, atol=1e-5)
    assert evidence < -objective(found)


def test_which_baselines_apply():
    applies = lambda at, train=True: {name for name, reason in baseline_reasons(at, train).items() if not reason}  # noqa: E731
    assert applies(LINE) == {"no-meta", "pooled", "pooled + offset", "tuned", "linear Gaussian prior"}
    assert applies(BINARY) == {"no-meta", "pooled", "pooled + offset", "tuned", "logistic, pooled Gaussian prior"}
    assert applies(OWN) == {"no-meta", "tuned", "nearest prototype"}
    assert applies(LINE, train=False) == {"no-meta", "tuned"}
    assert applies(Situated("regression", None, same_columns=False)) == {"no-meta", "tuned"}
    assert set(BASELINES) == set(baseline_reasons(LINE, True))
    with pytest.raises(TaskError, match="'magic', but known are"):
        make_baseline("magic", LINE)
    with pytest.raises(TaskError, match="needs a regression; leave it out"):
        make_baseline("linear Gaussian prior", OWN)
