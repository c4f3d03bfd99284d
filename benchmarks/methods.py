"""Every method of MetaNeuralNetwork beside `auto` on the real regression families: same tasks, same frozen episodes.

    python benchmarks/methods.py [--steps 1500] [--splits 1] [family ...]

Tasks come from the folder ``UPSTAIRS_DATA`` (default ``../shared/data``); a quarter of them is held out. Methods have their
default options; ``auto`` has seen the same training tasks and chooses by itself. Writes ``methods.md`` beside itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
import warnings

import numpy as np
import pandas as pd

import upstairs as up

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "task_families"
FAMILIES = ["exam_london65", "bdf_language", "computer_survey", "parkinsons_updrs", "school_ilea", "insteval"]
METHODS = ["maml", "fomaml", "reptile", "anil", "boil", "meta-sgd", "maml++", "imaml", "ridge", "in-context"]
SHOTS = 5


def learners(steps: int) -> dict[str, up.MetaNeuralNetwork]:
    """`auto`, its parts on their own, and every method that is trained by gradients."""
    found = {"auto": up.MetaNeuralNetwork()}
    found |= {
        f"bayesian-linear, {mean}": up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean=mean)
        for mean in ("linear", "ridge", "boosting")
    }
    found["bayesian-linear on a network"] = up.MetaNeuralNetwork("bayesian-linear", net="mlp")
    return found | {name: up.MetaNeuralNetwork(name, training=up.Training(steps=steps)) for name in METHODS}


def errors(family: str, steps: int, split: int) -> dict[str, float]:
    """Mean error of every learner on one split of a family."""
    frame = pd.read_csv(DATA / f"{family}.csv.gz", keep_default_na=False, na_values=[""])
    tasks = up.TaskSet.from_frame(frame, task="task", target="target", kind="regression")
    train, _, test = tasks.split(test=0.25, random_state=split)
    fitted, found = {}, {}
    for name, meta in learners(steps).items():
        begun = time.perf_counter()
        try:
            fitted[name] = meta.meta_fit(train)
        except up.UpstairsError as error:
            found[name] = float("nan")
            print(f"{family} {name}: {error}", flush=True)
            continue
        print(f"{family} {name}: learned in {time.perf_counter() - begun:.0f} s", flush=True)
    baselines = ["linear Gaussian prior", "pooled + offset", "pooled"]
    result = up.evaluate(fitted, test, train=train, shots=[SHOTS], baselines=baselines, random_state=split)
    return found | {row.learner: row.mean for row in result.table(SHOTS)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("families", nargs="*")
    args = parser.parse_args()
    warnings.simplefilter("ignore", up.FamiliarityWarning)
    warnings.simplefilter("ignore", up.UnsolvedWarning)
    columns: dict[str, dict[str, float]] = {}
    for family in args.families or FAMILIES:
        each = [errors(family, args.steps, split) for split in range(args.splits)]
        columns[family] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        write(columns, args.steps, args.splits)


def write(columns: dict[str, dict[str, float]], steps: int, splits: int) -> None:
    """One line a learner; first of all, how far `auto` is from the best other."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    ratio = {
        family: column["auto"] / np.nanmin([value for name, value in column.items() if name != "auto"])
        for family, column in columns.items()
    }
    lines = [
        "# Every method on the real regression families",
        "",
        f"`python benchmarks/methods.py --steps {steps} --splits {splits}`: mean squared error with {SHOTS} support rows, targets in "
        "standard deviations, unseen tasks, default options. Empty: the training did not stay finite.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        "| auto / best of the others | " + " | ".join(f"{ratio[family]:.3f}" for family in columns) + " |",
    ]
    for name in names:
        cells = ["" if np.isnan(column[name]) else f"{column[name]:.4f}" for column in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    (HERE / "methods.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[4:]), flush=True)


if __name__ == "__main__":
    main()
