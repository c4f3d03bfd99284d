"""What follows a drift within a world, and worlds that follow from experience, on streams whose drift is known.

    python benchmarks/stream_drift.py [--seeds 5]

First: priors that are a start for gradient steps (`MetaGradientDescent`, MAML), on regressions of `SharedSubspace` that drift row by
row, change at once, or stand still; with the followers that make steps of the learned rule from where they stand (the default), and
without them (``forgetting=None``); a Gaussian prior beside them. Then: classes of `HiddenRule` in worlds that come back, followed by
estimators with the experience that ships; with worlds told apart and as one (``hazard=0``), a forgetful mixture beside them. Every
row is predicted before it is learned, in chunks of ten; mean and standard deviation over seeds, which draw the streams. Priors are
learned once, on other tasks of the family. Writes ``stream_drift.md`` beside itself.
"""

from __future__ import annotations

import argparse
import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import upstairs as up
from upstairs.online import Stream, abrupt, incremental, prequential, recurring

HERE = pathlib.Path(__file__).resolve().parent
FAMILY = up.tasks.synthetic.SharedSubspace()
RULES = up.tasks.synthetic.HiddenRule()
DRIFTS: dict[str, Callable[[int], Stream]] = {
    "row by row": lambda seed: incremental(FAMILY, worlds=4, length=500, width=500, random_state=seed),
    "at once": lambda seed: abrupt(FAMILY, worlds=4, length=500, random_state=seed),
    "none": lambda seed: abrupt(FAMILY, worlds=1, length=2000, random_state=seed),
}


def line(name: str, cells: list[np.ndarray], digits: int) -> str:
    said = (f"{each.mean():.{digits}f} +- {each.std(ddof=1):.{digits}f}" for each in cells)
    return f"| {name} | {' | '.join(said)} |"


def drifts(seeds: range) -> list[str]:
    """Errors of priors that are a start, with and without followers."""
    priors: dict[str, Any] = {
        "MetaGradientDescent": up.MetaGradientDescent(random_state=0),
        "MAML": up.MetaNeuralNetwork("maml", random_state=0),
        "Gaussian prior": up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear", random_state=0),
    }
    lines = ["## Mean squared error, by how the world drifts", "", f"| | {' | '.join(DRIFTS)} |", "|---|---|---|---|"]
    for name, meta in priors.items():
        meta.meta_fit(FAMILY.sample(40, 30, random_state=0))
        for what, forgetting in (("without followers", None), ("default", "auto")):
            cells = []
            for stream in DRIFTS.values():
                models = [(up.OnlineMetaLearner(meta.learner(), forgetting=forgetting), stream(1 + s)) for s in seeds]
                cells.append(np.array([prequential(model, each.chunks(10)).total for model, each in models]))
            lines.append(line(f"{name}, {what}", cells, 3))
    return lines


def comes_back(seeds: range) -> list[str]:
    """Accuracy where three worlds take turns, and rows a second."""
    learners: dict[str, Any] = {
        'PriorSVC(prior="tabular")': up.PriorSVC(prior="tabular"),
        'recommended("decision-tree")': up.recommended("decision-tree", kind="classification"),
        "ForgetfulClassifier": up.ForgetfulClassifier(),
    }
    streams = [recurring(RULES, worlds=3, stretches=6, length=200, random_state=1 + seed) for seed in seeds]
    lines = ["", "## Share of rows that are right, three worlds that take turns", ""]
    lines += [
        "| | worlds told apart | as one world | changes declared (5 are true) | rows a second |",
        "|---|---|---|---|---|",
    ]
    for name, learner in learners.items():
        begun, told, one, changes = time.perf_counter(), [], [], []
        for stream in streams:
            model = up.OnlineMetaLearner(learner)
            told.append(prequential(model, stream.chunks(10)).total)
            changes.append(len(model.changes_))
        speed = sum(map(len, streams)) / (time.perf_counter() - begun)
        for stream in streams:
            one.append(prequential(up.OnlineMetaLearner(learner, hazard=0.0), stream.chunks(10)).total)
        start = line(name, [np.array(told), np.array(one)], 3)
        lines.append(f"{start} {', '.join(map(str, changes))} | {speed:,.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    warnings.simplefilter("ignore")
    title = f"# Drift within a world, and worlds that follow from experience ({len(seeds)} seeds)"
    text = "\n".join([title, "", *drifts(seeds), *comes_back(seeds)])
    print(text)
    (HERE / "stream_drift.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
