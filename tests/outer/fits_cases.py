"""What tests of joblib's backends have in common: small tasks, a table, an evaluation, and an estimator that ends its process."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from sklearn.linear_model import Ridge

import upstairs as up

long = pytest.mark.skipif(not os.environ.get("UPSTAIRS_LONG"), reason="starts many processes; UPSTAIRS_LONG")


def tasks(count):
    rng = np.random.default_rng(0)

    def task(number):
        X = rng.normal(size=(24, 3))
        return up.Task(X, X @ [3.0, 2.0, 1.0] + rng.normal() + rng.normal(size=24), name=f"t{number:02d}")

    return [task(number) for number in range(count)]


def mortal(marker, times=1):
    """A ridge regression, sent by value, that has killed its process so many times when ``marker`` is so long."""

    class Mortal(Ridge):
        def fit(self, X, y):
            end_process(marker, times)
            return super().fit(X, y)

    return Mortal()


def end_process(marker, times):
    """Kill this process, unless that was done often enough."""
    with open(marker, "a+") as file:
        file.seek(0)
        if len(file.read()) >= times:
            return
        file.write("x")
    time.sleep(0.5)  # a nanny of Dask gives up a process that dies while it starts
    os.kill(os.getpid(), signal.SIGKILL)


def table(estimator, n_jobs, **settings):
    """Scores of every setting on every task."""
    tuner = up.MetaTuner(estimator, [{"alpha": 0.1}, {"alpha": 10.0}], cv=2, n_jobs=n_jobs, **settings)
    experience = tuner.meta_fit(tasks(3)).experience_
    return {name: scores.tolist() for name, scores in experience.scores.items()}


def evaluation(estimator, n_jobs, shots=(2, 3)):
    train, _, test = up.TaskSet(tasks(12)).split(valid=0, test=0.5, random_state=0)
    learners = {"estimator": estimator, "linear": up.MetaNeuralNetwork("bayesian-linear", net=None)}
    return up.evaluate(learners, test, train=train, shots=shots, baselines=["pooled"], n_jobs=n_jobs)
