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
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon
from sklearn.model_selection import ParameterSampler

import upstairs as up
from upstairs.learners.by_experience import LANDMARK_ROWS
from upstairs.learners.catalogue import CATALOGUE, known, made
from upstairs.learners.tree_settings import GRID
from upstairs.outer.recommend import Recommender, chosen, group_folds
from upstairs.outer.trials import Fold, Trials, _thinned, held_out, scores_of, with_settings
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
SETTINGS = {"k-neighbors": 48, "logistic-regression": 40, "ridge": 40} | dict.fromkeys(
    ("hist-gradient-boosting", "mlp"), 48
)
OTHERS = 31
TREE = "decision-tree"
"""Its settings are not drawn, and what ships is made by `benchmarks/tree_tabular.py`, for `upstairs.PriorTreeClassifier` as well."""
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
        GRID[kind] if name == TREE else None,
        landmarkers=LANDMARK_ROWS if name == TREE else True,
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
        task = _thinned(task, ROWS, 0)
        ((train, test),) = held_out(task.y, self.kind, SHARE, 0)
        part, base = task.take(train), made(self.name, self.kind)
        whole = Fold.of(task, train, test)
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


# --- priors ---------------------------------------------------------------------------------------------------------
def make() -> None:
    """Learn from every table and put the prior where the library finds it."""
    for name, kind in PAIRS:
        if name == TREE:
            continue  # made by benchmarks/tree_tabular.py
        learned = tuner(name, kind).meta_fit(kept(experience(name, kind)))
        shipped(name, kind, learned.prior_, "benchmarks/recommended.py")
        print(f"{name} {kind}: {learned.prior_.settings['choice']['reason']}", flush=True)


def kept(table: up.Experience) -> up.Experience:
    """Keep one measure in single precision: a prior of tens of kilobytes."""
    return up.Experience(
        table.settings,
        table.names,
        {table.measure: table.score.astype(np.float32)},
        table.groups,
        table.fingerprints,
        table.features.astype(np.float32),
        table.seconds,
    )


def shipped(name: str, kind: str, prior: Prior, script: str) -> None:
    """Write a prior where the library finds it."""
    provenance = dict(prior.provenance) | {
        "date": datetime.date.today().isoformat(),
        "rows": f"at most {ROWS} of a data set, {1 - SHARE:.0%} to fit, the rest to score",
        "script": script,
        "versions": {package: version(package) for package in ("numpy", "scikit-learn", "scipy", "upstairs")},
    }
    arrays = {f"prior/{key}": small(array) for key, array in prior.arrays.items()}
    written = Prior(prior.family, prior.settings, {key[6:]: array for key, array in arrays.items()}, provenance)
    document = {
        "type": "MetaTuner",
        "params": {"estimator": name},
        "prior": {"family": written.family, "settings": dict(written.settings), "hash": written.hash},
        "provenance": provenance,
    }
    write_folder(
        PRIORS / f"{name}-{kind}", json_value(document), arrays, README.format(name=name, kind=kind, script=script)
    )


def small(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float64 else array


README = """# Settings of {name} ({kind}), learned from real data sets

Scores of settings on data sets (no rows of them), descriptions of the data sets in thirty numbers, and how to choose.
Used by `upstairs.recommended("{name}")`; made by `{script}`.
"""


# --- report ---------------------------------------------------------------------------------------------------------
def held_out_picks(table: up.Experience) -> tuple[np.ndarray, list[str]]:
    """Recommend for every data set from the other groups only, the choice of the form included."""
    fold, default = group_folds(table.groups, OUTER, seed=7), 0
    order, forms = np.zeros((len(table), 3), dtype=int), []
    for out in range(OUTER):
        rest = table.take(fold != out)
        choice = chosen(rest, default=default, trials=0)
        forms.append(choice.form)
        known_ones = Recommender.learn(rest, choice.form)
        for row in np.flatnonzero(fold == out):
            order[row] = known_ones.order(table.features[row], 3)
    return order, forms


def extra_fits(table: up.Experience, order: np.ndarray, name: str, kind: str) -> np.ndarray:
    """Choose among three recommended settings by a share of the training rows, held out once: three extra fits."""
    tasks = {task.name: task for task in data_sets(kind)}
    out = np.zeros(len(table))
    for row, task_name in enumerate(table.names):
        task = _thinned(tasks[task_name], ROWS, 0)
        ((train, _),) = held_out(task.y, kind, SHARE, 0)
        trial = Trials(made(name, kind), 0.3, 1)(task.take(train))
        scores = [trial(table.settings[n])[table.measure] for n in order[row]]
        out[row] = table.score[row, order[row][int(np.argmax(scores))]]
    return out


def paired(first: np.ndarray, second: np.ndarray, groups: Any) -> dict[str, Any]:
    """Compare two columns of scores by the means of groups; failures are the worst that was seen."""
    low = min(first[np.isfinite(first)].min(), second[np.isfinite(second)].min())
    difference = np.where(np.isfinite(first), first, low) - np.where(np.isfinite(second), second, low)
    names, where = np.unique(np.array(groups), return_inverse=True)
    mean = np.bincount(where, difference) / np.bincount(where)
    tie = np.abs(mean) <= 1e-3
    p = 1.0 if not mean.any() else float(wilcoxon(mean, alternative="two-sided").pvalue)
    return {
        "win": int((mean[~tie] > 0).sum()),
        "tie": int(tie.sum()),
        "loss": int((mean[~tie] < 0).sum()),
        "median": float(np.median(mean)),
        "mean": float(np.clip(mean, -1, 1).mean()),
        "p": p,
        "groups": len(names),
    }


def holm(values: list[float]) -> list[float]:
    """Adjust p-values for their number."""
    order = np.argsort(values)
    adjusted = np.maximum.accumulate([(len(values) - rank) * values[n] for rank, n in enumerate(order)])
    return np.minimum(adjusted, 1.0)[np.argsort(order)].tolist()


def report() -> None:
    """Test every prior on left-out groups and write the tables."""
    rows: list[dict[str, Any]] = []
    for name, kind in PAIRS:
        table = experience(name, kind)
        order, forms = held_out_picks(table)
        at = np.arange(len(table))
        ways = {"one fit": table.score[at, order[:, 0]], "three extra fits": extra_fits(table, order, name, kind)}
        path = WORK / f"search-{name}-{kind}.json"
        searched = {k: v for k, v in json.loads(path.read_text()).items() if v} if path.exists() else {}
        there = np.array([task in searched for task in table.names])
        random = np.array([searched[task][0] for task in table.names if task in searched])
        groups = np.array(table.groups)
        for way, score in ways.items():
            row = {"name": name, "kind": kind, "way": way, "form": max(set(forms), key=forms.count)}
            row["default"] = paired(score, table.score[:, 0], groups)
            if len(random):
                row["random"] = paired(score[there], random, groups[there])
            finite = np.where(np.isfinite(table.score), table.score, np.nan)
            row["scores"] = [float(np.nanmedian(x)) for x in (finite[:, 0], score, np.nanmax(finite, axis=1))]
            picks = table.seconds[at, order[:, 0]]
            row["seconds"] = float(np.nanmean(picks))
            row["random seconds"] = float(np.mean([v[1] for v in searched.values()])) if searched else float("nan")
            rows.append(row)
            print(row, flush=True)
    for way in ("one fit", "three extra fits"):
        some = [row for row in rows if row["way"] == way]
        for against in ("default", "random"):
            there_ = [row for row in some if against in row]
            for row, p in zip(there_, holm([row[against]["p"] for row in there_]), strict=True):
                row[against]["holm"] = p
    (HERE / "recommended.md").write_text(written(rows))


def written(rows: list[dict[str, Any]]) -> str:
    """Lay the tables out."""
    lines = [
        "# Recommended settings on groups of data sets that were left out",
        "",
        "Score: minus log loss (classification) or R2 (regression), on the 40 % of the rows that were not fitted. The form",
        "of recommendation was chosen on the other groups as well. Win / tie / loss count groups of data sets (a tie is a",
        "difference of at most .001); p is Wilcoxon's signed-rank test over groups, adjusted by Holm over the estimators.",
        "Random search: 25 settings from the same distributions, three folds on the 60 % (76 fits), on one data set of each",
        "of 60 (classification) or 40 (regression) groups. Seconds: one fit of the recommended settings, and the search.",
        "",
    ]
    for way in ("one fit", "three extra fits"):
        lines += [
            f"## {way.capitalize()}",
            "",
            "| estimator | kind | form | median: default / recommended / best of the table | against the default | median | mean | p "
            "| against 25 random trials | median | mean | p | s, one fit | s, search |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in (row for row in rows if row["way"] == way):
            cells = [row["name"], row["kind"], row["form"], " / ".join(f"{value:.3f}" for value in row["scores"])]
            for against in ("default", "random"):
                if against not in row:
                    cells += ["-"] * 4
                    continue
                found = row[against]
                cells += [f"{found['win']} / {found['tie']} / {found['loss']}", f"{found['median']:+.4f}"]
                cells += [f"{found['mean']:+.4f}", f"{found['holm']:.2g}"]
            cells += [f"{row['seconds']:.3f}", f"{row['random seconds']:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    STEPS = {"fill": fill, "search": search, "make": make, "report": report}
    for step in sys.argv[1:] or ["report"]:
        STEPS[step]()
