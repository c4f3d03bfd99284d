"""Streams whose learner follows from experience: one fit a world, settings that suit its rows, a table that grows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import upstairs as up
from upstairs.online.drift import recurring
from upstairs.online.fitted_worlds import Fitted, FittedWorlds
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.stream import prequential
from upstairs.online.worlds import World

RULES = up.tasks.synthetic.HiddenRule()
STREAM = recurring(RULES, worlds=2, stretches=3, length=120, random_state=3)
DEPTHS = [{"max_depth": depth} for depth in (1, 3, 8)]


@pytest.fixture(scope="module")
def tuner():
    made = up.MetaTuner(
        "decision-tree", DEPTHS, measure="accuracy", landmarkers=False, max_seconds=None, random_state=0
    )
    return made.meta_fit(RULES.sample(6, 60, random_state=0))


@pytest.mark.parametrize(
    "learner",
    [up.PriorSVC(prior="tabular"), up.recommended("decision-tree", kind="classification")],
    ids=["machine", "tree"],
)
def test_a_world_that_comes_back_is_known(learner):
    online = OnlineMetaLearner(learner, chunk=20)
    result = prequential(online, STREAM.chunks(20))
    assert [(change["kind"], change["world"]) for change in online.changes_] == [("new", 1), ("recall", 0)]
    late = [change["at"] - at for change, at in zip(online.changes_, STREAM.changes, strict=True)]
    assert max(late) <= 40
    alone = prequential(OnlineMetaLearner(learner, hazard=0.0), STREAM.chunks(20))
    assert result.total > alone.total + 0.03, "worlds that are told apart are predicted better than all of them as one"


def test_a_stop_in_mid_stream_changes_nothing(tmp_path):
    """Before anything is fitted, and between two fits, when rows wait and fewer are kept than were met."""
    for stop in (3, 63):
        whole = OnlineMetaLearner(up.PriorSVC(prior="tabular"), rows=40, forgetting=(0.95,))
        whole.partial_fit(STREAM.X[:stop], STREAM.y[:stop])
        up.save(whole, tmp_path / "stream")
        again = up.load(tmp_path / "stream")
        for model in (whole, again):
            model.partial_fit(STREAM.X[stop : stop + 30], STREAM.y[stop : stop + 30])
        assert again.changes_ == whole.changes_
        np.testing.assert_array_equal(again.predict_proba(STREAM.X), whole.predict_proba(STREAM.X))


def test_numbers_are_predicted_with_a_spread_that_fits():
    """About two thirds of the targets lie within a standard deviation, and nearly all within two; units do not matter."""
    family = up.tasks.synthetic.SharedSubspace()
    stream = recurring(family, worlds=2, stretches=2, length=120, random_state=3)
    found = []
    for scale, shift, rows in ((1.0, 0.0, 240), (1e3, -5e3, 60)):
        y = stream.y[:rows] * scale + shift
        model, away = OnlineMetaLearner(up.recommended("ridge", kind="regression")), []
        for start in range(0, len(y), 10):
            part = slice(start, start + 10)
            if start:
                mean, std = model.predict(stream.X[part], return_std=True)
                away.append(np.abs(y[part] - mean) / std)
            model.partial_fit(stream.X[part], y[part])
        found.append(np.concatenate(away))
        assert [120 < change["at"] <= 140 for change in model.changes_] == [True] * (rows > 120)
    assert 0.5 < (found[0] < 1.0).mean() < 0.9
    assert (found[0] < 2.0).mean() > 0.85
    np.testing.assert_allclose(found[0][: len(found[1])], found[1], rtol=1e-3, atol=1e-3)


def test_names_dictionaries_and_labels_that_come_later():
    names = [f"c{n}" for n in range(20)]
    frame = pd.DataFrame(STREAM.X[:60], columns=names)
    y = np.where(STREAM.y[:60] == 1, "yes", "no")
    model = OnlineMetaLearner(up.PriorSVC(prior="tabular"))
    with pytest.raises(NotFittedError, match="has seen no row yet"):
        model.predict(frame)
    assert model.predict_one({"c0": 1.0}) is None
    assert model.prior_.settings["kind"] == "classification"
    first = y == y[0]
    model.partial_fit(frame[first], y[first])
    assert model.classes_.tolist() == [y[0]]
    model.partial_fit(frame, y)
    assert model.classes_.tolist() == ["no", "yes"]
    model.learn_one({name: 0.5 for name in names}, "aside")
    assert model.classes_.tolist() == ["aside", "no", "yes"]
    np.testing.assert_allclose(model.predict_proba(frame).sum(axis=1), 1.0)
    assert (model.predict(frame) == y).mean() > 0.8
    assert list(model.feature_names_in_) == names
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame.rename(columns={"c0": "other"}), y)


def test_what_cannot_be_fitted_is_predicted_by_what_is_usual():
    """No rows, a single class, a constant target, missing cells: no error, and sensible probabilities."""
    worlds = FittedWorlds(up.PriorSVC(prior="tabular"), columns=2, classes=3, most_rows=50)
    x = np.array([[0.0, np.nan], [1.0, 2.0]] * 4)
    blank = worlds.blank()
    np.testing.assert_allclose(worlds.predict(blank, x).probability, 1.0 / 3.0)
    one = worlds.learn(blank, x, np.ones(8, dtype=np.int64))
    np.testing.assert_allclose(worlds.predict(one, x).probability[0, 0], [1 / 11, 9 / 11, 1 / 11])
    numbers = FittedWorlds(up.PriorSVR(prior="tabular"), columns=2, classes=0, most_rows=50)
    constant = numbers.learn(numbers.blank(), x, np.full(8, 7.0))
    said = numbers.predict(constant, x)
    np.testing.assert_allclose(said.mean, 7.0)
    assert np.isfinite(numbers.log_density(constant, x, np.full(8, 7.0))).all()
    after = numbers.blank(constant)
    np.testing.assert_allclose(numbers.predict(after, x).mean, 7.0)


class Sure:
    """Says that every row is of class 0."""

    classes_ = np.array([0, 1])

    def predict_proba(self, x):
        return np.tile([1.0, 0.0], (len(x), 1))


def test_what_an_estimator_rules_out_may_happen():
    """Trust never becomes one, however often the estimator was right, nor zero."""
    worlds = FittedWorlds(None, columns=1, classes=2, most_rows=10**6)
    x, y = np.zeros((3000, 1)), np.zeros(3000, dtype=np.int64)
    world = World(x[:0], y[:0], Fitted(Sure()), 10**9, 10**9)
    world = worlds.learn(world, x, y)
    assert 0.99 < world.state.trust < 1.0
    world = worlds.learn(world, x[:1], y[:1] + 1)
    assert np.isfinite(worlds.log_density(world, x[:1], y[:1] + 1)).all()
    never = worlds.learn(world, x, y + 1).state.trust
    assert 0.0 < never < 0.01


def test_experience_grows_by_worlds_that_end(tuner, tmp_path):
    """Trials of worlds join the table; a stop between two of them changes nothing, and the meta-learner stays as it was."""
    before, known = tuner.prior_.hash, len(tuner.experience_)
    tasks = RULES.sample(4, 40, random_state=7)
    whole = OnlineMetaLearner(tuner, growth=0.3)
    for number, task in enumerate(tasks):
        whole.partial_fit(task.X, task.y, world=1 + number)
        if number == 1:
            up.save(whole, tmp_path / "stream")
            again = up.load(tmp_path / "stream")
    assert tuner.prior_.hash == before
    assert len(tuner.experience_) == known
    assert whole.prior_.provenance["tasks"] == known + 2, "two worlds are three tenths of six"
    assert whole.prior_.settings["experience"]["names"][-1] == "world 2, end 2"
    for number, task in enumerate(tasks[2:], start=2):
        again.partial_fit(task.X, task.y, world=1 + number)
    assert again.prior_.hash == whole.prior_.hash
    np.testing.assert_array_equal(again.predict_proba(tasks[0].X), whole.predict_proba(tasks[0].X))
    second = clone(tuner)
    second.prior_ = whole.prior_
    later = OnlineMetaLearner(second, growth=1.0)
    for number, task in enumerate(tasks[:2]):
        later.partial_fit(task.X, task.y, world=1 + number)
    assert [task.name for task in later._live.growth.waiting] == ["world 1, end 2"], (
        "another stream took the first name"
    )
    full = OnlineMetaLearner(tuner, growth=0.0, reservoir=known)
    for number, task in enumerate(tasks[:2]):
        full.partial_fit(task.X, task.y, world=1 + number)
    assert full.prior_.hash == before, "a full table stays as it is"
