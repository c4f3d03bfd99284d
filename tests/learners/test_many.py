"""Many tasks adapted at once: the same models for any number of threads and processes."""

from __future__ import annotations

import joblib
import numpy as np

import upstairs as up
from upstairs.learners import many, meta
from upstairs.tasks.synthetic import SharedSubspace


def test_threads_change_no_bit_of_a_closed_form(monkeypatch):
    monkeypatch.setattr(meta, "AT_ONCE", 3)
    tasks = SharedSubspace(features=4).sample(25, 20, random_state=0)
    learner = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear").meta_fit(tasks[:15])
    new = [(task.X[: 3 + number % 4], task.y[: 3 + number % 4]) for number, task in enumerate(tasks[15:])]
    asked = tasks[0].X
    with joblib.parallel_config("threading", n_jobs=2):
        found = [learner.adapt_many(new, n_jobs=1), learner.adapt_many(new, n_jobs=2), learner.adapt_many(new)]
    for models in zip(*found, strict=True):
        predictions = [model.predict(asked) for model in models]
        np.testing.assert_array_equal(predictions[0], predictions[1])
        np.testing.assert_array_equal(predictions[0], predictions[2])
    np.testing.assert_allclose(found[1][4].predict(asked), learner.adapt(*new[4]).predict(asked), rtol=1e-8)


def test_processes_fit_what_this_one_fits_and_share_the_prior(monkeypatch):
    monkeypatch.setattr(many, "AT_ONCE", 2)
    tasks = SharedSubspace(features=3).sample(11, 20, random_state=0)
    tuner = up.MetaTuner("decision-tree", [{"max_depth": 1}, {"max_depth": 4}], cv=2).meta_fit(tasks[:6])
    new = [(task.X, task.y) for task in tasks[6:]]
    here, there = tuner.adapt_many(new), tuner.adapt_many(tasks[6:], n_jobs=2)
    assert len(here) == len(there) == 5
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        np.testing.assert_array_equal(one.predict(tasks[0].X), other.predict(tasks[0].X))
        assert one.familiarity_ == other.familiarity_
        assert other.prior is tuner.prior_, number
