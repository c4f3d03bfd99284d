"""Decision trees whose settings were learned from hundreds of tables: make what ships, test it on left-out groups.

    python benchmarks/tree_tabular.py fill      # tables of trials (about 5 minutes of two cores)
    python benchmarks/tree_tabular.py search    # default and grid searches on the same rows (about 6 minutes)
    python benchmarks/tree_tabular.py make      # src/upstairs/priors/tuner/decision-tree-*
    python benchmarks/tree_tabular.py report    # tree_tabular.md beside this file

Data: ``tabular_clf`` and ``tabular_reg`` in the folder ``UPSTAIRS_DATA``, as `benchmarks/recommended.py` reads them: at most
four data sets of a group, 1,000 rows of a data set, 60 % of them to fit and 40 % to score. Work files go to the folder
``UPSTAIRS_WORK``; every step goes on where it was interrupted.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import sys
import time
import warnings
from typing import Any

import numpy as np
from recommended import MEASURE, ROWS, SHARE, WORK, data_sets, kept, shipped
from scipy.stats import rankdata, wilcoxon
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import upstairs as up
from upstairs.learners.by_experience import LANDMARK_ROWS
from upstairs.learners.catalogue import made
from upstairs.learners.tree_experience import learned_beside, tree_prior
from upstairs.learners.tree_settings import GRID
from upstairs.learners.tuner_prior import FAMILY as TUNER
from upstairs.outer.metafeatures import describe
from upstairs.outer.recommend import Recommender, chosen, group_folds
from upstairs.outer.trials import Fold, Trials, _thinned, held_out, scores_of
from upstairs.outer.workers import Batch, run_bounded
from upstairs.plain import json_value
from upstairs.tasks import Task, TaskSet

HERE = pathlib.Path(__file__).resolve().parent
NAME = "decision-tree"
WORKERS = int(os.environ.get("UPSTAIRS_WORKERS", os.cpu_count() or 1))
KINDS = ("classification", "regression")
POWER = 1.0
"""Of the decision rule in a second table, by which balanced accuracy of all settings can be read off."""
JUDGED = {"classification": ("neg_log_loss", "balanced_accuracy"), "regression": ("r2",)}
"""What grid searches are scored on, one search each."""


# --- tables of trials -----------------------------------------------------------------------------------------------
def tuner(kind: str, power: float | None = None) -> up.MetaTuner:
    """Make the tuner; its trials lie in the work folder."""
    base = made(NAME, kind)
    return up.MetaTuner(
        base if power is None else base.set_params(decision_power=power),
        GRID[kind],
        measure=MEASURE[kind],
        cv=SHARE,
        max_rows=ROWS,
        max_seconds=20,
        checkpoint=WORK / f"{NAME}-{kind}.jsonl",
        landmarkers=LANDMARK_ROWS,
        n_jobs=WORKERS,
        random_state=0,
    )


@functools.cache
def experience(kind: str, power: float | None = None) -> up.Experience:
    """Fill the table, or read it where it is filled."""
    return tuner(kind, power)._filled(data_sets(kind).canonical(), None)


def fill() -> None:
    for kind, power in (("classification", None), ("classification", POWER), ("regression", None)):
        start = time.time()
        print(experience(kind, power), f"{time.time() - start:.0f} s", flush=True)


# --- what a user does without a prior -------------------------------------------------------------------------------
DEPTHS = [2, 4, 6, 10, None]
LEAVES = {"grid": [1, 3, 8, 20, 50], "grid of small leaves": [1, 2, 4, 8, 16]}
"""Large leaves smooth: a grid without them is what one finds in tutorials, and much weaker by the log loss."""


def plain(kind: str) -> Any:
    return DecisionTreeClassifier(random_state=0) if kind == "classification" else DecisionTreeRegressor(random_state=0)


def grid(kind: str, measure: str, part: Fold, leaves: list[int]) -> GridSearchCV:
    """5 x 5 settings, five folds."""
    folds = (StratifiedKFold if kind == "classification" else KFold)(5, shuffle=True, random_state=0)

    def score(model: Any, x: np.ndarray, y: np.ndarray) -> float:
        return scores_of(model, x, y, part.classes)[measure]

    return GridSearchCV(
        plain(kind), {"max_depth": DEPTHS, "min_samples_leaf": leaves}, cv=folds, scoring=score, error_score="raise"
    )


class Baselines:
    """Default and grid search on the rows that the table fits on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, task: Task) -> Any:
        part = Trials(plain(self.kind), SHARE, 0, ROWS).folds(task)[0]

        def run(_: int) -> dict[str, Any]:
            models = {"default": plain(self.kind)}
            for name, leaves in LEAVES.items():
                models |= {f"{name} {measure}": grid(self.kind, measure, part, leaves) for measure in JUDGED[self.kind]}
            found: dict[str, Any] = {}
            for name, model in models.items():
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # classes with fewer rows than there are folds
                    model.fit(part.x, part.y)
                seconds = time.perf_counter() - start
                found[name] = scores_of(model, part.x_held_out, part.y_held_out, part.classes) | {"seconds": seconds}
            return found

        return run


def search() -> None:
    """Run the baselines on every data set."""
    for kind in KINDS:
        path = WORK / f"tree-baselines-{kind}.json"
        if path.exists():
            continue
        tasks, start = list(data_sets(kind).canonical()), time.time()
        batches = [Batch(task, [0]) for task in tasks]
        found: dict[str, Any] = {}
        for outcome in run_bounded(Baselines(kind), batches, workers=WORKERS, seconds=600):
            found[tasks[outcome.batch].name] = None if outcome.failure else outcome.value
            if outcome.failure:
                print(tasks[outcome.batch].name, outcome.failure, flush=True)
        path.write_text(json.dumps(found))
        print("search", kind, len(found), f"{time.time() - start:.0f} s", flush=True)


# --- what ships -----------------------------------------------------------------------------------------------------
def learned(kind: str, measure: str, keep: Any = slice(None), family: str = "decision-tree") -> up.Prior:
    """Learn a prior for a measure from some of the data sets."""
    power = POWER if measure == "balanced_accuracy" else None
    table = experience(kind, power).by(measure).take(keep)
    tuned = tuner(kind, power).set_params(measure=measure).meta_fit(kept(table)).prior_
    tasks = {task.name: task for task in data_sets(kind)}
    chosen_tasks = TaskSet([tasks[name] for name in table.names])
    beside = learned_beside(tuned, chosen_tasks, Trials(made(NAME, kind), SHARE, 0, ROWS), measure)
    return tree_prior(tuned, beside, family)


def make() -> None:
    """Put the priors where the library finds them."""
    for kind in KINDS:
        prior = learned(kind, MEASURE[kind], family=TUNER)
        shipped(NAME, kind, prior, "benchmarks/tree_tabular.py")
        print(kind, prior.settings["choice"]["reason"], prior.settings["fixed"], prior.settings["spread"], flush=True)


# --- report ---------------------------------------------------------------------------------------------------------
FOLDS = 5
DEALS = (7, 8, 9, 10)
"""Seeds of ways to deal groups to folds."""


def codes(task: Task, part: Task) -> np.ndarray:
    """Labels as numbers; targets of a regression as they are."""
    return np.searchsorted(np.array(task.classes), part.y) if task.kind == "classification" else part.y


def tested(kind: str, measure: str) -> dict[str, dict[str, Any]]:
    """One tree on every data set, with what was learned for a measure from the other groups, on rows as they are."""
    path = WORK / f"tree-tested-{kind}-{measure}.json"
    if path.exists():
        return json.loads(path.read_text())
    table, tasks, found = experience(kind), {task.name: task for task in data_sets(kind)}, {}
    fold = group_folds(table.groups, FOLDS, seed=DEALS[0])
    for out in range(FOLDS):
        prior = learned(kind, measure, fold != out)
        for row in np.flatnonzero(fold == out):
            task = _thinned(tasks[table.names[row]], ROWS, 0)
            ((train, test),) = held_out(task.y, kind, SHARE, 0)
            part, rest = task.take(train), task.take(test)
            model = (up.PriorTreeClassifier if kind == "classification" else up.PriorTreeRegressor)(prior)
            start = time.perf_counter()
            model.fit(part.X, codes(task, part))
            seconds = time.perf_counter() - start
            classes = np.arange(len(task.classes)) if kind == "classification" else None
            found[task.name] = scores_of(model, rest.X, codes(task, rest), classes)
            found[task.name] |= {
                "seconds": seconds,
                "settings": model.settings_,
                "leaves": model.n_leaves_,
                "form": prior.settings["choice"]["form"],
                **prior.settings["fixed"],
            }
            if kind == "regression":
                low, high = model.predict_interval(rest.X).T
                found[task.name]["covered"] = float(((rest.y >= low) & (rest.y <= high)).mean())
    path.write_text(json.dumps(json_value(found)))
    return found


@functools.cache
def described(kind: str) -> np.ndarray:
    """Describe the rows that are fitted."""
    tasks, found = {task.name: task for task in data_sets(kind)}, []
    for name in experience(kind).names:
        task = _thinned(tasks[name], ROWS, 0)
        ((train, _),) = held_out(task.y, kind, SHARE, 0)
        part = task.take(train)
        found.append(describe(part.X, part.y, part.kind, with_landmarks=LANDMARK_ROWS))
    return np.stack(found)


def over_groups(values: Any, groups: Any) -> float:
    _, where = np.unique(groups, return_inverse=True)
    return float((np.bincount(where, values) / np.bincount(where)).mean())


OURS = "one tree, learned settings"


def compared(kind: str, measure: str, ours: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """One table: our one tree beside default and grid searches, by a measure."""
    table = experience(kind)
    found = {OURS: {name: ours[name] for name in table.names}}
    found["default"] = {name: others[name]["default"] for name in table.names}
    for key, leaves in LEAVES.items():
        said = f"grid search, leaves {', '.join(map(str, leaves))}"
        found[said] = {name: others[name][f"{key} {measure}"] for name in table.names}
    columns = {said: np.array([by[name][measure] for name in table.names]) for said, by in found.items()}
    sign, rank = (-1.0 if measure == "neg_log_loss" else 1.0), ranks(list(columns.values()))
    said = "log loss (less is better)" if measure == "neg_log_loss" else measure.replace("_", " ")
    lines = [
        f"### By {said}",
        "",
        "| | mean | mean over groups | mean rank |",
        "|---|---|---|---|",
    ]
    for number, (name, values) in enumerate(columns.items()):
        cells = [f"{sign * values.mean():.4f}", f"{sign * over_groups(values, table.groups):.4f}"]
        cells.append(f"{rank[number]:.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines.append("")
    for name in list(columns)[2:]:
        a, b = columns[OURS], columns[name]
        lines += [
            f"Against {name}: {int((a > b + 1e-3).sum())} won, {int((np.abs(a - b) <= 1e-3).sum())} tied, "
            f"{int((a < b - 1e-3).sum())} lost (Wilcoxon over data sets p = {wilcoxon(a, b).pvalue:.3g}); ratio of means "
            f"{a.mean() / b.mean():.3f}.",
            "",
        ]
    return lines


def ranks(columns: list[np.ndarray]) -> np.ndarray:
    """Mean rank (1 is best) of every column, ties shared."""
    return rankdata(-np.round(np.stack(columns, axis=1), 6), axis=1).mean(axis=0)


def picked(kind: str, measure: str, seed: int) -> np.ndarray:
    """Number of the setting for every data set, learned from the other groups for a measure, with groups dealt in one way."""
    table = experience(kind, POWER if measure == "balanced_accuracy" else None).by(measure)
    fold, picks = group_folds(table.groups, FOLDS, seed=seed), np.zeros(len(table), dtype=np.int64)
    for out in range(FOLDS):
        rest = table.take(fold != out)
        asked = Recommender.learn(rest, chosen(rest, trials=0).form)
        for row in np.flatnonzero(fold == out):
            picks[row] = asked.order(described(kind)[row], 1)[0]
    return picks


def other_deals(kind: str, others: dict[str, Any]) -> list[str]:
    """Other ways to deal groups to folds, and settings learned for each measure; read off the tables."""
    table, rows = experience(kind), np.arange(len(experience(kind)))
    lines = [
        "Groups dealt to folds in four ways (the first is the one above), and settings learned for either measure:",
        "",
    ]
    if kind == "regression":
        lines = [
            "Groups dealt to folds in four ways (the first is the one above):",
            "",
            "| deal | r2 | mean rank: learned, default, grid |",
        ]
        lines.append("|---|---|---|")
        beside = [np.array([others[name][key]["r2"] for name in table.names]) for key in ("default", "grid r2")]
        for number, seed in enumerate(DEALS):
            score = table.score[rows, picked(kind, "r2", seed)]
            said = ", ".join(f"{value:.2f}" for value in ranks([score, *beside]))
            lines.append(f"| {number + 1} | {score.mean():.4f} | {said} |")
        return lines
    rule = experience(kind, POWER).scores["balanced_accuracy"]
    best = table.scores["balanced_accuracy"].max(axis=1)
    default = np.array([others[name]["default"]["balanced_accuracy"] for name in table.names])
    lines += [
        "| learned for | deal | log loss | balanced accuracy | regret, in regrets of the default |",
        "|---|---|---|---|---|",
    ]
    for measure in JUDGED[kind]:
        for number, seed in enumerate(DEALS):
            picks = picked(kind, measure, seed)
            loss, score = -table.scores["neg_log_loss"][rows, picks], rule[rows, picks]
            share = (best - score).mean() / (best - default).mean()
            said = "log loss" if measure == "neg_log_loss" else "balanced accuracy"
            lines.append(f"| {said} | {number + 1} | {loss.mean():.4f} | {score.mean():.4f} | {share:.3f} |")
    return [
        *lines,
        "",
        "Regret: to the best setting of each data set by the most probable class, chosen with hindsight.",
    ]


def report() -> None:
    """Write the tables."""
    lines = [
        "# One tree with learned settings beside grid search, on left-out groups of data sets",
        "",
        f"At most {ROWS} rows of a data set, {1 - SHARE:.0%} to fit and the rest to score; at most four data sets of a group; "
        f"{FOLDS}-fold over groups: settings, form of the recommendation, decision rule and spread are learned from the other "
        "groups. Settings are learned for the measure that the tree is judged by. Grid: 5 depths x 5 leaf sizes, five folds, "
        "scored on the measure of the table, on rows that are encoded already. One thread; seconds of our tree "
        "include the encoder and the description of the data.",
        "",
    ]
    for kind in KINDS:
        table = experience(kind)
        both = {measure: tested(kind, measure) for measure in JUDGED[kind]}
        ours = both[MEASURE[kind]]
        others = json.loads((WORK / f"tree-baselines-{kind}.json").read_text())
        lines += [f"## {kind}: {len(table)} data sets in {len(set(table.groups))} groups", ""]
        for measure in JUDGED[kind]:
            lines += compared(kind, measure, both[measure], others)
        forms = ", ".join(sorted({ours[name]["form"] for name in table.names}))
        leaves = np.median([ours[name]["leaves"] for name in table.names])
        lines += [f"Forms chosen: {forms}. Median number of leaves: {leaves:g}.", ""]
        lines += regrets(both, others) if kind == "classification" else coverage(ours)
        lines += ["", *timed(kind), "", *other_deals(kind, others), ""]
    (HERE / "tree_tabular.md").write_text("\n".join(lines).rstrip() + "\n")
    print("\n".join(lines))


def regrets(both: dict[str, dict[str, Any]], others: dict[str, Any]) -> list[str]:
    """How far below the best setting of each data set, in balanced accuracy."""
    plain_rule, with_rule = (experience("classification", power).scores["balanced_accuracy"] for power in (None, POWER))
    names = experience("classification").names
    ours = both["balanced_accuracy"]
    one = np.array([ours[name]["balanced_accuracy"] for name in names])
    default = np.array([others[name]["default"]["balanced_accuracy"] for name in names])
    searched = np.array([others[name]["grid balanced_accuracy"]["balanced_accuracy"] for name in names])
    powers = sorted({ours[name]["decision_power"] for name in names})
    lines = [
        "Regret in balanced accuracy to the best of the table on each data set (chosen with hindsight; not a method):",
        "",
    ]
    lines += ["| best of | mean of the best | learned | default | grid search |", "|---|---|---|---|---|"]
    best = {
        "settings, most probable class": plain_rule,
        "settings, with and without the decision rule": np.maximum(plain_rule, with_rule),
    }
    for said, score in best.items():
        top = score.max(axis=1)
        cells = [f"{top.mean():.4f}", *(f"{(top - values).mean():.4f}" for values in (one, default, searched))]
        lines.append(f"| {said} | " + " | ".join(cells) + " |")
    accuracy = {
        "by the most probable class, settings learned for the log loss": both["neg_log_loss"],
        "by the decision rule, settings learned for balanced accuracy": ours,
        "of the default": {name: others[name]["default"] for name in names},
    }
    said = [f"{np.mean([by[name]['accuracy'] for name in names]):.4f} {what}" for what, by in accuracy.items()]
    return [
        *lines,
        "",
        f"Decision powers learned for balanced accuracy: {', '.join(f'{power:g}' for power in powers)}. Accuracy: {'; '.join(said)}.",
    ]


def timed(kind: str) -> list[str]:
    """Seconds of fits that were made one after another on the same data set, of every sixth."""
    found = []
    for task in list(data_sets(kind).canonical())[::6]:
        part = Trials(plain(kind), SHARE, 0, ROWS).folds(task)[0]
        ours = (up.PriorTreeClassifier if kind == "classification" else up.PriorTreeRegressor)("tabular")
        row = []
        for model in (ours, plain(kind), grid(kind, JUDGED[kind][0], part, LEAVES["grid"])):
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model.fit(part.x, part.y)
            row.append(time.perf_counter() - start)
        found.append(row)
    middle = np.median(found, axis=0)
    ratio = np.median([row[2] / row[0] for row in found])
    return [
        f"Seconds, one after another on every sixth data set (median): {middle[0]:.4f} for our one tree, {middle[1]:.4f} for the "
        f"default, {middle[2]:.3f} for the grid search; median of the ratios to the grid search {ratio:.0f}. Other work shared "
        "the cores."
    ]


def coverage(ours: dict[str, Any]) -> list[str]:
    """How many targets lie in intervals."""
    found = [entry["covered"] for entry in ours.values()]
    return [
        f"Intervals of 90 % hold {np.mean(found):.1%} of the targets (median over data sets {np.median(found):.1%})."
    ]


if __name__ == "__main__":
    {"fill": fill, "search": search, "make": make, "report": report}[sys.argv[1]]()
