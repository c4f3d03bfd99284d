"""An estimator that waits, and tasks for it; they stand alone, so that processes that fit it load little."""

from __future__ import annotations

import time

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from upstairs.tasks import Task, TaskSet

SLOW = 0.04
LEVELS = [{"level": level} for level in (0.1, 0.2, 0.3)]


class Patient(RegressorMixin, BaseEstimator):
    """Predicts ``level`` after a while; ``level=9`` takes for ever, and ``level=8`` breaks."""

    def __init__(self, level: float = 0.0, wait: float = SLOW) -> None:
        self.level = level
        self.wait = wait

    def fit(self, X, y):
        if self.level == 8.0:
            raise ValueError("eight is too much")
        time.sleep(60 if self.level == 9.0 else self.wait)
        return self

    def predict(self, X):
        return np.full(len(X), self.level)


def tasks(count: int, seed: int = 0, rows: int = 24) -> TaskSet:
    rng = np.random.default_rng(seed)
    return TaskSet([Task(rng.normal(size=(rows, 2)), rng.normal(size=rows), f"s{seed}-{n}") for n in range(count)])
