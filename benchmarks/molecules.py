"""Tox21 and SIDER: assays as tasks, 10 active and 10 inactive support molecules, fingerprints as columns.

    UPSTAIRS_DATA=... python benchmarks/molecules.py [tox21 sider] [--part test] [--seeds 3]

The last 3 (Tox21) or 6 (SIDER) assays are the test tasks. Assays share molecules: molecules lie in five folds, support and
query of a draw come from one fold, and whatever is learned from other assays is learned from the other four, so that no
prior or pooled model has seen a molecule of the draw under any assay. "Balanced": of every training assay as many inactive as
active molecules. ``--part validation`` holds out training assays
instead, by which settings were chosen. Writes ``molecules.md`` (or ``molecules_validation.md``) beside itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

import upstairs as up

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "molecules"
HELD_OUT = {"tox21": 3, "sider": 6}
FOLDS, DRAWS, SHOTS = 5, 20, 10
AIMS = {"tox21": "at least .74", "sider": "not below the pooled model"}
Scores = dict[str, dict[int, list[float]]]


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints (molecule, 1024) and labels (molecule, assay), -1 where not measured."""
    file = np.load(DATA / f"{name}.npz", allow_pickle=False)
    return np.unpackbits(file["ecfp4_1024_packed"], axis=1).astype(float), file["labels"].astype(int)


def auc(score: np.ndarray, y: np.ndarray) -> float:
    """Area under the curve, ties counted half."""
    rank, positive = rankdata(score), y == 1
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def draws(label: np.ndarray, fold: np.ndarray, number: int, seed: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Support and query molecules of one assay and fold; every fourth of the draws, and one class at least 5 queries."""
    known = np.flatnonzero((fold == number) & (label >= 0))
    for draw in range(DRAWS // FOLDS):
        order = np.random.default_rng([*seed, number, draw]).permutation(known)
        support = np.concatenate([order[label[order] == value][:SHOTS] for value in (1, 0)])
        query = np.setdiff1d(known, support)
        if min((label[query] == 1).sum(), (label[query] == 0).sum()) >= 5:
            yield support, query


def tasks_of(
    x: np.ndarray, labels: np.ndarray, assays: list[int], keep: np.ndarray, balanced: int | None
) -> up.TaskSet:
    """Assays as tasks; ``balanced`` (a seed) takes as many molecules of the rarer as of the other class."""
    tasks = []
    for assay in assays:
        rows = np.flatnonzero(keep & (labels[:, assay] >= 0))
        if balanced is not None:
            order = np.random.default_rng([balanced, assay]).permutation(rows)
            parts = [order[labels[order, assay] == value] for value in (0, 1)]
            rows = np.sort(np.concatenate([part[: min(map(len, parts))] for part in parts]))
        tasks.append(up.Task(x[rows], labels[rows, assay], name=f"assay {assay:02d}", kind="classification"))
    return up.TaskSet(tasks, labels="shared")


def measure(
    x: np.ndarray, labels: np.ndarray, train: list[int], test: list[int], seed: int, scores: Scores, said: list[str]
) -> None:
    """Add the AUC of every method and draw to ``scores``."""
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    for number in range(FOLDS):
        begun = time.perf_counter()
        metas = {}
        for name, balanced in (("auto", None), ("auto, balanced training tasks", seed)):
            meta = up.MetaNeuralNetwork(shots=2 * SHOTS, random_state=seed)
            metas[name] = meta.meta_fit(tasks_of(x, labels, train, fold != number, balanced))
            metas[f"{name}, guard"] = metas[name]
            seconds = time.perf_counter() - begun
            said.append(f"{name}, seed {seed}, fold {number}: {seconds:.1f} s; {meta.prior_.settings['choice']}")
            sys.stdout.write(said[-1] + "\n")
            begun = time.perf_counter()
        forests, linear = [], []
        for assay in train:
            rows = np.flatnonzero((fold != number) & (labels[:, assay] >= 0))
            forests.append(
                RandomForestClassifier(60, min_samples_leaf=2, random_state=seed).fit(x[rows], labels[rows, assay])
            )
            linear.append(LogisticRegression(C=0.1, max_iter=200).fit(x[rows], labels[rows, assay]))
        here = np.flatnonzero(fold == number)
        pooled = {
            "pooled, mean of forests": np.mean([model.predict_proba(x[here])[:, 1] for model in forests], axis=0),
            "pooled, mean of logistic": np.mean([model.decision_function(x[here]) for model in linear], axis=0),
        }
        place = np.full(len(x), -1)
        place[here] = np.arange(len(here))
        for assay in test:
            for support, query in draws(labels[:, assay], fold, number, [seed, assay]):
                xs, ys, y = x[support], labels[support, assay], labels[query, assay]
                found = {
                    "own SVC": SVC().fit(xs, ys).decision_function(x[query]),
                    "own forest": RandomForestClassifier(100, random_state=0).fit(xs, ys).predict_proba(x[query])[:, 1],
                    "own logistic": LogisticRegression().fit(xs, ys).decision_function(x[query]),
                    **{name: array[place[query]] for name, array in pooled.items()},
                }
                for name, meta in metas.items():
                    adapted = meta.learner(guard=name.endswith("guard")).fit(xs, ys)
                    found[name] = adapted.predict_proba(x[query])[:, 1]
                for name, score in found.items():
                    scores.setdefault(name, {}).setdefault(assay, []).append(auc(score, y))
        sys.stdout.write(f"{ {name: round(mean_of(by), 4) for name, by in scores.items()} }\n")
        sys.stdout.flush()


def mean_of(by_assay: dict[int, list[float]]) -> float:
    """Mean over draws, then over assays."""
    return float(np.mean([np.mean(values) for values in by_assay.values()]))


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*", default=[])
    parser.add_argument("--part", choices=["test", "validation"], default="test")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["# Molecules: AUC, 10 active and 10 inactive support molecules", ""]
    for name in options.sets or list(HELD_OUT):
        x, labels = load(name)
        rounds = [list(range(labels.shape[1] - HELD_OUT[name], labels.shape[1]))]
        known = list(range(labels.shape[1] - HELD_OUT[name]))
        if options.part == "validation":
            rounds = [list(part) for part in np.array_split(known, 3)]
        per_seed: list[dict[str, float]] = []
        assays: dict[str, dict[int, list[float]]] = {}
        said: list[str] = []
        for seed in range(options.seeds):
            scores: Scores = {}
            for test in rounds:
                measure(x, labels, [assay for assay in known if assay not in test], test, seed, scores, said)
            per_seed.append({method: mean_of(by) for method, by in scores.items()})
            for method, by in scores.items():
                for assay, values in by.items():
                    assays.setdefault(method, {}).setdefault(assay, []).extend(values)
        lines += [*table(name, per_seed, assays), "", *(f"- {entry}" for entry in said[:4]), ""]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines += [f"Peak memory of the whole run {memory:.1f} GB."]
    place = HERE / ("molecules.md" if options.part == "test" else "molecules_validation.md")
    place.write_text("\n".join(lines) + "\n")


def table(name: str, per_seed: list[dict[str, float]], assays: dict[str, dict[int, list[float]]]) -> list[str]:
    """One line a method."""
    numbers = sorted(next(iter(assays.values())))
    lines = [
        f"## {name}: {AIMS[name]}",
        "",
        f"Mean of {DRAWS} draws an assay and {len(per_seed)} seeds (molecule folds, draws and training); range over seeds.",
        "",
        "| | AUC | seeds | " + " | ".join(f"assay {number}" for number in numbers) + " |",
        "|---|" + "---|" * (2 + len(numbers)),
    ]
    for method, by in sorted(assays.items(), key=lambda entry: mean_of(entry[1])):
        values = [entry[method] for entry in per_seed]
        cells = [f"{np.mean(values):.4f}", f"{min(values):.4f} to {max(values):.4f}"]
        lines.append(f"| {method} | " + " | ".join([*cells, *(f"{np.mean(by[n]):.3f}" for n in numbers)]) + " |")
    return lines


if __name__ == "__main__":
    main()
