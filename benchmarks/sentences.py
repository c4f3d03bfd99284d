"""Frozen sentence embeddings: HuffPost with new classes, CLINC150 with new domains; "auto" beside plain methods.

    UPSTAIRS_DATA=... python benchmarks/sentences.py [--episodes 600] [--seeds 3]

MiniLM embeddings, 128 dimensions, as they are. HuffPost: classes 0 to 19 train, 20 to 24 validate, 25 to 40 test, 5 ways. CLINC150:
a domain is a task with labels of its own, 7 of 10 domains train and 3 test, episodes of 5 ways within one domain; a seed
draws domains, episodes and folds of the choice. Every method meets the same frozen episodes. Writes ``sentences.md`` beside itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import upstairs as up

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "text"
SHOTS, WAYS, QUERIES, TEST_DOMAINS = (1, 5), 5, 15, 3


def load(name: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Embeddings and the table that they belong to."""
    file = np.load(DATA / f"minilm128_{name}.npz", allow_pickle=False)
    table = pd.read_csv(DATA / f"{name}.csv.gz", keep_default_na=False, na_values=[""])
    rows = file["rows"] if "rows" in file else np.arange(len(table))
    return file["x"] * float(file["scale"]), table.iloc[rows].reset_index(drop=True)


def huffpost() -> tuple[up.ClassPool, up.ClassPool, up.ClassPool]:
    """Training, validation and test classes."""
    x, table = load("huffpost")
    number = table["label"].str.split("_").str[0].astype(int).to_numpy()
    pools = []
    for first, last in ((0, 19), (20, 24), (25, 40)):
        rows = (number >= first) & (number <= last)
        pools.append(up.ClassPool(x[rows], table["label"].to_numpy()[rows]))
    return pools[0], pools[1], pools[2]


def clinc(seed: int) -> tuple[up.TaskSet, up.TaskSet]:
    """Training and test domains."""
    x, table = load("clinc150")
    domain = table["domain"].to_numpy()
    names = np.random.default_rng(seed).permutation(np.unique(domain[domain != "oos"]))
    tasks = [
        up.Task(x[domain == n], table["label"].to_numpy()[domain == n], name=n, kind="classification") for n in names
    ]
    return up.TaskSet(tasks[TEST_DOMAINS:], labels="own"), up.TaskSet(tasks[:TEST_DOMAINS], labels="own")


def measure(train: Any, validation: Any, test: Any, episodes: int, seed: int) -> dict[str, Any]:
    """Accuracies, paired differences to the nearest prototype, and what was chosen."""
    begun = time.perf_counter()
    meta = up.MetaNeuralNetwork(random_state=seed).meta_fit(train, validation=validation)
    seconds = time.perf_counter() - begun
    guarded = up.MetaNeuralNetwork(random_state=seed, guard=True).meta_fit(train, validation=validation)
    learners = {"auto": meta, "auto, guard": guarded, "own logistic regression": LogisticRegression(max_iter=1000)}
    found: dict[str, Any] = {"seconds": seconds, "choice": meta.prior_.settings["choice"], "cells": {}, "gain": {}}
    for shots in SHOTS:
        result = up.evaluate(
            learners,
            test,
            shots=[shots],
            ways=WAYS,
            queries=QUERIES,
            draws=episodes,
            baselines=["nearest prototype"],
            random_state=seed,
        )
        for row in result.table(shots, "accuracy"):
            found["cells"][row.learner, shots] = (100 * row.mean, 50 * (row.high - row.low))
        sys.stdout.write(
            f"seed {seed}, {shots} shots: { {k: v for k, v in found['cells'].items() if k[1] == shots} }\n"
        )
        sys.stdout.flush()
    return found


def table(title: str, runs: list[dict[str, Any]]) -> list[str]:
    """One line a method: mean over seeds, mean half width of the intervals over episodes, range over seeds."""
    lines = [
        f"## {title}",
        "",
        "| | " + " | ".join(f"{WAYS}-way {shots}-shot" for shots in SHOTS) + " |",
        "|---|---|---|",
    ]
    names = {name for name, _ in runs[0]["cells"]}
    for name in sorted(names, key=lambda name: np.mean([run["cells"][name, SHOTS[0]][0] for run in runs])):
        cells = []
        for shots in SHOTS:
            mean, half = (np.array([run["cells"][name, shots][part] for run in runs]) for part in (0, 1))
            gap = mean - np.array([run["cells"]["nearest prototype", shots][0] for run in runs])
            more = (
                ""
                if name == "nearest prototype"
                else f"; to prototype {gap.mean():+.2f} ({gap.min():+.2f} to {gap.max():+.2f})"
            )
            cells.append(f"{mean.mean():.2f} +- {half.mean():.2f}{more}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    seconds = [run["seconds"] for run in runs]
    return [
        *lines,
        "",
        f"Learning takes {min(seconds):.1f} to {max(seconds):.1f} s.",
        "",
        *(f"- seed {seed}: {run['choice']}." for seed, run in enumerate(runs)),
        "",
    ]


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    train, validation, test = huffpost()
    news = [measure(train, validation, test, options.episodes, seed) for seed in range(options.seeds)]
    intents = []
    for seed in range(options.seeds):
        known, new = clinc(seed)
        intents.append(measure(known, None, new, -(-options.episodes // TEST_DOMAINS), seed))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines = [
        "# Frozen sentence embeddings",
        "",
        f"{options.episodes} frozen episodes a seed, {QUERIES} query rows a class, accuracy in percent: mean over "
        f"{options.seeds} seeds +- half of the 95 % interval (over episodes on HuffPost, over the {TEST_DOMAINS} test domains on "
        "CLINC150; mean over seeds), and the difference to the nearest prototype on the same episodes (range over seeds). A seed "
        "draws the folds of the choice, the episodes and, on CLINC150, the domains; nothing else is random.",
        "",
        *table("HuffPost, classes 25 to 40", news),
        *table("CLINC150, new domains, within one domain", intents),
        f"Peak memory of the whole run {memory:.1f} GB.",
    ]
    (HERE / "sentences.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
