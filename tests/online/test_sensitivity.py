"""Sensitivity: learned from past streams, and sceptical of change where nothing changes."""

import numpy as np
import pytest

import upstairs as up
from upstairs.errors import TaskError
from upstairs.online.drift import recurring
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.sensitivity import learn_sensitivity

FAMILY = up.tasks.synthetic.SharedSubspace()


@pytest.fixture(scope="module")
def model():
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10)
    return OnlineMetaLearner(meta.meta_fit(FAMILY.sample(20, 25, random_state=0)).learner())


def learned(model, length, stretches, **settings):
    worlds = min(stretches, 4)
    streams = [
        recurring(FAMILY, worlds=worlds, stretches=stretches, length=length, random_state=10 + seed)
        for seed in range(3)
    ]
    return learn_sensitivity(model, [(s.X, s.y) for s in streams], hazards=(0.0001, 0.05), tempers=(0.75,), **settings)


def test_where_worlds_change_often_it_learns_to_expect_it(model):
    found = learned(model, 15, 12)
    assert found.settings["hazard"] == 0.05
    best = min(record["log_loss"] for record in found.records)
    assert found.records[-1]["log_loss"] == best
    again = OnlineMetaLearner(model.learner, **found.settings)
    assert again.hazard == 0.05
    assert model.hazard == 0.0005


def test_where_nothing_changes_it_learns_not_to(model):
    tasks = FAMILY.sample(3, 150, random_state=4)
    found = learn_sensitivity(model, [(t.X, t.y) for t in tasks], hazards=(0.05, 0.0001), tempers=(0.75, 0.5))
    assert found.settings == {"hazard": 0.0001, "temper": 0.5, "forgetting": None}
    assert len(found.records) == 2 + 4


def test_classes_without_a_prior_and_missing_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 60, 2))
    y = np.where(x[..., 0] > 0, "up", "down").astype(object)
    y[:, ::9] = None
    model = OnlineMetaLearner(up.ForgetfulClassifier(frequencies=5, forgetting=(1.0, 0.9)))
    streams = list(zip(x, y, strict=True))
    found = learn_sensitivity(model, streams, hazards=(0.001,), tempers=(0.75,), forgetting=("auto",))
    assert np.isfinite([record["log_loss"] for record in found.records]).all()
    with pytest.raises(TaskError, match="at least two past streams"):
        learn_sensitivity(model, streams[:1])
    with pytest.raises(TaskError, match="something to try"):
        learn_sensitivity(model, streams, hazards=())
