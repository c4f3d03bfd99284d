"""Seconds of one fit with the settings that ship, of scikit-learn's default and of a grid search, side by side in one run.

    OMP_NUM_THREADS=1 python benchmarks/svm_speed.py

Data sets and rows are those of `benchmarks/svm_tabular.py`, which says how good the fits are. Our fit takes the columns as they
are: encoding, a description of the data set, the choice of settings and the machine are all within its time; the others get
rows that are encoded already. On every data set the grid search runs once, between the rounds of the short fits, of which the
median counts; all on one core. Writes ``svm_speed.md`` beside itself.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from recommended import ROWS, SHARE, data_sets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC
from svm_tabular import KINDS, codes, grid, plain

import upstairs as up
from upstairs.outer.trials import Trials, _thinned, held_out
from upstairs.tasks import Task

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS = 4
OURS, GRID, CALIBRATED = "one fit, shipped settings", "grid search", "default, calibrated by cross-validation"


def seconds(fit: Callable[[], Any]) -> float:
    """Time a fit; one that scikit-learn gives up (a class with fewer rows than folds) counts for as long as it took."""
    start = time.perf_counter()
    with contextlib.suppress(ValueError):
        fit()
    return time.perf_counter() - start


def timed(kind: str, task: Task) -> dict[str, float]:
    """Seconds of every fit on the rows of one data set."""
    rows = Trials(plain(kind), SHARE, 0, ROWS).folds(task)[0]
    thin = _thinned(task, ROWS, 0)
    ((train, _),) = held_out(thin.y, kind, SHARE, 0)
    part = thin.take(train)
    y = codes(thin, part)
    ours = up.PriorSVC if kind == "classification" else up.PriorSVR
    short = {
        OURS: lambda: ours(prior="tabular").fit(part.X, y),
        "default": lambda: plain(kind).fit(rows.x, rows.y),
    }
    if kind == "classification":
        calibrated = CalibratedClassifierCV(SVC(), method="sigmoid", ensemble=False)
        short[CALIBRATED] = lambda: calibrated.fit(rows.x, rows.y)
    found: dict[str, list[float]] = {name: [] for name in short}
    for number in range(ROUNDS):
        if number == ROUNDS // 2:
            searched = seconds(lambda: grid(kind, rows).fit(rows.x, rows.y))
        for name, fit in short.items():
            found[name].append(seconds(fit))
    return {name: float(np.median(values)) for name, values in found.items()} | {GRID: searched}


def main() -> None:
    warnings.simplefilter("ignore")
    lines = ["# Seconds of one fit with shipped settings, and of grid search", "", (__doc__ or "").split("\n\n")[2], ""]
    for kind in KINDS:
        tasks = list(data_sets(kind).canonical())
        timed(kind, tasks[0])  # reads the prior, once in a process
        each = [timed(kind, task) for task in tasks]
        columns = {name: np.array([found[name] for found in each]) for name in each[0]}
        lines += [f"## {kind}: {len(tasks)} data sets", ""]
        lines += ["| | median seconds | 10 % to 90 % | grid search takes so many times longer: median | 10 % to 90 % |"]
        lines += ["|---|---|---|---|---|"]
        for name, values in columns.items():
            low, high = np.quantile(values, [0.1, 0.9])
            cells = [f"{np.median(values):.4f}", f"{low:.4f} to {high:.4f}"]
            ratio = columns[GRID] / values
            few, many = np.quantile(ratio, [0.1, 0.9])
            cells += [f"{np.median(ratio):.1f}", f"{few:.1f} to {many:.1f}"] if name != GRID else ["", ""]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        ratio = np.median(columns[GRID]) / np.median(columns[OURS])
        lines += ["", f"Median time of grid search over median time of one fit: {ratio:.1f}.", ""]
        (HERE / "svm_speed.md").write_text("\n".join(lines))
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
