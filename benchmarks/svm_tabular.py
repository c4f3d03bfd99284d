"""Support vector machines whose settings were learned from hundreds of tables: make what ships, test it on left-out groups.

    python benchmarks/svm_tabular.py fill      # tables of trials (about 30 minutes of two cores)
    python benchmarks/svm_tabular.py search    # default and grid search on the same rows (about 30 minutes)
    python benchmarks/svm_tabular.py make      # src/upstairs/priors/svm/*
    python benchmarks/svm_tabular.py report    # svm_tabular.md beside this file

Data: ``tabular_clf`` and ``tabular_reg`` in the folder ``UPSTAIRS_DATA``, as `benchmarks/recommended.py` reads them: at most
four data sets of a group, 1,000 rows of a data set, 60 % of them to fit and 40 % to score. Work files go to the folder
``UPSTAIRS_WORK``; every step goes on where it was interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from recommended import ROWS, SHARE, WORK, data_sets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.svm import SVC, SVR

import upstairs as up
from upstairs.learners.svm_settings import GRID
from upstairs.outer.trials import Fold, Trials, scores_of
from upstairs.outer.workers import Batch, run_bounded
from upstairs.tasks import Task

MEASURE = {"classification": "balanced_accuracy", "regression": "r2"}
KINDS = ("classification", "regression")


def tuner(kind: str) -> up.MetaTuner:
    """Make the tuner; its trials lie in the work folder."""
    plain = up.PriorSVC(encode=False) if kind == "classification" else up.PriorSVR(encode=False)
    return up.MetaTuner(
        plain,
        GRID[kind],
        cv=SHARE,
        max_rows=ROWS,
        max_seconds=20,
        checkpoint=WORK / f"svm-{kind}.jsonl",
        landmarkers=False,
        n_jobs=-1,
        random_state=0,
    )


def experience(kind: str) -> up.Experience:
    """Fill the table, or read it where it is filled."""
    return tuner(kind)._filled(data_sets(kind).canonical(), None).by(MEASURE[kind])


def fill() -> None:
    for kind in KINDS:
        start = time.time()
        print(experience(kind), f"{time.time() - start:.0f} s", flush=True)


# --- what a user does without a prior -------------------------------------------------------------------------------
COSTS, WIDTHS = [0.1, 1.0, 10.0, 100.0], [0.1, 0.3, 1.0, 3.0]
"""Of the grid; widths are gamma in units of scikit-learn's "scale"."""


def plain(kind: str) -> Any:
    return SVC() if kind == "classification" else SVR()


def grid(kind: str, part: Fold) -> GridSearchCV:
    """4 x 4 settings and for a classification two class weights, five folds."""
    scale = 1.0 / (part.x.shape[1] * part.x.var())
    space: dict[str, Any] = {"C": COSTS, "gamma": [scale * width for width in WIDTHS]}
    if kind == "regression":
        return GridSearchCV(SVR(), space, cv=KFold(5, shuffle=True, random_state=0), scoring="r2")
    space["class_weight"] = [None, "balanced"]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return GridSearchCV(SVC(), space, cv=folds, scoring="balanced_accuracy")


class Baselines:
    """Default, default calibrated by cross-validation, and grid search on the rows that the table fits on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, task: Task) -> Any:
        part = Trials(plain(self.kind), SHARE, 0, ROWS).folds(task)[0]

        def run(_: int) -> dict[str, Any]:
            found: dict[str, Any] = {}
            models = {"default": plain(self.kind), "grid": grid(self.kind, part)}
            if self.kind == "classification":
                models["calibrated"] = CalibratedClassifierCV(SVC(), method="sigmoid", ensemble=False)
            for name, model in models.items():
                start = time.perf_counter()
                try:
                    model.fit(part.x, part.y)
                    found[name] = scores_of(model, part.x_held_out, part.y_held_out, part.classes)
                    found[name]["seconds"] = time.perf_counter() - start
                except ValueError as error:  # a class has fewer rows than there are folds
                    found[name] = {"failure": str(error)[:80]}
            return found

        return run


def search() -> None:
    """Run the baselines on every data set."""
    for kind in KINDS:
        path = WORK / f"svm-baselines-{kind}.json"
        if path.exists():
            continue
        tasks, start = list(data_sets(kind).canonical()), time.time()
        batches = [Batch(task, [0]) for task in tasks]
        found: dict[str, Any] = {}
        for outcome in run_bounded(Baselines(kind), batches, workers=os.cpu_count() or 1, seconds=600):
            found[tasks[outcome.batch].name] = None if outcome.failure else outcome.value
            if outcome.failure:
                print(tasks[outcome.batch].name, outcome.failure, flush=True)
        path.write_text(json.dumps(found))
        print("search", kind, len(found), f"{time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    {"fill": fill, "search": search}[sys.argv[1]]()
