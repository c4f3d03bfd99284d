"""Regret of portfolios and recommendation on stored tables: every data set is left out once.

    python benchmarks/portfolios.py

Data: ``hpo`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). The SVM grid has the accuracy of 288 settings
on 50 data sets; AdaBoost has 400 settings on each of 100 data sets, others on each. Writes ``portfolios.md`` beside
itself.
"""

from __future__ import annotations

import os
import pathlib
from collections import Counter

import numpy as np
import pandas as pd

import upstairs as up
from upstairs.outer.portfolio import greedy
from upstairs.outer.recommend import Recommender, chosen
from upstairs.outer.surrogate import coordinates

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "hpo"
SVM_TRIALS, ADA_TRIALS = (1, 3, 5, 10), (2, 4, 8)


def svm_grid() -> list[str]:
    """Recommend trial after trial in the light of the outcomes; all choices are made without the left-out data set."""
    stored = np.load(DATA / "svm_grid_50x288.npz")
    names = ("kernel", "C", "gamma", "degree")
    settings = [
        {name: stored[name][n].item() for name in names if stored[name][n] == stored[name][n]} for n in range(288)
    ]
    table = up.Experience(
        settings, stored["datasets"].tolist(), {"accuracy": stored["accuracy"]}, features=stored["metafeatures"]
    )
    regret = {way: np.zeros((50, 10)) for way in ("recommendation", "greedy portfolio", "random")}
    forms: Counter[str] = Counter()
    for row, name in enumerate(table.names):
        rest = table.without([name])
        choice = chosen(rest, default=None)
        forms[f"{choice.form}, {choice.outcomes}"] += 1
        known, tried = Recommender.learn(rest, choice.form, choice.outcomes), {}
        for trial in range(10):
            pick = known.order(table.features[row], 1, tried)[0]
            tried[pick] = float(table.score[row, pick])
            regret["recommendation"][row, trial] = table.regrets[row, list(tried)].min()
        order = greedy(rest.losses, 10)
        regret["greedy portfolio"][row] = np.minimum.accumulate(table.regrets[row, order])
        rng = np.random.default_rng(row)
        draws = np.stack([rng.choice(table.regrets[row], 10, replace=False) for _ in range(2000)])
        regret["random"][row] = np.minimum.accumulate(draws, axis=1).mean(axis=0)
    lines = [
        "## SVM grid, 50 data sets x 288 settings, mean regret in accuracy (standard error over data sets)",
        "",
        "| | " + " | ".join(f"after {n}" for n in SVM_TRIALS) + " |",
        "|---|" + "---|" * len(SVM_TRIALS),
    ]
    for way, found in regret.items():
        cells = [f"{found[:, n - 1].mean():.4f} ({found[:, n - 1].std(ddof=1) / 50**0.5:.4f})" for n in SVM_TRIALS]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    said = "; ".join(f"{form}: {count}" for form, count in forms.most_common())
    return [*lines, "", f"Forms that were chosen on the other 49: {said}.", ""]


def adaboost() -> list[str]:
    """Build portfolios from the trials of 99 data sets; each setting counts as the nearest real trial of the left-out one."""
    log = pd.read_csv(DATA / "openml100_adaboost.csv.gz")
    columns = [name for name in log.columns if name not in ("task_id", "predictive_accuracy")]
    log["task_id"] = log["task_id"].astype(str)
    found = []
    for seed in range(3):
        table = up.Experience.from_trials(
            log, task="task_id", score="predictive_accuracy", measure="accuracy", random_state=seed
        )
        tried = [dict(zip(columns, row, strict=True)) for row in log[columns].to_numpy().tolist()]
        places = coordinates([*tried, *table.settings])
        own, common = places[: len(tried)], places[len(tried) :]
        after = np.zeros((len(table), 8))
        for row, name in enumerate(table.names):
            order = greedy(table.without([name]).losses, 8)
            rows = np.flatnonzero(log["task_id"] == name)
            real = log["predictive_accuracy"].to_numpy()[rows]
            apart = ((common[order][:, None] - own[rows][None]) ** 2).sum(axis=-1)
            after[row] = real.max() - np.maximum.accumulate(real[apart.argmin(axis=1)])
        found.append(after.mean(axis=0))
    rng = np.random.default_rng(0)
    random = np.zeros(8)
    for _, part in log.groupby("task_id"):
        real = part["predictive_accuracy"].to_numpy()
        draws = np.stack([rng.choice(real, 8, replace=False) for _ in range(2000)])
        random += (real.max() - np.maximum.accumulate(draws, axis=1).mean(axis=0)) / 100
    lines = [
        "## AdaBoost, 100 data sets x 400 settings, mean regret in accuracy",
        "",
        "| settings | portfolio (3 draws of 1,000 candidates) | random | ratio |",
        "|---|---|---|---|",
    ]
    for size in ADA_TRIALS:
        values = [after[size - 1] for after in found]
        spread = f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
        lines.append(f"| {size} | {spread} | {random[size - 1]:.4f} | {np.mean(values) / random[size - 1]:.2f} |")
    return [*lines, ""]


if __name__ == "__main__":
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} does not exist; set UPSTAIRS_DATA to the folder that holds the data.")
    text = ["# Portfolios and recommendation on stored tables, each data set left out", "", *svm_grid(), *adaboost()]
    (HERE / "portfolios.md").write_text("\n".join(text))
    print("\n".join(text))
