"""Drift detectors: the sign of the loss, inputs, storage, and what an alarm does."""

import numpy as np
import pytest

import upstairs as up
from upstairs.errors import TaskError
from upstairs.online.detectors import MOST, DriftDetector, Watch, Watches
from upstairs.online.learner import OnlineMetaLearner

FEW = {"frequencies": 8, "forgetting": (1.0, 0.97)}


def errors(rates, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random(400) < rate).astype(float) for rate in rates])


@pytest.mark.parametrize("method", ["adwin", "kswin", "page-hinkley", "ddm", "hddm-a", "hddm-w"])
def test_a_loss_that_rises_is_an_alarm_and_one_that_falls_is_none(method):
    noise = 0.3 * np.random.default_rng(1).random(800) if method == "kswin" else 0.0  # it compares distributions
    rises = [Watch(DriftDetector(method)) for _ in range(2)]
    pairs = zip(rises, ((0.1, 0.6), (0.6, 0.1)), strict=True)
    up_, down = ([watch.update(value) for value in errors(rates) + noise] for watch, rates in pairs)
    assert 400 < np.flatnonzero(up_)[0] < 620
    assert not np.any(down[400:]), "it became better"


def test_eddm_is_told_errors():
    watch = Watch(DriftDetector("eddm"))
    assert any([watch.update(value) for value in errors((0.05, 0.7))][400:])


def test_inputs_are_watched_column_by_column():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 3))
    x[300:, 2] -= 3.0
    watches = Watches((DriftDetector(on="inputs"), DriftDetector("adwin")), 3)
    found = [watches.update(x[i : i + 1], np.zeros(1)) for i in range(600)]
    first = next(place for place, names in enumerate(found) if names)
    assert 300 < first < 400
    assert found[first] == ["adwin on inputs"]


def test_a_watch_goes_on_where_it_was_stored():
    values = np.random.default_rng(0).random(MOST + 300)
    whole = Watches((DriftDetector("kswin"),), 1)
    whole.update(np.zeros((MOST + 200, 1)), values[: MOST + 200])
    again = Watches((DriftDetector("kswin"),), 1)
    again.restore(whole.stored())
    assert len(whole.watches[0][0].values) < MOST
    later = np.concatenate([values[-100:], 5.0 + values[:100]])
    told = [[each.update(np.zeros((1, 1)), later[i : i + 1]) for i in range(200)] for each in (whole, again)]
    assert told[0] == told[1]
    assert any(told[0])


def turned(seed):
    """Two classes, right with probability .9, by a line that turns by 60 degrees at row 300."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 2))
    right = np.where(np.arange(600) < 300, x[:, 0], 0.5 * x[:, 0] + 0.87 * x[:, 1]) > 0
    return x, np.where(right ^ (rng.random(600) < 0.1), "up", "down")


def test_an_alarm_makes_a_change_likely(tmp_path):
    plain, firsts = up.ForgetfulClassifier(**FEW), []
    for seed in range(3):
        x, y = turned(seed)
        watched = OnlineMetaLearner(plain, hazard=1e-9, detectors=("adwin", DriftDetector("ddm")))
        alone = OnlineMetaLearner(plain, hazard=1e-9)
        for model in (watched, alone):
            model.partial_fit(x[:500], y[:500])
        assert watched.alarms_
        assert all(at > 300 for at, _ in watched.alarms_)
        assert {name for _, name in watched.alarms_} <= {"adwin on loss", "ddm on loss"}
        assert alone.alarms_ == []
        firsts.append([model.changes_[0]["at"] if model.changes_ else 600 for model in (watched, alone)])
    firsts = np.array(firsts)
    assert (firsts[:, 0] <= firsts[:, 1]).all()
    assert firsts[:, 0].sum() < firsts[:, 1].sum(), "with an alarm it is believed sooner"
    up.save(watched, tmp_path / "stream")
    again = up.load(tmp_path / "stream")
    for model in (watched, again):
        model.partial_fit(x[500:], y[500:])
    np.testing.assert_array_equal(again.predict_proba(x[:20]), watched.predict_proba(x[:20]))
    assert again.alarms_ == watched.alarms_


def test_what_there_is_not_is_refused():
    with pytest.raises(TaskError, match="is no detector; there are adwin"):
        DriftDetector("cusum")
    with pytest.raises(TaskError, match="watches errors; take 'adwin'"):
        DriftDetector("ddm", on="inputs")
    with pytest.raises(TaskError, match="on='targets' must be"):
        DriftDetector(on="targets")
    with pytest.raises(TaskError, match="do not fit river's ADWIN"):
        DriftDetector(settings={"speed": 3}).made()
    with pytest.raises(ValueError, match="detectors must be names"):
        OnlineMetaLearner(up.ForgetfulRegressor(**FEW), detectors=3).partial_fit(np.zeros((9, 1)), np.zeros(9))
    with pytest.raises(TaskError, match="'ddm' watches errors of classes"):
        OnlineMetaLearner(up.ForgetfulRegressor(**FEW), detectors="ddm").partial_fit(np.zeros((9, 1)), np.zeros(9))
