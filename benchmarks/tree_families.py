"""MetaDecisionTree on real families of tasks with the same columns, beside other trees and the plain methods, on the same episodes.

    python benchmarks/tree_families.py [family ...] [--splits 5] [--only-trees]

Each split holds a quarter of the tasks out; default settings. "Own tree": scikit-learn's, on the support alone; "tuned tree"
(classes): its depth and leaf size by a grid search on the support for the log loss; "pooled tree": on the rows of all training
tasks, its size chosen by cross-validation over tasks; "pooled boosting + offset": scikit-learn's boosting on those rows, moved
by the shrunken mean residual of the support ("pooled + offset" takes a linear model instead where that is better). Data:
``task_families`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). Writes ``tree_families.md`` beside itself, one
section a family, which stays if other families are run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import upstairs as up
from upstairs.learners.baseline_mathematics import variance_components
from upstairs.learners.baseline_models import Baseline, ClassModel, PointModel, Situated
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "task_families"
REGRESSION = ["computer_survey", "school_ilea", "parkinsons_updrs", "exam_london65", "bdf_language", "insteval"]
SHOTS = {"landmine": [20, 40, 80, 160], "contraception_bd": [10, 20], "computer_survey": [5, 15]}
"""Support rows; a task of computer_survey has 20 rows in all."""
LEARNER, LINEAR, OWN, TUNED, POOLED = (
    "MetaDecisionTree",
    "linear Gaussian prior",
    "own tree",
    "tuned tree",
    "pooled tree",
)
BOOSTED = "pooled boosting + offset"
LEAST_PROBABILITY = 1e-3
"""Of a class by a plain tree, without which its log loss has no end."""
GRID = {"max_depth": [1, 3, 8], "min_samples_leaf": [1, 3, 8]}
POOLED_GRID = {"max_leaf_nodes": [4, 8, 16, 32, 64, 128], "min_samples_leaf": [5, 20, 50]}


@dataclass(frozen=True)
class Tree(Baseline):
    """A plain tree: on the support alone, tuned there, or on the rows of all training tasks."""

    how: str = OWN
    encoder: Encoder | None = None
    model: Any = None
    variances: tuple[float, float] = (1.0, 0.0)
    name: ClassVar[str] = "tree"
    one_class: ClassVar[bool] = True

    def meta_fit(self, train: Any) -> Tree:
        """Take over the encoder, and fit the pooled tree."""
        listed = list(train.canonical())
        columns = concatenate_columns(listed)
        encoder = Encoder.fit(columns)
        if self.how in (OWN, TUNED):
            return replace(self, encoder=encoder)
        groups = np.repeat(np.arange(len(listed)), [len(task) for task in listed])
        y = np.concatenate([task.y for task in listed])
        folds = list(GroupKFold(5).split(groups, y, groups))
        if self.how == BOOSTED:
            x, boosting = encoder.encode(columns), HistGradientBoostingRegressor(random_state=0)
            residual = y - cross_val_predict(boosting, x, y, cv=folds)
            variances = variance_components([residual[groups == task] for task in range(len(listed))])
            return replace(self, encoder=encoder, model=boosting.fit(x, y), variances=variances)
        search = GridSearchCV(self.tree(), POOLED_GRID, scoring=self.scoring, cv=folds)
        return replace(self, encoder=encoder, model=search.fit(encoder.encode(columns), y).best_estimator_)

    def tree(self) -> Any:
        """Make scikit-learn's tree."""
        cls = DecisionTreeRegressor if self.at.kind == "regression" else DecisionTreeClassifier
        return cls(random_state=0)

    @property
    def scoring(self) -> str:
        """What a search goes by."""
        return "neg_mean_squared_error" if self.at.kind == "regression" else "neg_log_loss"

    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        assert self.encoder is not None
        encoder, model = self.encoder, self.model
        if model is None and self.at.kind == "classification" and len(np.unique(y)) < 2:
            return self._constant(y, "one class in the support")
        if model is None:
            model = self.tree()
            if self.how == TUNED:
                rarest = np.unique(y, return_counts=True)[1].min() if self.at.kind == "classification" else len(y)
                count = int(min(3, rarest))
                if count > 1:
                    folds = (KFold if self.at.kind == "regression" else StratifiedKFold)(
                        count, shuffle=True, random_state=0
                    )
                    model = GridSearchCV(model, GRID, scoring=self.scoring, cv=folds)
            model.fit(encoder.encode(X), y)
        if self.how == BOOSTED:
            within, between = self.variances
            weight = len(y) * between / (len(y) * between + within)
            shift = weight * float((y - model.predict(encoder.encode(X))).mean())
            return PointModel(lambda new: model.predict(encoder.encode(new)) + shift)
        if self.at.kind == "regression":
            return PointModel(lambda new: model.predict(encoder.encode(new)))
        place = np.searchsorted(model.classes_, np.array(self.at.classes))

        def logits(new: Any) -> np.ndarray:
            return np.log(np.maximum(model.predict_proba(encoder.encode(new))[:, place], LEAST_PROBABILITY))

        return ClassModel(np.array(self.at.classes), logits)


def load(family: str) -> up.TaskSet:
    frame = pd.read_csv(DATA / f"{family}.csv.gz", keep_default_na=False, na_values=[""])
    kind = "regression" if family in REGRESSION else "classification"
    return up.TaskSet.from_frame(frame, task="task", target="target", kind=kind)


def measure(family: str, split: int, only_trees: bool) -> tuple[up.EvaluationResult, str, float]:
    """One split: the result, why the form was chosen, and the seconds of learning."""
    train, _, test = load(family).split(valid=0, test=0.25, random_state=split)
    shots = SHOTS.get(family, [5, 20])
    start = time.time()
    meta = up.MetaDecisionTree(shots=(min(shots), max(shots)), random_state=split).meta_fit(train)
    seconds = time.time() - start
    at = Situated(str(train.kind), train.labels, tuple(train.classes))
    others = (OWN, POOLED, BOOSTED) if train.kind == "regression" else (OWN, TUNED, POOLED)
    learners = {LEARNER: meta} | {how: Tree(at, how) for how in others}
    baselines = ["pooled", "pooled + offset", LINEAR] if train.kind == "regression" else ["pooled", "pooled + offset"]
    result = up.evaluate(
        learners,
        test,
        train=train,
        shots=shots,
        queries=None,
        draws=1 if family == "insteval" else 3,
        baselines=None if only_trees else baselines,
        random_state=split,
    )
    return result, meta.prior_.settings["choice"], seconds


def section(family: str, splits: int, only_trees: bool) -> str:
    """Measure one family and describe it."""
    runs = [measure(family, split, only_trees) for split in range(splits)]
    lines = [f"## {family}, {splits} splits, {np.mean([run[2] for run in runs]):.1f} s to learn", ""]
    metrics = ["mse"] if family in REGRESSION else ["auc", "log_loss"]
    for shot in runs[0][0].shots:
        for metric in metrics:
            means = [{row.learner: row.mean for row in result.table(shot, metric)} for result, _, _ in runs]
            names = [name for name in means[0] if all(name in each for each in means)]
            lines += [
                f"{shot} rows, {metric}",
                "",
                f"| | {metric} (mean and deviation over splits) | every split |",
                "|---|---|---|",
            ]
            for name in sorted(
                names, key=lambda name: np.mean([each[name] for each in means]), reverse=metric == "auc"
            ):
                values = [each[name] for each in means]
                lines.append(
                    f"| {name} | {np.mean(values):.4f} +- {np.std(values):.4f} | {', '.join(f'{v:.3f}' for v in values)} |"
                )
            if metric == "mse":
                said = []
                for other in (OWN, POOLED, BOOSTED, "pooled + offset", LINEAR):
                    if other in names:
                        ratios = [each[LEARNER] / each[other] for each in means]
                        said.append(f"{np.mean(ratios):.3f} of {other} ({min(ratios):.3f} to {max(ratios):.3f})")
                lines += ["", "Error of the tree with a prior: " + "; ".join(said) + "."]
            lines.append("")
    return "\n".join(lines + [f"- split {number}: {why}" for number, (_, why, _) in enumerate(runs)] + [""])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*", default=[])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--only-trees", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    every = [*REGRESSION, *(family for family in SHOTS if family not in REGRESSION)]
    out = HERE / "tree_families.md"
    old = out.read_text() if out.exists() else ""
    known = {part.split(",")[0]: f"## {part}" for part in re.split(r"^## ", old, flags=re.MULTILINE)[1:]}
    for family in options.families or every:
        known[family] = section(family, options.splits, options.only_trees)
        print(known[family], flush=True)
        text = [
            "# MetaDecisionTree on tasks with the same columns",
            "",
            *(known[name] for name in every if name in known),
        ]
        out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
