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

import datetime
import json
import os
import pathlib
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from recommended import DATA, PRIORS, ROWS, SHARE, WORK, data_sets, small
from scipy.stats import rankdata, wilcoxon
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.svm import SVC, SVR

import upstairs as up
from upstairs.learners.by_experience import LANDMARK_ROWS
from upstairs.learners.svm_experience import learned_slope, svm_prior
from upstairs.learners.svm_settings import GRID
from upstairs.outer.metafeatures import describe
from upstairs.outer.recommend import Recommender, chosen, group_folds
from upstairs.outer.trials import Fold, Trials, _thinned, held_out, scores_of
from upstairs.outer.workers import Batch, run_bounded
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.storage import write_folder
from upstairs.tasks import Task, TaskSet

HERE = pathlib.Path(__file__).resolve().parent

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
        landmarkers=LANDMARK_ROWS,
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
                try:
                    model.fit(part.x, part.y)
                    found[name] = scores_of(model, part.x_held_out, part.y_held_out, part.classes)
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


# --- what ships -----------------------------------------------------------------------------------------------------
def learned(kind: str, keep: Any = slice(None)) -> up.Prior:
    """Learn a prior from some of the data sets."""
    table = experience(kind).take(keep)
    tuned = tuner(kind).meta_fit(table).prior_
    if kind == "regression":
        return svm_prior(tuned, None)
    tasks = {task.name: task for task in data_sets(kind)}
    trials = Trials(up.PriorSVC(encode=False), SHARE, 0, ROWS)
    return svm_prior(tuned, learned_slope(tuned, TaskSet([tasks[name] for name in table.names]), trials))


def make() -> None:
    """Put the priors where the library finds them."""
    for kind in KINDS:
        prior = learned(kind)
        provenance = dict(prior.provenance) | {
            "date": datetime.date.today().isoformat(),
            "rows": f"at most {ROWS} of a data set, {1 - SHARE:.0%} to fit, the rest to score",
            "script": "benchmarks/svm_tabular.py",
            "versions": {package: version(package) for package in ("numpy", "scikit-learn", "scipy", "upstairs")},
        }
        arrays = {name: small(array) for name, array in prior.arrays.items()}
        shipped = Prior(prior.family, prior.settings, arrays, provenance)
        document = {
            "type": "MetaSVM",
            "params": {},
            "prior": {"family": shipped.family, "settings": dict(shipped.settings), "hash": shipped.hash},
            "provenance": provenance,
        }
        stored = {f"prior/{name}": array for name, array in arrays.items()}
        write_folder(PRIORS / f"svm-{kind}", json_value(document), stored, README.format(kind=kind))
        print(kind, prior.settings["choice"]["reason"], "slope", prior.settings["slope"], flush=True)


README = """# Settings of support vector machines ({kind}), learned from real data sets

Scores of settings on data sets (no rows of them), descriptions of the data sets in numbers, and how to choose. Read by
`PriorSVC(prior="tabular")` and `PriorSVR(prior="tabular")`; made by `benchmarks/svm_tabular.py`.
"""


# --- report ---------------------------------------------------------------------------------------------------------
FOLDS = 5


def codes(task: Task, part: Task) -> np.ndarray:
    """Labels as numbers; targets of a regression as they are."""
    return np.searchsorted(np.array(task.classes), part.y) if task.kind == "classification" else part.y


def tested(kind: str) -> dict[str, dict[str, Any]]:
    """One fit on every data set, with what was learned from the other groups, on rows as they are."""
    path = WORK / f"svm-tested-{kind}.json"
    if path.exists():
        return json.loads(path.read_text())
    table, tasks, found = experience(kind), {task.name: task for task in data_sets(kind)}, {}
    fold = group_folds(table.groups, FOLDS, seed=7)
    for out in range(FOLDS):
        prior = learned(kind, fold != out)
        for row in np.flatnonzero(fold == out):
            task = _thinned(tasks[table.names[row]], ROWS, 0)
            ((train, test),) = held_out(task.y, kind, SHARE, 0)
            part, rest = task.take(train), task.take(test)
            model = up.PriorSVC(prior) if kind == "classification" else up.PriorSVR(prior)
            model.fit(part.X, codes(task, part))
            classes = np.arange(len(task.classes)) if kind == "classification" else None
            found[task.name] = scores_of(model, rest.X, codes(task, rest), classes)
            found[task.name] |= {"settings": model.settings_, "form": prior.settings["choice"]["form"]}
    path.write_text(json.dumps(json_value(found)))
    return found


def ranks(columns: list[np.ndarray]) -> list[float]:
    """Mean rank (1 is best) of every column, ties shared."""
    return rankdata(-np.round(np.stack(columns, axis=1), 6), axis=1).mean(axis=0).tolist()


def report() -> None:
    """Write the tables."""
    lines = [
        "# One fit with learned settings beside grid search, on left-out groups of data sets",
        "",
        f"At most {ROWS} rows of a data set, {1 - SHARE:.0%} to fit and the rest to score; at most four data sets of a group; "
        f"{FOLDS}-fold over groups: settings, form of the recommendation and slope of probabilities are learned from the other "
        "groups. Grid: 4 costs x 4 widths (times two class weights), five folds, on rows that are encoded already. Seconds "
        "stand in [svm_speed.md](svm_speed.md).",
        "",
    ]
    for kind in KINDS:
        measure, table = MEASURE[kind], experience(kind)
        ours, plain = tested(kind), json.loads((WORK / f"svm-baselines-{kind}.json").read_text())
        names = [name for name in table.names if all(measure in plain[name][k] for k in ("default", "grid"))]
        one = {name: ours[name][measure] for name in names}
        columns = {"one fit, learned settings": [one[name] for name in names]}
        for key, said in (("default", "default"), ("grid", "grid search")):
            columns[said] = [plain[name][key][measure] for name in names]
        place = {name: number for number, name in enumerate(table.names)}
        columns["best setting of each (not a method)"] = [float(np.nanmax(table.score[place[name]])) for name in names]
        groups = [table.groups[place[name]] for name in names]
        rank = ranks([np.array(columns[name]) for name in list(columns)[:3]])
        lines += [f"## {kind}: {len(names)} data sets in {len(set(groups))} groups", ""]
        lines += [f"| | mean {measure} | mean over groups | mean rank |", "|---|---|---|---|"]
        for number, (said, values) in enumerate(columns.items()):
            cells = [f"{np.mean(values):.4f}", f"{over_groups(values, groups):.4f}"]
            cells += [f"{rank[number]:.2f}" if number < 3 else ""]
            lines.append(f"| {said} | " + " | ".join(cells) + " |")
        a, b = (np.array(columns[said]) for said in ("one fit, learned settings", "grid search"))
        lines += [
            "",
            f"Against grid search: {int((a > b + 1e-3).sum())} won, {int((np.abs(a - b) <= 1e-3).sum())} tied, "
            f"{int((a < b - 1e-3).sum())} lost (Wilcoxon over data sets p = {wilcoxon(a, b).pvalue:.3g}). "
            f"Forms chosen: {', '.join(sorted({ours[name]['form'] for name in names}))}.",
            "",
        ]
        if kind == "classification":
            lines += [*log_losses(ours, plain, table), ""]
        lines += [*other_folds(kind, plain), ""]
    lines += stored_grid()
    (HERE / "svm_tabular.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def other_folds(kind: str, plain: dict[str, Any]) -> list[str]:
    """The same with other ways to deal groups to folds, read off the table."""
    table, measure = experience(kind), MEASURE[kind]
    tasks = {task.name: task for task in data_sets(kind)}
    described = np.stack([describe_fitted(kind, tasks[name]) for name in table.names])
    names = {
        key: np.array([plain[name][key].get(measure, np.nan) for name in table.names]) for key in ("default", "grid")
    }
    said = []
    for seed in (8, 9, 10):
        fold, picks = group_folds(table.groups, FOLDS, seed=seed), np.zeros(len(table), dtype=np.int64)
        for out in range(FOLDS):
            rest = table.take(fold != out)
            asked = Recommender.learn(rest, chosen(rest, trials=0).form)
            for row in np.flatnonzero(fold == out):
                picks[row] = asked.order(described[row], 1)[0]
        score = table.score[np.arange(len(table)), picks]
        rank = ranks([score, names["default"], names["grid"]])
        said.append(f"{score.mean():.4f} (mean rank {rank[0]:.2f}, default {rank[1]:.2f}, grid {rank[2]:.2f})")
    return ["With groups dealt to folds in three other ways: " + "; ".join(said) + "."]


def describe_fitted(kind: str, task: Task) -> np.ndarray:
    """Describe the rows that are fitted."""
    task = _thinned(task, ROWS, 0)
    ((train, _),) = held_out(task.y, kind, SHARE, 0)
    part = task.take(train)
    return describe(part.X, part.y, part.kind, with_landmarks=LANDMARK_ROWS)


def log_losses(ours: dict[str, Any], plain: dict[str, Any], table: up.Experience) -> list[str]:
    """Log loss beside the default machine calibrated by cross-validation, where it could be."""
    names = [name for name in table.names if np.isfinite(plain[name].get("calibrated", {}).get("neg_log_loss", np.nan))]
    a, b = (
        -np.array([source(name) for name in names])
        for source in (
            lambda name: ours[name]["neg_log_loss"],
            lambda name: plain[name]["calibrated"]["neg_log_loss"],
        )
    )
    return [
        f"Log loss on {len(names)} data sets: {a.mean():.4f} in one fit, {b.mean():.4f} for the default calibrated by "
        f"cross-validation (ratio {a.mean() / b.mean():.3f}; {int((a < b).sum())} won, {int((a > b).sum())} lost).",
    ]


def over_groups(values: Any, groups: list[str]) -> float:
    _, where = np.unique(groups, return_inverse=True)
    return float((np.bincount(where, values) / np.bincount(where)).mean())


def stored_grid() -> list[str]:
    """Settings learned from the stored grid alone (accuracy of 288 settings on 50 data sets that are not at hand)."""
    stored = np.load(DATA / "hpo" / "svm_grid_50x288.npz", allow_pickle=False)
    settings = []
    for kernel, cost, gamma, degree in zip(*(stored[name] for name in ("kernel", "C", "gamma", "degree")), strict=True):
        entry: dict[str, Any] = {"kernel": str(kernel), "C": float(cost)}
        entry |= {} if np.isnan(gamma) else {"gamma": float(gamma)}
        settings.append(entry | ({} if np.isnan(degree) else {"degree": int(degree)}))
    table = up.Experience(settings, stored["datasets"].tolist(), {"accuracy": stored["accuracy"].astype(float)})
    meta = up.MetaSVM().meta_fit(table)
    ours, plain = tested("classification"), json.loads((WORK / "svm-baselines-classification.json").read_text())
    found = {}
    for task in data_sets("classification"):
        task = _thinned(task, ROWS, 0)
        ((train, test),) = held_out(task.y, "classification", SHARE, 0)
        part, rest = task.take(train), task.take(test)
        model = meta.adapt(part.X, codes(task, part))
        found[task.name] = scores_of(model, rest.X, codes(task, rest), np.arange(len(task.classes)))
    names = [name for name in ours if all("accuracy" in plain[name][key] for key in ("default", "grid"))]
    lines = [
        f"## Settings from the stored grid of 50 data sets alone: {model.settings_}",
        "",
        "| | accuracy | balanced accuracy |",
        "|---|---|---|",
    ]
    rows = {
        "one fit, settings of the stored grid": found,
        "one fit, settings learned from the tables here": ours,
        "default": {name: plain[name]["default"] for name in names},
        "grid search (by balanced accuracy)": {name: plain[name]["grid"] for name in names},
    }
    for said, by in rows.items():
        means = [np.mean([by[name][measure] for name in names]) for measure in ("accuracy", "balanced_accuracy")]
        lines.append(f"| {said} | {means[0]:.4f} | {means[1]:.4f} |")
    return lines


if __name__ == "__main__":
    {"fill": fill, "search": search, "make": make, "report": report}[sys.argv[1]]()
