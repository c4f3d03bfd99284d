"""Many small tasks adapted at once, beside as many bare fits of scikit-learn: on one core and on two.

    python benchmarks/adapt_many.py [--tasks 10000] [--rounds 3]

A task has 30 rows of 8 features; its target (a number, or its sign) follows its own weights near those of all, and the first feature
above zero. 40 tasks teach the priors. "Bare": `SVC()`, `SVR()` and decision trees of scikit-learn, cloned and fitted task after task.
Seconds are the least of the rounds, in which the three take turns; a fifth of the tasks for priors on different columns, which choose
settings from descriptions of each data set. Run with ``OMP_NUM_THREADS=1``. Writes ``adapt_many.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import upstairs as up

HERE = pathlib.Path(__file__).resolve().parent
ROWS, FEATURES, TRAINING = 30, 8, 40
SHARED = np.array([1.0, 0.5, -1.0, 0, 0, 0, 0, 0])


def tasks(count: int, kind: str, seed: int) -> list[up.Task]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        X = rng.normal(size=(ROWS, FEATURES))
        y = X @ (SHARED + 0.5 * rng.normal(size=FEATURES)) + 0.3 * rng.normal(size=ROWS) + np.maximum(X[:, 0], 0)
        if kind == "classification":
            y = (y > 0).astype(int)
            y[0] = 1 - y[1] if y.min() == y.max() else y[0]
        made.append(up.Task(X, y, name=f"t{number:05d}", kind=kind))  # type: ignore[arg-type]
    return made


def seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    short = up.Training(steps=50)
    cases = [
        ("machine", up.MetaSVM(training=short), {"classification": SVC(), "regression": SVR()}, 1),
        (
            "tree",
            up.MetaDecisionTree(),
            {"classification": DecisionTreeClassifier(), "regression": DecisionTreeRegressor()},
            1,
        ),
        ("machine, different columns", up.MetaSVM(columns="different"), {"classification": SVC()}, 5),
        (
            "tree, different columns",
            up.MetaDecisionTree(columns="different"),
            {"classification": DecisionTreeClassifier()},
            5,
        ),
    ]
    lines = [
        "# Many small tasks adapted at once",
        "",
        *(__doc__ or "").split("\n\n")[2:3],
        "",
        "| prior | tasks | bare fits, s | one core, s | two cores, s | one core as a share of bare | one core to two |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, unfitted, bases, fewer in cases:
        for kind, base in bases.items():
            new = [(task.X, task.y) for task in tasks(options.tasks // fewer, kind, 1)]
            meta = clone(unfitted).meta_fit(up.TaskSet(tasks(TRAINING, kind, 0)))
            for n_jobs in (1, 2):  # what is compiled or started once is not timed
                meta.adapt_many(new[:200], n_jobs=n_jobs)
            calls = (
                lambda base=base, new=new: [clone(base).fit(X, y) for X, y in new],
                lambda meta=meta, new=new: meta.adapt_many(new, n_jobs=1),
                lambda meta=meta, new=new: meta.adapt_many(new, n_jobs=2),
            )
            bare, one, two = np.min([[seconds(call) for call in calls] for _ in range(options.rounds)], axis=0)
            lines.append(
                f"| {name}, {kind} | {len(new):,} | {bare:.2f} | {one:.2f} | {two:.2f} | {one / bare:.2f} | {one / two:.2f} |"
            )
            print(lines[-1], flush=True)
    (HERE / "adapt_many.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
