"""Time to fill a table of 100 data sets x 50 decision trees: by size, by processes, again, and to recommend from it.

    python benchmarks/filling.py

Data: ``tabular_clf`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``), at most 2,000 rows of a data set.
Writes ``filling.md`` beside itself.
"""

from __future__ import annotations

import pathlib
import tempfile
import time
from typing import Any

import numpy as np
from recommended import data_sets

import upstairs as up
from upstairs.learners.catalogue import known, made
from upstairs.outer.filling import fill
from upstairs.outer.journal import Journal
from upstairs.outer.sampled import sampled_settings
from upstairs.outer.trials import Trials
from upstairs.tasks.fingerprint import fingerprint

HERE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    """Fill, time and write."""
    tasks = [task for task in data_sets("classification") if len(task) >= 200][:100]
    prints = [fingerprint(task.X, task.y) for task in tasks]
    base = made("decision-tree", "classification")
    settings = sampled_settings(known("decision-tree").distributions("classification"), 50, 0, base)[:50]
    trials = Trials(base, 3, 0, 2000)

    def seconds(some: int, columns: int, workers: int, path: Any = None) -> float:
        start = time.perf_counter()
        with Journal(path, trials.plan) as journal:
            fill(trials, tasks[:some], prints[:some], settings[:columns], journal, n_jobs=workers, seconds=60)
        return time.perf_counter() - start

    seconds(10, 10, 2)  # files are in memory from here on
    rows = [("50 x 50", 2, seconds(50, 50, 2)), ("100 x 25", 2, seconds(100, 25, 2))]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "trials.jsonl"
        rows.append(("100 x 50", 2, seconds(100, 50, 2, path)))
        rows.append(("100 x 50, again", 2, seconds(100, 50, 2, path)))
    rows.append(("100 x 50", 1, seconds(100, 50, 1)))
    one, two = rows[-1][2], rows[2][2]
    tuner = up.MetaTuner("decision-tree", settings[1:], cv=3, max_rows=2000, n_jobs=2).meta_fit(tasks)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10_000, 50)), rng.integers(0, 3, 10_000).astype(str)
    took = []
    for _ in range(11):
        start = time.perf_counter()
        tuner.recommend(X, y)
        took.append(time.perf_counter() - start)
    lines = [
        "# Filling a table of decision trees (three folds) on real data sets",
        "",
        "| data sets x settings | processes | seconds |",
        "|---|---|---|",
        *(f"| {size} | {workers} | {value:.2f} |" for size, workers, value in rows),
        "",
        f"Two processes are {one / two:.2f} times as fast as one (each starts in about a second). `recommend` on 10,000 rows of 50",
        f"columns: {1000 * np.median(took):.0f} ms (median of {len(took)}; {1000 * min(took):.0f} to {1000 * max(took):.0f}).",
        "",
    ]
    (HERE / "filling.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
