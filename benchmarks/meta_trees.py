"""Meta decision trees on real data sets, beside voting, stacking and selection by cross-validation.

    python benchmarks/meta_trees.py predict    # base classifiers on every data set, once (some minutes of a core)
    python benchmarks/meta_trees.py choose     # settings, by the development half of the groups
    python benchmarks/meta_trees.py report     # meta_trees.md beside this file, from the other half

Data: ``tabular_clf`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``), one data set a group, at most 1,000
rows, 60 % of them to fit and 40 % to score. Predictions of the base classifiers lie in ``UPSTAIRS_WORK`` (default: a
folder for temporary files), since all methods share them.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import upstairs.outer.meta_tree as settings
from upstairs.inner.tree_nodes import descend
from upstairs.learners.base_classifiers import BASES, checked_bases, distributions, fitted_bases, out_of_fold
from upstairs.outer.leaf_counts import MetaTree, learned_counts, own_tree, trusted_tree
from upstairs.outer.meta_tree import attributes, counted, grow, meta_tree
from upstairs.outer.trials import _thinned, held_out
from upstairs.tasks import Task
from upstairs.tasks.encoder import Encoder

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data"))
WORK = pathlib.Path(os.environ.get("UPSTAIRS_WORK", pathlib.Path(tempfile.gettempdir()) / "upstairs-meta-trees"))
ROWS, SHARE, FOLDS, REPEATS = 1000, 0.4, 5, 3
GROUP_FOLDS = 10
NAMES = tuple(BASES)
PRUNING = 12
"""Strengths of pruning that an ordinary tree chooses from, spread evenly over those that make a difference."""


def data_sets() -> list[Task]:
    """Read the first data set of every group; identifiers and codes that the index names are categories."""
    folder = DATA / "tabular_clf"
    if not folder.is_dir():
        raise SystemExit(f"{folder} does not exist; set UPSTAIRS_DATA to the folder that holds the data sets.")
    index = pd.read_csv(folder / "index.csv", keep_default_na=False)
    tasks = []
    for row in index[index.groupby("group").cumcount() == 0].sort_values("group").itertuples():
        frame = pd.read_csv(folder / row.file, keep_default_na=False, na_values=[""])
        for column in filter(None, row.cat_columns.split("|")):
            if column in frame:
                frame[column] = [None if pd.isna(value) else str(value) for value in frame[column]]
        y = frame.pop("target").to_numpy().astype(str)
        tasks.append(_thinned(Task(frame, y, row.name, "classification", str(row.group)), ROWS, 0))
    return tasks


def predict() -> None:
    """Fit the base classifiers to each data set: out of fold on the rows to fit, and on the rows to score."""
    WORK.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    bases = checked_bases(list(BASES))
    for task in data_sets():
        for repeat in range(REPEATS):
            path, start = WORK / f"{task.name}-{repeat}.npz", time.perf_counter()
            if path.exists():
                continue
            ((train, test),) = held_out(task.y, "classification", SHARE, repeat)
            classes, y = np.unique(task.y, return_inverse=True)
            encoder = Encoder.fit(task.take(train).X)
            x, x_test = encoder.encode(task.take(train).X), encoder.encode(task.take(test).X)
            own = out_of_fold(bases, x, y[train], classes=len(classes), cv=FOLDS, seed=0)
            new = distributions(fitted_bases(bases, x, y[train], 0), x_test, len(classes))
            seconds = time.perf_counter() - start
            np.savez(path, own=own, y=y[train], new=new, y_new=y[test], group=task.group, seconds=seconds)
            print(path.stem, x.shape, len(classes), f"{seconds:.1f} s", flush=True)


# --- what all methods share -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Predicted:
    """Predictions of the base classifiers for one data set: rows to fit (out of fold), and new rows."""

    own: np.ndarray
    y: np.ndarray
    new: np.ndarray
    y_new: np.ndarray

    @property
    def meta(self) -> tuple[np.ndarray, np.ndarray]:
        return attributes(self.own), self.own.argmax(axis=2) == self.y[:, None]

    @property
    def right(self) -> np.ndarray:
        return self.new.argmax(axis=2) == self.y_new[:, None]

    def served(self, choice: np.ndarray) -> float:
        return float(self.right[np.arange(len(self.y_new)), choice].mean())


Method = Callable[[Predicted], tuple[float, float]]
"""Accuracy on new rows, and leaves (NaN for what is no tree)."""


def halves() -> tuple[list[list[Predicted]], np.ndarray]:
    """Read the predictions, a list of repeats a data set; and which data sets are for development."""
    names = sorted({path.stem.rsplit("-", 1)[0] for path in WORK.glob("*.npz")})
    if not names:
        raise SystemExit(f"{WORK} holds no predictions; run the step predict first.")
    read = []
    for name in names:
        files = [np.load(WORK / f"{name}-{repeat}.npz") for repeat in range(REPEATS)]
        read.append([Predicted(file["own"], file["y"], file["new"], file["y_new"]) for file in files])
    development = np.zeros(len(names), dtype=bool)
    development[np.random.default_rng(0).permutation(len(names))[: len(names) // 2]] = True
    return read, development


def tree_over(rest: list[Predicted]) -> MetaTree:
    """Learn a tree and its counts from some groups, as `learn_combination` does."""
    meta = [one.meta for one in rest]
    nodes, _, _ = meta_tree(*(np.concatenate(parts) for parts in zip(*meta, strict=True)))
    rows, right = (np.stack(parts) for parts in zip(*(counted(nodes, *one) for one in meta), strict=True))
    return MetaTree(nodes, NAMES, np.zeros(rows.shape[1]), np.zeros(right.shape[1:]), *learned_counts(rows, right))


def learned(rest: list[Predicted]) -> Callable[[Predicted], tuple[float, float, float]]:
    """Learn from other groups; returns, of a data set, accuracy, leaves, and accuracy of the root alone."""
    over = tree_over(rest)
    nodes, start = over.nodes, (over.prior_rows, over.prior_right)

    def use(one: Predicted) -> tuple[float, float, float]:
        x, correct = one.meta
        tree, _ = trusted_tree(own_tree(x, correct, NAMES), nodes, start, x, correct)
        root = int((start[1][0] + correct.sum(axis=0)).argmax())
        return one.served(tree.trusted(attributes(one.new))), tree.n_leaves, float(one.right[:, root].mean())

    return use


def with_prior(read: list[list[Predicted]], at: np.ndarray) -> np.ndarray:
    """Use, for the data sets ``at``, what was learned from the groups of other folds among all of ``read``."""
    fold = np.arange(len(read)) % GROUP_FOLDS
    found = np.full((len(read), REPEATS, 3), np.nan)
    for out in range(GROUP_FOLDS):
        for repeat in range(REPEATS):
            use = learned([one[repeat] for number, one in enumerate(read) if fold[number] != out])
            for number in np.flatnonzero((fold == out) & at):
                found[number, repeat] = use(read[number][repeat])
    return found[at]


# --- methods --------------------------------------------------------------------------------------------------------
def own(one: Predicted) -> tuple[float, float]:
    tree = own_tree(*one.meta, NAMES)
    return one.served(tree.trusted(attributes(one.new))), tree.n_leaves


def unpruned(one: Predicted) -> tuple[float, float]:
    """The paper's tree without any pruning, two rows a leaf."""
    x, right = one.meta
    nodes = grow(x, right, least=2)
    choice = counted(nodes, x, right)[1].argmax(axis=1)
    return one.served(choice[descend(nodes, attributes(one.new)[None])[0]]), (len(choice) + 1) / 2


def selected(one: Predicted) -> tuple[float, float]:
    return float(one.right[:, one.meta[1].sum(axis=0).argmax()].mean()), 1


def hindsight(one: Predicted) -> tuple[float, float]:
    return float(one.right.mean(axis=0).max()), 1


def plurality(one: Predicted) -> tuple[float, float]:
    """One vote each; ties go to the larger mean probability."""
    classes = np.arange(one.new.shape[2])
    votes = (one.new.argmax(axis=2)[:, :, None] == classes).sum(axis=1)
    return float(np.mean((votes + 0.5 * one.new.mean(axis=1)).argmax(axis=1) == one.y_new)), np.nan


def averaged(one: Predicted) -> tuple[float, float]:
    return float(np.mean(one.new.mean(axis=1).argmax(axis=1) == one.y_new)), np.nan


def stacked_logistic(one: Predicted) -> tuple[float, float]:
    model = LogisticRegression(max_iter=1000).fit(one.own.reshape(len(one.y), -1), one.y)
    return float(model.score(one.new.reshape(len(one.y_new), -1), one.y_new)), np.nan


def on_distributions(one: Predicted) -> tuple[float, float]:
    return ordinary(one.own.reshape(len(one.y), -1), one.new.reshape(len(one.y_new), -1), one)


def on_attributes(one: Predicted) -> tuple[float, float]:
    classes = np.arange(one.own.shape[2])
    sides = []
    for probabilities in (one.own, one.new):
        said = (probabilities.argmax(axis=2)[:, :, None] == classes).reshape(len(probabilities), -1)
        sides.append(np.hstack([attributes(probabilities), said]))
    return ordinary(*sides, one)


def ordinary(x: np.ndarray, x_new: np.ndarray, one: Predicted) -> tuple[float, float]:
    """Fit scikit-learn's tree, pruned as much as five folds say."""
    plain = DecisionTreeClassifier(min_samples_leaf=2, random_state=0)
    path = plain.cost_complexity_pruning_path(x, one.y).ccp_alphas
    path = np.maximum(path[np.unique(np.linspace(0, len(path) - 1, PRUNING).round().astype(int))], 0.0)
    right = np.zeros(len(path))
    for train, test in held_out(one.y, "classification", 5, 1):
        for number, alpha in enumerate(path):
            model = DecisionTreeClassifier(min_samples_leaf=2, ccp_alpha=alpha, random_state=0)
            right[number] += (model.fit(x[train], one.y[train]).predict(x[test]) == one.y[test]).sum()
    best = path[np.flatnonzero(right == right.max())[-1]]  # of equals the smallest tree
    model = DecisionTreeClassifier(min_samples_leaf=2, ccp_alpha=best, random_state=0).fit(x, one.y)
    return float(model.score(x_new, one.y_new)), model.get_n_leaves()


METHODS: dict[str, Method] = {
    "meta decision tree, own rows": own,
    "meta decision tree, not pruned": unpruned,
    "voting, plurality": plurality,
    "voting, mean probability": averaged,
    "stacking, ordinary tree on distributions": on_distributions,
    "stacking, ordinary tree on attributes and predictions": on_attributes,
    "stacking, logistic regression": stacked_logistic,
    "selection by cross-validation": selected,
}
LEARNED, ROOT, BEST = (
    "meta decision tree, learned over groups",
    "its root alone: selection with a prior",
    "best base in hindsight",
)


# --- choose and report ----------------------------------------------------------------------------------------------
def choose() -> None:
    """Compare settings on the development half, priors learned within it; the constants of the module are set by hand."""
    read, development = halves()
    read = [one for one, held in zip(read, development, strict=True) if held]
    everywhere = np.ones(len(read), dtype=bool)
    lines = [
        "| share of rows a leaf | price | own rows | leaves | learned over groups | leaves |",
        "|---|---|---|---|---|---|",
    ]
    for settings.SHARE in (0.02, 0.03, 0.05):
        for settings.PRICE in (0.0, 0.1, 0.2, 0.3, 0.5):
            mine = np.array([[own(repeat) for repeat in one] for one in read]).mean(axis=(0, 1))
            prior = with_prior(read, everywhere).mean(axis=(0, 1))
            cells = [f"{settings.SHARE}", f"{settings.PRICE}", f"{mine[0]:.4f}", f"{mine[1]:.2f}"]
            lines.append("| " + " | ".join([*cells, f"{prior[0]:.4f}", f"{prior[1]:.2f}"]) + " |")
            print(lines[-1], flush=True)
    (WORK / "choose.md").write_text("\n".join(lines) + "\n")


def compared(first: np.ndarray, second: np.ndarray) -> str:
    """Win / tie / loss, mean difference, and p, over groups."""
    difference = first - second
    tie = np.abs(difference) <= 1e-3
    p = wilcoxon(difference).pvalue if difference.any() else 1.0
    counts = f"{(difference[~tie] > 0).sum()} / {tie.sum()} / {(difference[~tie] < 0).sum()}"
    return f"{counts} | {difference.mean():+.4f} | {p:.2g}"


def table(accuracy: dict[str, np.ndarray], leaves: dict[str, float]) -> list[str]:
    """Lay one half out: a line a method, the two meta decision trees against each."""
    mine = "meta decision tree, own rows"
    ranked = [name for name in accuracy if name != BEST]
    ranks = rankdata(-np.round([accuracy[name] for name in ranked], 9), axis=0).mean(axis=1)
    rank = dict(zip(ranked, ranks, strict=True))
    lines = [
        "| method | accuracy | mean rank | leaves | learned tree against it | mean | p | own tree against it | mean | p |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted(accuracy, key=lambda name: -accuracy[name].mean()):
        cells = [name, f"{accuracy[name].mean():.4f}", f"{rank[name]:.2f}" if name in rank else "-"]
        cells.append("-" if np.isnan(leaves[name]) else f"{leaves[name]:.1f}")
        cells += [compared(accuracy[one], accuracy[name]) if name != one else "- | - | -" for one in (LEARNED, mine)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def summary(accuracy: dict[str, np.ndarray], leaves: dict[str, float]) -> list[str]:
    """Say what the first table comes to, what falls short first."""
    mean = {name: values.mean() for name, values in accuracy.items()}
    order = sorted(mean, key=lambda name: -mean[name])
    better = [name for name in order[: order.index(LEARNED)] if name != BEST]
    p = wilcoxon(accuracy[LEARNED] - accuracy["voting, plurality"]).pvalue
    splits = mean[LEARNED] - mean[ROOT]
    ordinary_leaves = [leaves[name] for name in mean if "ordinary" in name]
    return [
        f"- Better than the tree learned over groups: {', '.join(f'{name} ({mean[name]:.4f})' for name in better) or 'none'}.",
        f"- A learned tree ({mean[LEARNED]:.4f}) gains {splits:+.4f} by its splits; the prior of its root gains "
        f"{mean[ROOT] - mean['selection by cross-validation']:+.4f} over selection by cross-validation "
        f"({mean['selection by cross-validation']:.4f}).",
        f"- A tree grown on own rows: {mean['meta decision tree, own rows']:.4f}.",
        f"- Voting: {mean['voting, plurality']:.4f} (plurality; p = {p:.2g} against the learned tree) and "
        f"{mean['voting, mean probability']:.4f}.",
        f"- Stacking with an ordinary tree: at most {max(mean[name] for name in mean if 'ordinary' in name):.4f}, with "
        f"{min(ordinary_leaves):.1f} to {max(ordinary_leaves):.1f} leaves; the learned tree has {leaves[LEARNED]:.1f}, the own one "
        f"{leaves['meta decision tree, own rows']:.1f}.",
    ]


def report() -> None:
    """Compare all methods and write the tables."""
    warnings.simplefilter("ignore")
    read, development = halves()
    text = TEXT.format(groups=len(read), reported=int((~development).sum()), development=int(development.sum())).split(
        "\n"
    )
    for title, at in (
        ("The half that was not used to choose settings", ~development),
        ("The development half", development),
    ):
        some = [one for one, held in zip(read, at, strict=True) if held]
        both: dict[str, np.ndarray] = {}
        for name, method in {**METHODS, BEST: hindsight}.items():
            both[name] = np.array([[method(repeat) for repeat in one] for one in some]).mean(axis=1)
            print(title, name, both[name].mean(axis=0), flush=True)
        prior = with_prior(read, at).mean(axis=1)
        both[LEARNED], both[ROOT] = prior[:, :2], np.stack([prior[:, 2], np.ones(len(prior))], axis=1)
        accuracy = {name: values[:, 0] for name, values in both.items()}
        alone = np.array([[repeat.right.mean(axis=0) for repeat in one] for one in some]).mean(axis=(0, 1))
        text += [f"## {title} ({len(some)} groups)", ""]
        leaves = {name: float(values[:, 1].mean()) for name, values in both.items()}
        text += [*table(accuracy, leaves), "", *summary(accuracy, leaves)]
        text += [
            "",
            "Base classifiers: " + ", ".join(f"{n} {a:.4f}" for n, a in zip(NAMES, alone, strict=True)) + ".",
            "",
        ]
    text += [
        "## The tree that all groups give",
        "",
        "```",
        tree_over([one[0] for one in read]).export_text(),
        "```",
        "",
    ]
    chosen = WORK / "choose.md"
    if chosen.exists():
        text += ["## Settings on the development half", "", *chosen.read_text().splitlines(), ""]
    (HERE / "meta_trees.md").write_text("\n".join(text))


TEXT = """# Meta decision trees on real data sets

Accuracy on the 40 % of the rows that were not fitted, the mean of three divisions; {groups} groups of data sets, one data set
of each, at most 1,000 rows. Five base classifiers; every method has the same predictions of them, for rows to fit by five
folds. Settings of meta decision trees (rows of a leaf, price of a leaf, see `upstairs/outer/meta_tree.py`) were chosen on
{development} groups; the other {reported} are reported first. Learned over groups: the tree and the counts of its leaves come
from the groups of the nine other folds of ten, the counts are updated by the data set's own rows. Its root alone has no split:
the base classifier with the most right predictions, those expected after other groups included. Not pruned: two rows a leaf.
On the development half (the last table, where the prior comes from that half only) a price of .5 did .0003 to .0009 better
than .3, at which trees hardly split. That is within the noise: with 5, 7 or 10 folds of groups the learned tree has .8298,
.8290 or .8281 there at .3, which was chosen by the first of these. A third attribute (how likely the other base classifiers
hold the predicted class), priors of leaves that move with the root, and pruning by what tasks gain did no better on that half.

Stacking with an ordinary tree: scikit-learn's `DecisionTreeClassifier` (Gini, two rows a leaf) that predicts the class, pruned
by cost complexity with the strength that five folds say is best, of equals the strongest; from all class probabilities of all
base classifiers, or from the attributes that meta decision trees see (largest probability, entropy) and the predicted classes.
Stacking with logistic regression: from all class probabilities, C = 1. Ties in a plurality go to the larger mean probability.

Win / tie / loss count groups (a tie is a difference of at most .001); p is Wilcoxon's signed-rank test over groups, two-sided
and not adjusted. Mean ranks leave out the best base classifier in hindsight, which no method can know.
"""
STEPS = {"predict": predict, "choose": choose, "report": report}

if __name__ == "__main__":
    for step in sys.argv[1:] or ["report"]:
        STEPS[step]()
