"""Settings learned from hundreds of real data sets: make the priors that ship, and test them on left-out groups.

    python benchmarks/recommended.py fill      # the tables (about 45 minutes of two cores)
    python benchmarks/recommended.py search    # 25 random trials each on 100 data sets, for comparison (20 minutes)
    python benchmarks/recommended.py make      # src/upstairs/priors/tuner/*
    python benchmarks/recommended.py report    # recommended.md beside this file

Data: ``tabular_clf`` and ``tabular_reg`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). Work files go to
the folder ``UPSTAIRS_WORK`` (default ``/tmp/upstairs-recommended``); every step goes on where it was interrupted.
At most four data sets of a group, at most 1,000 rows of a data set, 60 % of them to fit and 40 % to score.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from sklearn.model_selection import ParameterSampler

import upstairs as up
from upstairs.learners.catalogue import CATALOGUE, known, made
from upstairs.learners.tuner_prior import recommender_of
from upstairs.outer.recommend import Recommender, chosen, group_folds
from upstairs.outer.trials import Trials, held_out, scores_of, with_settings
from upstairs.outer.workers import Batch, run_bounded
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.storage import write_folder
from upstairs.tasks import Task, TaskSet
from upstairs.tasks.fingerprint import fingerprint

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data"))
WORK = pathlib.Path(os.environ.get("UPSTAIRS_WORK", "/tmp/upstairs-recommended"))
PRIORS = HERE.parent / "src" / "upstairs" / "priors" / "tuner"
SETTINGS = {"decision-tree": 64, "k-neighbors": 48, "logistic-regression": 40, "ridge": 40}
OTHERS = 31
MEASURE = {"classification": "neg_log_loss", "regression": "r2"}
A_GROUP, ROWS, SHARE = 4, 1000, 0.4
SEARCHED = {"classification": 60, "regression": 40}
TRIALS = 25
OUTER = 10
PAIRS = [(name, kind) for name, entry in CATALOGUE.items() for kind in entry.places]


@functools.cache
def data_sets(kind: str) -> TaskSet:
    """Read the data sets of a kind as tasks; identifiers and codes that the index names are categories."""
    folder = DATA / ("tabular_clf" if kind == "classification" else "tabular_reg")
    if not folder.is_dir():
        raise SystemExit(f"{folder} does not exist; set UPSTAIRS_DATA to the folder that holds the data sets.")
    index = pd.read_csv(folder / "index.csv", keep_default_na=False)
    tasks: dict[str, Task] = {}
    for row in index[index.groupby("group").cumcount() < A_GROUP].itertuples():
        frame = pd.read_csv(folder / row.file, keep_default_na=False, na_values=[""])
        for column in filter(None, row.cat_columns.split("|")):
            if column in frame:
                frame[column] = [None if pd.isna(value) else str(value) for value in frame[column]]
        y = frame.pop("target").to_numpy()
        task = Task(frame, y.astype(str) if kind == "classification" else y, row.name, kind, str(row.group))
        tasks.setdefault(fingerprint(task.X, task.y), task)  # a few files hold the same data under two names
    return TaskSet(tasks.values())


def tuner(name: str, kind: str) -> up.MetaTuner:
    """Make the tuner of one estimator; its trials lie in the work folder."""
    return up.MetaTuner(
        name,
        n_settings=SETTINGS.get(name, OTHERS),
        cv=SHARE,
        max_rows=ROWS,
        max_seconds=20,
        checkpoint=WORK / f"{name}-{kind}.jsonl",
        n_jobs=-1,
        random_state=0,
    )


def experience(name: str, kind: str) -> up.Experience:
    """Fill the table, or read it where it is filled."""
    filler = tuner(name, kind)
    return filler._filled(data_sets(kind).canonical(), None).by(MEASURE[kind])


def fill() -> None:
    """Fill every table."""
    for name, kind in PAIRS:
        start = time.time()
        table = experience(name, kind)
        print(name, table, f"{time.time() - start:.0f} s", flush=True)


# --- random search --------------------------------------------------------------------------------------------------
def searched_tasks(kind: str) -> list[Task]:
    """One data set a group, spread evenly over the groups."""
    first = {task.group: task for task in reversed(list(data_sets(kind).canonical()))}
    groups = sorted(first)
    some = np.unique(np.linspace(0, len(groups) - 1, SEARCHED[kind]).round().astype(int))
    return [first[groups[n]] for n in some]


class RandomSearch:
    """Twenty-five random settings, cross-validated on the rows that the table fits on; the best one, fitted and scored."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def __call__(self, task: Task) -> Any:
        from upstairs.outer.trials import _Fold, _thinned

        task = _thinned(task, ROWS, 0)
        ((train, test),) = held_out(task.y, self.kind, SHARE, 0)
        part, base = task.take(train), made(self.name, self.kind)
        whole = _Fold.of(task, train, test)
        trial = Trials(base, 3, 1)(part)

        def run(seed: int) -> tuple[float, float]:
            start, scores = time.perf_counter(), []
            drawn = list(
                ParameterSampler(known(self.name, self.kind).distributions(self.kind), TRIALS, random_state=seed)
            )
            for settings in drawn:
                try:
                    scores.append(trial(settings)[MEASURE[self.kind]])
                except ValueError:
                    scores.append(-np.inf)
            model = with_settings(base, json_value(drawn[int(np.argmax(scores))]), 0, len(train)).fit(whole.x, whole.y)
            return scores_of(model, whole.x_held_out, whole.y_held_out, whole.classes)[MEASURE[self.kind]], (
                time.perf_counter() - start
            )

        return run


def search() -> None:
    """Search at random on the chosen data sets; one file an estimator."""
    for name, kind in PAIRS:
        path = WORK / f"search-{name}-{kind}.json"
        if path.exists():
            continue
        tasks, start = searched_tasks(kind), time.time()
        batches = [Batch(task, [1000 + number]) for number, task in enumerate(tasks)]
        found: dict[str, Any] = {}
        for outcome in run_bounded(RandomSearch(name, kind), batches, workers=os.cpu_count() or 1, seconds=300):
            found[tasks[outcome.batch].name] = outcome.value if not outcome.failure else None
            if outcome.failure:
                print(name, tasks[outcome.batch].name, outcome.failure, flush=True)
        path.write_text(json.dumps(found))
        print("search", name, kind, len(found), f"{time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    STEPS = {"fill": fill, "search": search}
    for step in sys.argv[1:] or ["report"]:
        STEPS[step]()
