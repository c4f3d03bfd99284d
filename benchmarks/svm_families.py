"""MetaSVM on real families of tasks with the same columns, beside the plain methods, on the same frozen episodes.

    python benchmarks/svm_families.py [family ...] [--splits 5] [--draws 3]

Each split holds a quarter of the tasks out; support rows are drawn so many times from each task; default settings. Data:
``task_families`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). Writes ``svm_families.md`` beside itself, one
section a family, which stays if other families are run.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import time
import warnings

import numpy as np
import pandas as pd

import upstairs as up

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "task_families"
SHOTS = {"landmine": [20, 40, 80, 160], "contraception_bd": [10, 20]}
REGRESSION = ["computer_survey", "exam_london65", "parkinsons_updrs", "school_ilea"]
LEARNER, LINEAR = "MetaSVM", "linear Gaussian prior"


def load(family: str) -> up.TaskSet:
    frame = pd.read_csv(DATA / f"{family}.csv.gz", keep_default_na=False, na_values=[""])
    kind = "regression" if family in REGRESSION else "classification"
    return up.TaskSet.from_frame(frame, task="task", target="target", kind=kind)


def measure(family: str, split: int, draws: int) -> tuple[up.EvaluationResult, str, float]:
    """One split: the result, why the kernel was chosen, and the seconds of learning."""
    train, _, test = load(family).split(valid=0, test=0.25, random_state=split)
    shots = SHOTS.get(family, [5])
    meta, start = (
        up.MetaSVM(shots=(min(shots), max(shots)) if len(shots) > 1 else None, random_state=split),
        time.time(),
    )
    meta.meta_fit(train)
    seconds = time.time() - start
    result = up.evaluate(
        {LEARNER: meta},
        test,
        train=train,
        shots=shots,
        queries=None,
        draws=draws,
        random_state=split,
    )
    return result, meta.prior_.settings["choice"], seconds


def section(family: str, splits: int, draws: int) -> str:
    """Describe one family."""
    runs = [measure(family, split, draws) for split in range(splits)]
    seconds = np.mean([run[2] for run in runs])
    lines = [f"## {family}, {splits} splits, {draws} draws of the support, {seconds:.1f} s to learn", ""]
    metric = "mse" if family in REGRESSION else "auc"
    for shot in runs[0][0].shots:
        means = [{row.learner: row.mean for row in result.table(shot, metric)} for result, _, _ in runs]
        names = [name for name in means[0] if all(name in each for each in means)]
        lines += [f"{shot} rows, {metric} (mean and standard deviation over splits)", ""]
        lines += [f"| | {metric} | every split |", "|---|---|---|"]
        for name in sorted(names, key=lambda name: np.mean([each[name] for each in means]), reverse=metric == "auc"):
            values = [each[name] for each in means]
            each_split = ", ".join(f"{value:.3f}" for value in values)
            lines.append(f"| {name} | {np.mean(values):.4f} +- {np.std(values):.4f} | {each_split} |")
        if metric == "mse":
            ratios = [each[LEARNER] / each[LINEAR] for each in means]
            listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
            lines += ["", f"MetaSVM / {LINEAR}: {listed}; mean {np.mean(ratios):.3f}"]
        lines.append("")
    return "\n".join([*lines, *(f"- split {number}: {why}" for number, (_, why, _) in enumerate(runs)), ""])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*", default=[])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    every, out = [*SHOTS, *REGRESSION], HERE / "svm_families.md"
    old = out.read_text() if out.exists() else ""
    known = {part.split(",")[0]: f"## {part}" for part in re.split(r"^## ", old, flags=re.MULTILINE)[1:]}
    for family in options.families or every:
        known[family] = section(family, options.splits, options.draws)
        print(known[family], flush=True)
        text = ["# MetaSVM on tasks with the same columns", "", *(known[name] for name in every if name in known)]
        out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
