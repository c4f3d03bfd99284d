"""MetaDecisionTree on tasks with the same columns: where it must win, where it must do no harm, and what can be asked of it."""

import numpy as np
import pytest

import upstairs as up
from upstairs.learners.baselines import Situated, make_baseline
from upstairs.tasks import Task, TaskSet


def family(tasks, rows=25, seed=0, kind="regression", spread=1.0):
    """Four leaves on two of three features; what is in the leaves differs from task to task, and neighbours go together."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(tasks):
        x = rng.normal(size=(rows, 3))
        level, first, second = spread * rng.normal(size=3)
        value = level + np.where(x[:, 0] > 0.3, first, -first) + np.where(x[:, 1] > -0.2, second, -second)
        if kind == "regression":
            y = value + 0.3 * rng.normal(size=rows)
        else:
            y = np.where(rng.random(rows) < 1.0 / (1.0 + np.exp(-2.0 * value)), "yes", "no")
        found.append(Task(x, y, name=f"task {seed} {number}", kind=kind))
    return TaskSet(found, labels="shared") if kind == "classification" else TaskSet(found)


@pytest.fixture(scope="module", params=["regression", "classification"])
def learned(request):
    return up.MetaDecisionTree(prior_mean="none", leaves=4).meta_fit(
        family(24, rows=40, kind=request.param)
    ), request.param


def error(model, task, rows):
    if hasattr(model, "predict_proba"):
        p = model.predict_proba(task.X[rows:])
        return -np.log(np.maximum(p[np.arange(len(p)), np.searchsorted(model.classes_, task.y[rows:])], 1e-3)).mean()
    return np.square(model.predict(task.X[rows:]) - task.y[rows:]).mean()


@pytest.mark.filterwarnings("ignore:This task")
def test_it_beats_a_tree_alone_and_a_linear_prior(learned):
    meta, kind = learned
    test = [task for task in family(30, rows=60, seed=1, kind=kind) if len(set(task.y[:8])) > 1]
    shared = kind == "classification"
    at = Situated(kind, "shared" if shared else None, ("no", "yes") if shared else ())
    name = "logistic, pooled Gaussian prior" if shared else "linear Gaussian prior"
    linear = make_baseline(name, at).meta_fit(family(24, rows=40, kind=kind))
    with_prior = np.mean([error(meta.adapt(task.X[:8], task.y[:8]), task, 8) for task in test])
    alone = np.mean([error(meta.plain_learner(kind).fit(task.X[:8], task.y[:8]), task, 8) for task in test])
    other = np.mean([error(linear.adapt(task.X[:8], task.y[:8]), task, 8) for task in test])
    assert with_prior < 0.6 * alone
    assert with_prior < 0.95 * other


def test_it_finds_the_splits_and_reads_well(learned):
    meta, kind = learned
    task = family(1, rows=80, seed=6, kind=kind)[0]
    model = meta.adapt(task.X, task.y)
    assert model.feature_importances_[2] == 0.0
    assert model.n_leaves_ == 4
    text = model.export_text()
    assert "x0 <= 0.3" in text or "x0 <= 0.2" in text, text
    assert "% from the prior" in text


def test_a_tree_on_a_pooled_prediction_says_so():
    meta = up.MetaDecisionTree(prior_mean="linear", leaves=2, structure="shared").meta_fit(family(8))
    task = family(1, seed=3)[0]
    assert "on a pooled prediction" in meta.adapt(task.X, task.y).export_text().splitlines()[-1]


def test_linear_tasks_are_not_harmed():
    tasks = up.tasks.synthetic.SharedSubspace().sample(20, 15, random_state=0)
    test = up.tasks.synthetic.SharedSubspace().sample(20, 60, random_state=1)
    meta = up.MetaDecisionTree(prior_mean="none", leaves=8, structure="shared").meta_fit(tasks)
    ratio = [
        error(meta.adapt(t.X[:10], t.y[:10]), t, 10)
        / error(meta.plain_learner("regression").fit(t.X[:10], t.y[:10]), t, 10)
        for t in test
    ]
    assert np.mean(ratio) < 0.9


def test_more_rows_and_more_tasks(learned):
    meta, kind = learned
    task = family(1, rows=30, seed=2, kind=kind)[0]
    if kind == "regression":
        whole = meta.adapt(task.X[:20], task.y[:20])
        steps = meta.adapt(task.X[:5], task.y[:5]).partial_fit(task.X[5:20], task.y[5:20])
        np.testing.assert_allclose(steps.predict(task.X), whole.predict(task.X), atol=1e-8)
    more = up.MetaDecisionTree(prior_mean="none", leaves=4)
    more.prior_, more.seen_ = meta.prior_, meta.seen_
    more.meta_partial_fit(family(6, seed=3, kind=kind))
    assert more.prior_.hash != meta.prior_.hash
    assert more.prior_.provenance["tasks"] == 30
    np.testing.assert_array_equal(more.prior_.arrays["params/tree/feature"], meta.prior_.arrays["params/tree/feature"])


def test_settings_that_the_prior_answers_are_refused(learned):
    meta, kind = learned
    task = family(1, kind=kind)[0]
    with pytest.raises(up.PriorMismatchError, match="ccp_alpha"):
        meta.learner(ccp_alpha=0.1).fit(task.X, task.y)


def test_many_tasks_at_once_and_saved(learned, tmp_path):
    meta, kind = learned
    test = family(6, rows=20, seed=4, kind=kind)
    new = test[0].X
    for model, task in zip(meta.adapt_many(test), test, strict=True):
        alone = meta.adapt(task.X, task.y)
        np.testing.assert_allclose(error(model, task, 0), error(alone, task, 0))
    up.save(alone, tmp_path / "model")
    up.save(meta, tmp_path / "meta")
    again, prior = up.load(tmp_path / "model"), up.load(tmp_path / "meta")
    np.testing.assert_array_equal(again.predict(new), alone.predict(new))
    assert again.export_text() == alone.export_text()
    assert prior.prior_.hash == meta.prior_.hash


def test_a_task_of_many_rows_grows_the_tree_further():
    rng = np.random.default_rng(5)

    def steps(name):
        x = rng.normal(size=(70, 2))
        places = np.array([-0.8, 0.0, 0.8]) + rng.uniform(-0.2, 0.2, 3)
        height = 2.0 * rng.permutation(4) - 3.0
        return Task(x, height[np.searchsorted(places, x[:, 1])] + 0.2 * rng.normal(size=70), name=name)

    tasks = TaskSet([steps(f"t{number}") for number in range(8)])
    meta = up.MetaDecisionTree(structure="own", prior_mean="none", shots=40).meta_fit(tasks)
    assert "trees grow on a task's own rows" in meta.prior_.settings["choice"]
    probability = np.exp(meta.prior_.arrays["params/grow/feature"])
    assert probability[1] > 0.8, "only the second feature matters"
    test = steps("new")
    model = meta.adapt(test.X[:40], test.y[:40])
    assert model.n_leaves_ >= 4
    assert error(model, test, 40) < 0.5 * np.var(test.y)
    assert meta.learner(max_depth=1).fit(test.X[:40], test.y[:40]).n_leaves_ == 2
    with pytest.raises(AttributeError):
        _ = model.partial_fit


def test_what_cannot_be_is_said():
    tasks = family(6)
    with pytest.raises(ValueError, match="leaves must be a whole number of at least 2"):
        up.MetaDecisionTree(leaves=1).meta_fit(tasks)
    labels = np.where(np.arange(25) % 2, "a", "b")
    own = TaskSet([Task(task.X, labels, name=task.name) for task in tasks], labels="own")
    with pytest.raises(up.TaskError, match="labels of their own"):
        up.MetaDecisionTree(columns="same").meta_fit(own)
    settings = [{"max_depth": 1}, {"max_depth": 3}]
    learned = up.MetaDecisionTree(settings=settings, max_seconds=None).meta_fit(own)
    assert list(learned.experience_.settings)[1:] == settings  # settings are what such tasks share
    pool = up.ClassPool(np.zeros((6, 2)), np.array(["a", "a", "b", "b", "c", "c"]))
    for columns in ("auto", "different"):
        with pytest.raises(up.TaskError):
            up.MetaDecisionTree(columns=columns).meta_fit(pool)
