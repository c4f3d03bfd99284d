"""Real tasks one after another: does the prior of OnlineMetaLearner get better by what it meets?

    python benchmarks/stream_tasks.py [school_ilea insteval] [--orders 3]

Tasks come in random order, borders known. The prior is learned on the first ten tasks; then every task is predicted row by row,
each row learned after it was predicted. Reported are squared errors (of the target in deviations) of the first five rows of
each task, over all tasks that follow. "Prior stays": the same without growing. "Pooled": ridge regression of all rows so far,
of whatever task, with a level for the task (its mean residual, shrunk by a tenth of the rows' noise to one). "Task alone": ridge
regression of the task's rows so far. Slope: change of the error in a hundred tasks, by least squares over tasks, with its
standard error; the mean over orders with its 95 % interval over orders, each of which puts the tasks at other places. In random
order the errors of a prior that stays have no slope on average, so that "growing less staying" has the slope of the errors
themselves on average, without most of the noise of which task came when. Data:
``task_families`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). Writes ``stream_tasks.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings
from typing import Any

import numpy as np
from scipy.stats import t
from tree_families import load

import upstairs as up
from upstairs.tasks import TaskSet
from upstairs.tasks.encoder import Encoder

HERE = pathlib.Path(__file__).resolve().parent
START, FIRST, MOST_ROWS = 10, 5, 60


class Pooled:
    """Ridge regression by sums over all rows, and a shrunken level of the task."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.gram, self.side = encoder, np.eye(1 + encoder.width), np.zeros(1 + encoder.width)
        self.residuals: list[float] = []

    def columns(self, X: Any) -> np.ndarray:
        x = self.encoder.encode(X)
        return np.column_stack([np.ones(len(x)), x])

    def predict(self, X: Any) -> np.ndarray:
        level = sum(self.residuals) / (len(self.residuals) + 1.0) if self.residuals else 0.0
        return self.columns(X) @ np.linalg.solve(self.gram, self.side) + level

    def learn(self, X: Any, y: np.ndarray) -> None:
        phi = self.columns(X)
        self.residuals += (y - phi @ np.linalg.solve(self.gram, self.side)).tolist()
        self.gram += phi.T @ phi
        self.side += phi.T @ y


def run(family: str, seed: int) -> tuple[dict[str, np.ndarray], float]:
    """Errors of the first rows of every task, and rows a second of the growing learner."""
    tasks = list(load(family))
    order = np.random.default_rng(seed).permutation(len(tasks))
    tasks = [tasks[number] for number in order if len(tasks[number]) > FIRST]
    start, rest = TaskSet(tasks[:START]), tasks[START:]
    y = np.concatenate([task.y for task in start])
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, shots=(1, 10)).meta_fit(start)
    encoder = Encoder.from_spec(meta.prior_.settings["encoder"])
    learners: dict[str, Any] = {
        "OnlineMetaLearner": up.OnlineMetaLearner(meta, memory=1, reservoir=len(tasks)),
        "prior stays": up.OnlineMetaLearner(meta.learner(), memory=1),
    }
    pooled = Pooled(encoder)
    for task in start:
        pooled.residuals = []
        pooled.learn(task.X, task.y)
    found: dict[str, list[float]] = {name: [] for name in (*learners, "pooled", "task alone")}
    seconds, rows = 0.0, 0
    for number, task in enumerate(rest):
        shuffled = task.take(np.random.default_rng([seed, number]).permutation(len(task))[:MOST_ROWS])
        parts = [shuffled.take(np.array([row])) for row in range(FIRST)]
        later = shuffled.take(np.arange(FIRST, len(shuffled)))
        for name, learner in learners.items():
            begun, errors = time.perf_counter(), []
            for place, part in enumerate(parts):
                if place == 0:  # tells the learner that a new task begins, before its first row
                    learner.partial_fit(part.X, [np.nan], world=1 + number)
                errors.append(float((learner.predict(part.X)[0] - part.y[0]) ** 2))
                learner.partial_fit(part.X, part.y, world=1 + number)
            learner.partial_fit(later.X, later.y, world=1 + number)
            found[name].append(np.mean(errors))
            if name == "OnlineMetaLearner":
                seconds, rows = seconds + time.perf_counter() - begun, rows + len(shuffled)
        pooled.residuals = []
        own, alone = [], []
        for place, part in enumerate(parts):
            own.append(float((pooled.predict(part.X)[0] - part.y[0]) ** 2))
            pooled.learn(part.X, part.y)
            so_far = shuffled.take(np.arange(place))
            said = up.PriorNeuralNetworkRegressor().fit(so_far.X, so_far.y).predict(part.X)[0] if place else y.mean()
            alone.append(float((said - part.y[0]) ** 2))
        pooled.learn(later.X, later.y)
        found["pooled"].append(np.mean(own))
        found["task alone"].append(np.mean(alone))
    scale = np.concatenate([task.y for task in tasks]).var()
    return {name: np.array(values) / scale for name, values in found.items()}, rows / seconds


def slope(values: np.ndarray) -> tuple[float, float]:
    """Change in a hundred tasks, and its standard error."""
    at = np.arange(len(values)) / 100.0
    centred = at - at.mean()
    change = float(centred @ values / (centred @ centred))
    left = values - values.mean() - change * centred
    return change, float(np.sqrt(left @ left / (len(values) - 2) / (centred @ centred)))


def over_orders(runs: Any) -> str:
    """Mean slope over orders of the tasks, with its interval."""
    each = np.array([slope(values)[0] for values in runs])
    wide = t.ppf(0.975, max(len(each) - 1, 1)) * each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan
    return f"{each.mean():+.4f}, 95 % interval +- {wide:.4f}"


def listed(slopes: list[tuple[float, float]], digits: int) -> str:
    """Slopes and standard errors of a few orders, or the range and the mean error of many."""
    if len(slopes) <= 5:
        return ", ".join(f"{value:+.{digits}f} +- {error:.{digits}f}" for value, error in slopes)
    values, errors = np.array(slopes).T
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{low:+.{digits}f}, {middle:+.{digits}f}, {high:+.{digits}f} (10 %, median, 90 %); each +- {errors.mean():.{digits}f}"


def section(family: str, orders: int) -> list[str]:
    """Describe one family."""
    runs = [run(family, seed) for seed in range(orders)]
    count = len(next(iter(runs[0][0].values())))
    lines = [f"## {family}: {count} tasks after the first {START}, {orders} orders", ""]
    lines += ["| | all | first tenth | last half | slope in 100 tasks, every order |", "|---|---|---|---|---|"]
    for name in runs[0][0]:
        each = np.stack([found[name] for found, _ in runs])
        slopes = listed([slope(values) for values in each], 3)
        tenth = max(count // 10, 1)
        cells = [f"{each.mean():.3f}", f"{each[:, :tenth].mean():.3f}", f"{each[:, count // 2 :].mean():.3f}", slopes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in ("OnlineMetaLearner", "pooled"):
        lines += ["", f"{name}: mean slope over orders {over_orders([found[name] for found, _ in runs])}."]
    both = np.stack([found["OnlineMetaLearner"] - found["prior stays"] for found, _ in runs])
    slopes = listed([slope(values) for values in both], 4)
    lines += [
        "",
        f"Growing less staying, paired: {both.mean():+.3f}; slope {slopes}; mean over orders {over_orders(both)}.",
    ]
    return [*lines, f"{np.median([speed for _, speed in runs]):,.0f} rows a second, growing included.", ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*", default=[])
    parser.add_argument("--orders", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    title = "# Real tasks one after another: squared error of the first five rows of each"
    page = HERE / "stream_tasks.md"
    old = page.read_text().split("\n## ")[1:] if page.exists() else []
    parts = {text.split(":")[0]: f"## {text}" for text in old}
    for family in options.families or ["school_ilea", "insteval"]:
        parts[family] = "\n".join(section(family, options.orders))
        print(parts[family], flush=True)
        page.write_text("\n\n".join([title, *(part.strip() for part in parts.values())]) + "\n")


if __name__ == "__main__":
    main()
