"""Worlds that change and come back: how soon OnlineMetaLearner is back, how often it is mistaken, and how late it is.

    python benchmarks/stream_worlds.py [--seeds 10]

Recurring worlds: four linear tasks of one family take turns, 4 first meetings and 10 recurrences of 300 rows each; nobody says
where the borders are. "Reset": told the borders, starts again at each, from the prior or from nothing (ridge regression of
the rows since); "never": one learner of all rows. Error at k rows after a recurrence is the mean over seeds and
recurrences; "back" is where the mean of 30 rows is first within 5 % of the stationary error, which is that of the reset
learner with the prior over the last 100 rows of a stretch. False alarms: streams of one world. Delay: two classes, a rule that
is right with probability .8 turns by 60 degrees, so that who goes on with the old one errs with .4 and no longer .2; alarms of
that prior where nothing changes are counted too. How strongly likelihoods count and the hazard were set on other streams. The
prior is learned on 60 other tasks of 30 rows. Writes ``stream_worlds.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings
from typing import Any

import numpy as np

import upstairs as up
from upstairs.online.detection import judge_changes
from upstairs.online.metrics import rows_back
from upstairs.tasks import Task, TaskSet

HERE = pathlib.Path(__file__).resolve().parent
WORLDS, RECURRENCES, LENGTH, CHUNK = 4, 10, 300, 10
STATIONARY = 20_000
WINDOW, CLOSE = 30, 1.05
AT = (0, 10, 20, 40, 80, 150)


def order(rng: np.random.Generator) -> list[int]:
    """Every world once, then recurrences, never the same twice in a row."""
    found = list(range(WORLDS))
    while len(found) < WORLDS + RECURRENCES:
        found.append(int(rng.choice([world for world in range(WORLDS) if world != found[-1]])))
    return found


def followed(model: Any, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Test, then train, a chunk at a time; squared errors."""
    said = []
    for start in range(0, len(y), CHUNK):
        part = slice(start, start + CHUNK)
        said.append(model.predict(X[part]))
        model.partial_fit(X[part], y[part])
    return np.square(np.concatenate(said) - y)


def ridge(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared errors of a plain ridge regression of the rows so far."""
    found = []
    for start in range(0, len(y), CHUNK):
        model = up.PriorNeuralNetworkRegressor()
        part = slice(start, start + CHUNK)
        said = model.fit(X[:start], y[:start]).predict(X[part]) if start else np.zeros(CHUNK)
        found.append(np.square(said - y[part]))
    return np.concatenate(found)


def recurring(meta: Any, family: Any, seeds: int) -> list[str]:
    """Error after recurrences."""
    curves: dict[str, list[np.ndarray]] = {}
    found, missed, extra, delays, speed = 0, 0, 0, [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        turns = order(rng)
        tasks = family.sample(WORLDS, LENGTH * len(turns), random_state=1000 + seed)
        at = [0] * WORLDS
        parts = []
        for world in turns:
            parts.append(
                (tasks[world].X[at[world] : at[world] + LENGTH], tasks[world].y[at[world] : at[world] + LENGTH])
            )
            at[world] += LENGTH
        X, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        begun = time.perf_counter()
        online = up.OnlineMetaLearner(meta.learner())
        errors = {"OnlineMetaLearner": followed(online, X, y).reshape(len(turns), LENGTH)}
        speed.append(len(y) / (time.perf_counter() - begun))
        errors["never"] = followed(meta.adapt_zero(), X, y).reshape(len(turns), LENGTH)
        errors["reset, from the prior"] = np.array([followed(meta.adapt_zero(), *part) for part in parts])
        errors["reset, from nothing"] = np.array([ridge(*part) for part in parts])
        for name, values in errors.items():
            curves.setdefault(name, []).append(values[WORLDS:])
        borders = np.arange(1, len(turns)) * LENGTH
        held = judge_changes(borders, [change["at"] for change in online.changes_], len(y))
        found, missed, extra = found + held.found, missed + held.missed, extra + held.false_alarms
        delays += held.delay[np.isfinite(held.delay)].tolist()
    mean = {name: np.concatenate(values).mean(axis=0) for name, values in curves.items()}
    stationary = float(mean["reset, from the prior"][-100:].mean())
    lines = [
        f"## Recurring worlds, {seeds} streams of {WORLDS + RECURRENCES} stretches of {LENGTH} rows",
        "",
        f"Stationary squared error {stationary:.4f}.",
        "",
        "| | " + " | ".join(f"rows {k} to {k + 9}" for k in AT) + " | back after |",
        "|---|" + "---|" * (len(AT) + 1),
    ]
    for name, curve in mean.items():
        back = rows_back(curve, stationary, window=WINDOW, close=CLOSE)
        cells = [f"{curve[k : k + 10].mean() / stationary:.2f}" for k in AT]
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{back:.0f} rows' if np.isfinite(back) else 'never'} |")
    return [
        *lines,
        "",
        f"Errors are in stationary errors. Borders found {found}, missed {missed}, other alarms {extra}; median delay "
        f"{np.median(delays):.0f} rows (90 % within {np.quantile(delays, 0.9):.0f}). {np.median(speed):,.0f} rows a second.",
        "",
    ]


def stationary(meta: Any, family: Any, seeds: int) -> list[str]:
    """Alarms where nothing changes."""
    alarms = []
    for seed in range(seeds):
        task = family.sample(1, STATIONARY, random_state=2000 + seed)[0]
        model = up.OnlineMetaLearner(meta.learner())
        for start in range(0, STATIONARY, 500):
            model.partial_fit(task.X[start : start + 500], task.y[start : start + 500])
        alarms.append(len(model.changes_))
    rate = np.sum(alarms) / (seeds * STATIONARY) * 10_000
    return [
        f"## One world, {seeds} streams of {STATIONARY:,} rows",
        "",
        f"False alarms: {rate:.2f} in 10,000 rows; by stream {alarms}.",
        "",
    ]


def ruled(name: str, angle: float, rows: int, rng: np.random.Generator) -> Task:
    """Two classes by a line through the middle, right with probability .8."""
    x = rng.normal(size=(rows, 2))
    right = x @ np.array([np.cos(angle), np.sin(angle)]) > 0
    return Task(x, np.where(right ^ (rng.random(rows) < 0.2), "yes", "no"), name=name, kind="classification")


def turning(seeds: int) -> list[str]:
    """Delay where the error rate goes from .2 to .4."""
    rng = np.random.default_rng(7)
    tasks = [ruled(f"t{n}", rng.uniform(0, 2 * np.pi), 60, rng) for n in range(60)]
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=(5, 50))
    meta.meta_fit(TaskSet(tasks, labels="shared"))
    delays, early, errors = [], 0, []
    for seed in range(seeds):
        rng = np.random.default_rng(9000 + seed)
        angle, at = rng.uniform(0, 2 * np.pi), 1000
        one, other = ruled("one", angle, at, rng), ruled("other", angle + np.pi / 3, at, rng)
        model = up.OnlineMetaLearner(meta.learner(), rows=500)
        wrong = []
        for task in (one, other):
            for start in range(0, at, CHUNK):
                part = slice(start, start + CHUNK)
                wrong.append(model.predict(task.X[part]) != task.y[part])
                model.partial_fit(task.X[part], task.y[part])
        errors.append(np.concatenate(wrong))
        changes = [change["at"] for change in model.changes_]
        early += sum(change <= at for change in changes)
        delays.append(min((change - at for change in changes if change > at), default=np.inf))
    curve = np.mean(errors, axis=0)
    alarms = []
    for seed in range(seeds):
        task = ruled("one", float(seed), STATIONARY // 4, np.random.default_rng(9500 + seed))
        still = up.OnlineMetaLearner(meta.learner(), rows=500).partial_fit(task.X, task.y)
        alarms.append(len(still.changes_))
    rate = np.sum(alarms) / (seeds * STATIONARY // 4) * 10_000
    return [
        f"## An error rate that goes from .2 to .4, {seeds} streams of 2 x 1,000 rows",
        "",
        f"Median delay {np.median(delays):.0f} rows (by stream {delays}); {early} alarms before the change. Error rate in the "
        f"500 rows before {curve[500:1000].mean():.3f}, in the first 100 after {curve[1000:1100].mean():.3f}, from 300 after on "
        f"{curve[1300:].mean():.3f}.",
        "",
        f"Where nothing changes: {rate:.2f} alarms in 10,000 rows ({seeds} streams of {STATIONARY // 4:,} rows: {alarms}).",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    family = up.tasks.synthetic.SharedSubspace()
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear")
    meta.meta_fit(family.sample(60, 30, random_state=0))
    lines = ["# Worlds that change and come back: default settings", ""]
    for part in (
        recurring(meta, family, options.seeds),
        stationary(meta, family, options.seeds),
        turning(options.seeds),
    ):
        lines += part
        print("\n".join(part), flush=True)
    (HERE / "stream_worlds.md").write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
