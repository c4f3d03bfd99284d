import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge

import upstairs as up
from upstairs.errors import FamiliarityWarning, TaskError, UpstairsError
from upstairs.evaluate import evaluate
from upstairs.tasks import ClassPool, Table, Task, TaskSet

FAST = ["pooled", "pooled + offset", "linear Gaussian prior"]


class Level(BaseEstimator):
    """The mean of the support, pulled to that of all training tasks."""

    def meta_fit(self, train):
        self.prior_ = float(np.mean([task.y.mean() for task in train]))
        return self

    def adapt(self, X, y):
        return Constant((self.prior_ + y.sum()) / (1 + len(y)), getattr(self, "std_", 1.0))


class Constant:
    def __init__(self, value, std=1.0):
        self.value, self.std = value, std

    def predict(self, X, return_std=False):
        mean = np.full(len(X), self.value)
        return (mean, np.full(len(X), self.std)) if return_std else mean


class Many(Level):
    """Adapts many tasks at once."""

    def adapt_many(self, tasks):
        return [self.adapt(task.X, task.y) for task in tasks]


class Fails:
    def __init__(self, name="never", at="adapt"):
        self.name, self.at = name, at

    def adapt(self, X, y):
        if self.at == "adapt" and len(y) == 5:
            raise RuntimeError("out of luck")
        return Constant(np.nan if self.at == "predict" else 0.0)

    def adapt_many(self, tasks):
        return [self.adapt(task.X, task.y) for task in tasks]


def lines(number=24, rows=20, seed=0, group=False):
    rng = np.random.default_rng(seed)

    def task(name):
        X = rng.normal(size=(rows, 2))
        y = X @ [2.0, -1.0] + rng.normal() + 0.1 * rng.normal(size=rows)
        return Task(X, y, name=name, group=f"g{int(name[1:]) // 4}" if group else None)

    return TaskSet([task(f"t{number:02d}") for number in range(number)])


def sides(number=16, rows=30, seed=0, positive=0.5):
    rng = np.random.default_rng(seed)

    def task(name):
        X = rng.normal(size=(rows, 2))
        score = 2 * X[:, 0] + 0.3 * rng.normal() + rng.normal(size=rows)
        return Task(X, (score > np.quantile(score, 1 - positive)).astype(int), name=name, kind="classification")

    return TaskSet([task(f"t{number:02d}") for number in range(number)], labels="shared")


def blobs(classes=16, rows=10, seed=0):
    rng = np.random.default_rng(seed)
    centre = 3 * rng.normal(size=(classes, 4))
    return ClassPool(
        np.repeat(centre, rows, axis=0) + rng.normal(size=(classes * rows, 4)), np.repeat(np.arange(classes), rows)
    )


def halves(tasks):
    return tasks.split(valid=0, test=0.5, random_state=0)[::2]


def records(result):
    keep = [name for name in result.columns if not name.endswith("_seconds")]
    rows = zip(*(result.columns[name].tolist() for name in keep), strict=True)
    return sorted(str(row) for row in rows)


def test_every_learner_sees_the_same_rows():
    class Watches:
        def __init__(self):
            self.seen = []

        def adapt(self, X, y):
            self.seen.append((X.copy(), y.copy()))
            return Constant(0.0)

    one, other = Watches(), Watches()
    train, test = halves(lines())
    result = evaluate({"one": one, "other": other}, test, train=train, shots=[2, 5], draws=2, baselines=None)
    assert len(one.seen) == len(other.seen) == 2 * 2 * 12
    for (X, y), (X_other, y_other) in zip(one.seen, other.seen, strict=True):
        np.testing.assert_array_equal(X, X_other)
        np.testing.assert_array_equal(y, y_other)
    table = result.to_frame()
    assert (table[table.learner == "one"].mse.to_numpy() == table[table.learner == "other"].mse.to_numpy()).all()


def test_order_of_tasks_and_processes_change_nothing():
    train, test = halves(lines())
    learners = {"level": Many(), "forest": RandomForestRegressor(3)}
    settings = {"shots": [2], "baselines": FAST, "queries": 5}
    first = evaluate(learners, test, train=train, **settings)
    turned = evaluate(learners, test[::-1], train=train[::-1], **settings)
    spread = evaluate(learners, test, train=train, n_jobs=2, **settings)
    assert first.episodes_hash == turned.episodes_hash == spread.episodes_hash
    assert records(first) == records(turned) == records(spread)


def test_random_state_changes_rows_and_the_estimators_own_numbers():
    train, test = halves(lines())
    learners = {"forest": RandomForestRegressor(3)}
    found = [
        evaluate(learners, test, train=train, shots=[5], baselines=None, random_state=state) for state in (0, 0, 1)
    ]
    assert records(found[0]) == records(found[1]) != records(found[2])
    rng = np.random.default_rng(3)
    drawn = [evaluate(learners, test, shots=[5], baselines=None, random_state=rng).episodes_hash for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_one_by_one_and_many_at_once_agree():
    train, test = halves(lines())
    result = evaluate({"one": Level(), "many": Many()}, test, train=train, shots=[1, 5], baselines=None)
    for shots in (1, 5):
        values = result.by_task(shots)[2]
        np.testing.assert_array_equal(values[:, 0], values[:, 1])
    assert all(seconds > 0 for seconds in result.meta_seconds.values())


def test_unfitted_learners_are_copied_and_fitted_ones_kept():
    train, test = halves(lines())
    fresh, ready = Level(), Level().meta_fit(test)
    kept = ready.prior_
    evaluate({"fresh": fresh, "ready": ready}, test, train=train, shots=[1], baselines=None)
    assert not hasattr(fresh, "prior_")
    assert ready.prior_ == kept
    with pytest.raises(TaskError, match="'fresh' is not fitted; pass train="):
        evaluate({"fresh": fresh}, test, shots=[1], baselines=None)


def test_good_learners_come_first():
    train, test = halves(lines())
    result = evaluate({"ridge": Ridge(), "level": Level()}, test, train=train, shots=[2, 8], queries=None)
    rows = result.table(2)
    assert rows[0].learner == "linear Gaussian prior"
    assert rows[0].reference
    assert rows[0].mean < 0.2 * rows[-1].mean
    assert set(result.baselines) == {"pooled", "pooled + offset", "tuned", "linear Gaussian prior"}
    level = next(row for row in rows if row.learner == "level")
    assert (level.wins, level.losses) == (0, 12)
    assert level.difference_low > 0
    assert level.p < 0.01
    assert next(row for row in rows if row.learner == "linear Gaussian prior").tasks == 12
    assert 0.5 < next(row.mean for row in result.table(8, "coverage") if row.learner == "linear Gaussian prior") < 1
    assert "nlpd" in result.metrics


def test_targets_are_divided_by_the_training_deviation():
    train, test = halves(lines())
    result = evaluate({"zero": Fails(at="none")}, test, train=train, shots=[5], queries=None, baselines=None)
    assert result.scale == pytest.approx(np.concatenate([task.y for task in train]).std())
    task = test.named(result.columns["task"][0])
    taken = result.columns["mse"][0] * result.scale**2
    assert taken == pytest.approx(np.square(task.y).mean(), rel=0.5)
    alone = evaluate({"zero": Fails(at="none")}, test, shots=[5], baselines=None)
    assert alone.scale == pytest.approx(np.concatenate([task.y for task in test]).std())


def test_without_training_tasks_pooled_baselines_are_left_out_and_said():
    _, test = halves(lines())
    result = evaluate({"ridge": Ridge()}, test, shots=[2])
    assert result.baselines == ("tuned",)
    assert "the baseline 'pooled' was left out: it needs train=" in result.notes
    with pytest.raises(TaskError, match="'pooled' learns from training tasks; pass train="):
        evaluate({"ridge": Ridge()}, test, shots=[2], baselines=["pooled"])


def test_tasks_that_are_too_small_are_counted():
    train, test = halves(lines())
    small = [*test, Task(np.ones((3, 2)), np.arange(3.0), name="small")]
    result = evaluate({"ridge": Ridge()}, TaskSet(small), train=train, shots=[2, 5], baselines=None)
    (entry,) = [entry for entry in result.left_out if entry.metric is None]
    assert (entry.shots, entry.count, entry.tasks) == (5, 1, ("small",))
    assert [len(result.by_task(shots)[0]) for shots in (2, 5)] == [13, 12]
    assert "small" in str(result.summary())


def test_one_class_among_the_queries_is_left_out_for_auc_only():
    train, test = halves(sides(positive=0.1))
    result = evaluate(
        {"lr": up.MetaNeuralNetwork(prior_mean="linear")}, test, train=train, shots=[5], queries=4, baselines=["pooled"]
    )
    gone = next(entry for entry in result.left_out if entry.metric == "auc")
    assert 0 < gone.count < 8
    assert result.table(5)[0].tasks == 8 - gone.count
    assert result.table(5, "accuracy")[0].tasks == 8
    never = sides(positive=0.001)
    with pytest.raises(TaskError, match="auc could not be measured"):
        evaluate({"x": Proba()}, never, shots=[5], queries=2, baselines=None)


class Proba:
    def adapt(self, X, y):
        return self

    classes_ = np.array([0, 1])

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


def test_binary_tasks_have_every_baseline_and_fallbacks_are_said():
    train, test = halves(sides())
    result = evaluate(
        {"meta": up.MetaNeuralNetwork(prior_mean="linear")}, test, train=train, shots=[1, 8], queries=None
    )
    assert set(result.baselines) == {
        "no-meta", "pooled", "pooled + offset", "tuned", "logistic, pooled Gaussian prior",
    }  # fmt: skip
    assert "'no-meta' fell back in 8 of 16 episodes: one class in the support" in result.notes
    assert result.metric == "auc"
    assert min(row.mean for row in result.table(8)) > 0.6


def test_pools():
    train, _, test = blobs().split(valid=0.2, test=0.4, random_state=0)
    result = evaluate(
        {"lr": LogisticRegression()}, test, train=train, shots=[1, 5], draws=12, queries=4, baselines="auto"
    )
    assert result.metric == "accuracy"
    assert set(result.baselines) == {"tuned", "nearest prototype"}
    assert result.table(5)[0].tasks == 12
    assert result.table(5)[0].mean > 0.8
    with pytest.raises(TaskError, match="Class 0 stands in train and in test"):
        evaluate({"lr": LogisticRegression()}, blobs(), train=blobs(), shots=[1])


def test_real_meta_learner_beats_its_plain_self():
    train, test = halves(up.tasks.synthetic.SharedSubspace().sample(60, 30, random_state=0))
    meta = up.MetaNeuralNetwork(prior_mean="linear").meta_fit(train)
    result = up.evaluate({"meta": meta}, test, train=train, shots=[1, 5], baselines=["no-meta", *FAST])
    ratio = result.ratio("meta", "no-meta", 5)
    assert ratio.low < float(ratio) < ratio.high < 0.9
    one_by_one = [meta.adapt(task.X, task.y) for task in test]
    assert len(one_by_one) == 30
    assert result.meta_seconds["meta"] == 0.0


def test_different_columns():
    rng = np.random.default_rng(0)
    tasks = [
        Task(rng.normal(size=(20, 2 + n % 3)), np.tile(["a", "b"], 10), name=f"t{n}", kind="classification")
        for n in range(6)
    ]
    train, test = halves(TaskSet(tasks, labels="own"))
    result = evaluate({"lr": LogisticRegression()}, test, train=train, shots=[3])
    assert set(result.baselines) == {"tuned", "nearest prototype"}


def test_tables_reach_foreign_learners_as_arrays_or_frames():
    rng = np.random.default_rng(0)

    class Looks:
        def adapt(self, X, y):
            kinds.add(type(X).__name__)
            return Constant(0.0)

    kinds = set()
    for text in (False, True):
        columns = [rng.normal(size=9), np.array(list("abcabcabc"), dtype=object) if text else rng.normal(size=9)]
        test = TaskSet([Task(Table(["u", "v"], columns), rng.normal(size=9), name="t")])
        evaluate({"looks": Looks()}, test, shots=[2], baselines=None)
    assert kinds == {"ndarray", "DataFrame"}


def test_familiarity_warnings_are_kept_quiet():
    class Warns:
        def adapt(self, X, y):
            warnings.warn("odd task", FamiliarityWarning, stacklevel=1)
            return Constant(0.0)

    evaluate({"warns": Warns()}, lines(4), shots=[2], baselines=None)


def test_progress_counts_to_the_end():
    seen = []
    evaluate(
        {"a": Ridge(), "b": Ridge()}, lines(6), shots=[1, 2], baselines=None, progress=lambda *pair: seen.append(pair)
    )
    assert seen[-1] == (24, 24)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_failures_name_learner_task_and_shots():
    for at, said in (("adapt", "adapt"), ("predict", "predict")):
        with pytest.raises(
            UpstairsError, match=rf"'bad' failed to {said} on task 't00' \(5 shots, draw 0, 5 support rows\)"
        ):
            evaluate({"bad": Fails(at=at)}, lines(4), shots=[5], baselines=None)
    with pytest.raises(UpstairsError, match="'bad' failed to adapt on task 't00'"):
        evaluate({"bad": LogisticRegression()}, lines(4), shots=[5], baselines=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learners": [Ridge()]}, "learners must map names"),
        ({"learners": {"": Ridge()}}, "Names of learners"),
        ({"learners": {"pooled": Ridge()}}, "belongs to a baseline"),
        ({"learners": {"no-meta (x)": Ridge()}}, "belongs to a baseline"),
        ({"learners": {"x": Ridge}}, "but is the class Ridge"),
        ({"learners": {"x": 3}}, "but is a int"),
        ({"learners": {}, "baselines": None}, "nothing to measure"),
        ({"test": 3}, "test must be a TaskSet"),
        ({"train": 3}, "train must be a TaskSet"),
        ({"train": TaskSet([])}, "train holds no task"),
        ({"train": sides(4)}, "train is a set of another kind"),
        ({"train": lines(4)}, "stands in train and in test"),
        ({"train": lines(40, group=True)[[1, 30]]}, "'t01' stands in train and in test"),
        ({"baselines": ["best"]}, "'best', but known are"),
        ({"baselines": "pooled"}, r"pass \['pooled'\]"),
        ({"baselines": ["nearest prototype"]}, "needs labels that are own"),
        ({"metric": "auc"}, "choose one of 'mse'"),
        ({"shots": 0}, "shots must be"),
        ({"ways": 3}, "ways=3"),
        ({"shots": 100}, "No test task is large enough"),
    ],
)
def test_errors(settings, said):
    given = {"learners": {"ridge": Ridge()}, "test": lines(8), "shots": [2], "baselines": [], **settings}
    with pytest.raises(TaskError, match=said):
        evaluate(given.pop("learners"), given.pop("test"), **given)


def test_groups_on_both_sides_are_refused():
    tasks = lines(8, group=True)
    with pytest.raises(TaskError, match="Group 'g0' stands in train and in test"):
        evaluate({"ridge": Ridge()}, tasks[[0, 4]], train=tasks[[1, 5]], shots=[1])


def test_the_package_stays_callable_under_its_own_name():
    import upstairs.evaluate as package

    assert package(learners={"ridge": Ridge()}, test=lines(4), shots=[1], baselines=None).metric == "mse"
