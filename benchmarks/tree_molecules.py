"""Tox21: MetaDecisionTree and other trees, 10 active and 10 inactive support molecules of an assay that none of them has seen.

    UPSTAIRS_DATA=... python benchmarks/tree_molecules.py [--seeds 3]

The protocol is that of `benchmarks/molecules.py`: the last three assays are the test tasks, and whatever is learned from the
other assays is learned without the molecules of the draw. "Pooled tree": on the rows of all training assays, its leaves
chosen by a molecule fold of its own. The support has as many active as inactive molecules, the assays have not; "weighted":
each support row counts as much as the share of its class in the training assays says. Writes ``tree_molecules.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
import warnings

import numpy as np
from molecules import DRAWS, FOLDS, HELD_OUT, auc, draws, load, tasks_of
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

import upstairs as up

HERE = pathlib.Path(__file__).parent
LEAST_PROBABILITY = 1e-3
LEAVES = (8, 32, 128)
GRID = {"max_depth": [1, 3, 8], "min_samples_leaf": [1, 3, 8]}
NATURAL, BALANCED = "MetaDecisionTree", "MetaDecisionTree, balanced training tasks"


def log_loss(p: np.ndarray, y: np.ndarray) -> float:
    """Log loss of probabilities of class 1, none below a thousandth."""
    p = np.clip(p, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    return float(-np.where(y == 1, np.log(p), np.log(1.0 - p)).mean())


def pooled_tree(
    x: np.ndarray, labels: np.ndarray, train: list[int], fold: np.ndarray, number: int
) -> DecisionTreeClassifier:
    """A tree on the rows of all training assays without one fold of the molecules; its size is chosen on another."""

    def rows(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [np.flatnonzero(keep & (labels[:, assay] >= 0)) for assay in train]
        y = np.concatenate([labels[part, assay] for part, assay in zip(parts, train, strict=True)])
        return x[np.concatenate(parts)], y

    judge = (number + 1) % FOLDS
    x_fit, y_fit = rows((fold != number) & (fold != judge))
    x_new, y_new = rows(fold == judge)
    losses = {}
    for leaves in LEAVES:
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=20, random_state=0).fit(x_fit, y_fit)
        losses[leaves] = log_loss(tree.predict_proba(x_new)[:, 1], y_new)
    best = min(losses, key=lambda leaves: losses[leaves])
    return DecisionTreeClassifier(max_leaf_nodes=best, min_samples_leaf=20, random_state=0).fit(*rows(fold != number))


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    x, labels = load("tox21")
    count = labels.shape[1]
    test = list(range(count - HELD_OUT["tox21"], count))
    train = [assay for assay in range(count) if assay not in test]
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    said = []
    for seed in range(options.seeds):
        fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
        for number in range(options.folds):
            metas = {}
            for name, balanced in ((NATURAL, None), (BALANCED, seed)):
                begun = time.perf_counter()
                tasks = tasks_of(x, labels, train, fold != number, balanced)
                metas[name] = up.MetaDecisionTree(shots=20, random_state=seed).meta_fit(tasks)
                said.append(
                    f"{name}, seed {seed}, fold {number}: {time.perf_counter() - begun:.1f} s; {metas[name].prior_.settings['choice']}"
                )
                sys.stdout.write(said[-1] + "\n")
            measured = labels[fold != number][:, train]
            active = float((measured == 1).sum() / (measured >= 0).sum())
            pooled = pooled_tree(x, labels, train, fold, number)
            for assay in test:
                for support, query in draws(labels[:, assay], fold, number, [seed, assay]):
                    xs, ys, y = x[support], labels[support, assay], labels[query, assay]
                    weight = np.where(ys == 1, 2.0 * active, 2.0 * (1.0 - active))
                    models = {"pooled tree": pooled}
                    for said_of, weighted in (("", None), (", weighted", weight)):
                        models[f"own tree{said_of}"] = DecisionTreeClassifier(random_state=0).fit(xs, ys, weighted)
                        tuned = GridSearchCV(DecisionTreeClassifier(random_state=0), GRID, scoring="neg_log_loss", cv=5)
                        models[f"tuned tree{said_of}"] = tuned.fit(xs, ys, sample_weight=weighted)
                        for name, meta in metas.items():
                            models[f"{name}{said_of}"] = meta.learner().fit(xs, ys, weighted)
                    for name, model in models.items():
                        p = model.predict_proba(x[query])[:, 1]
                        found.setdefault(name, {}).setdefault(seed, []).append((auc(p, y), log_loss(p, y)))
            sys.stdout.write(
                f"{ {name: np.mean([v for s in by.values() for v in s], axis=0).round(4).tolist() for name, by in found.items()} }\n"
            )
            sys.stdout.flush()
    lines = [
        "# Tox21: trees, 10 active and 10 inactive support molecules",
        "",
        f"Mean of {DRAWS} draws for each of {len(test)} assays and {options.seeds} seeds; range over seeds.",
        "",
        "| | AUC | seeds | log loss | seeds |",
        "|---|---|---|---|---|",
    ]
    for name, by in sorted(found.items(), key=lambda entry: -np.mean([v[0] for s in entry[1].values() for v in s])):
        means = np.array([np.mean(values, axis=0) for values in by.values()])
        cells = [f"{means[:, k].mean():.4f} | {means[:, k].min():.4f} to {means[:, k].max():.4f}" for k in (0, 1)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *(f"- {entry}" for entry in said[:4])]
    (HERE / "tree_molecules.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
