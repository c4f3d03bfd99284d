"""Would more tasks help? Curves fitted on half of the training tasks, carried on to all of them, and what was then measured.

    python benchmarks/more_tasks.py [family ...] [--splits 20] [--curves FOLDER]

A split keeps a quarter of the tasks to measure curves on and 15 % that no curve sees; of the rest a random half is at hand. The
curve (`upstairs.evaluate.curves.task_curve`, 5 orders, 6 sizes) is carried on to all of the rest with an interval of 80 %, and the prior is
then learned from all of them. "Same": is the error on the test tasks of the curve inside? "New": is the error on the tasks
that no curve has seen inside, the interval for new tasks widened by the error of their mean? Plain answer beside it: the last
point +- what resampling the test tasks gives. How the curve is fitted was chosen on the families marked "choice" alone.
Data: ``task_families`` in the folder ``UPSTAIRS_DATA`` (default ``../shared/data``). Writes ``more_tasks.md`` beside itself from
the curves in the folder, which are kept, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

import upstairs as up
from upstairs.evaluate.curve_result import TaskCurve
from upstairs.evaluate.curves import task_curve
from upstairs.evaluate.statistics import cluster_sums
from upstairs.tasks.synthetic import SharedSubspace

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "task_families"
CHOICE = ("bdf_language", "exam_london65", "shared subspace")
REPORTED = ("computer_survey", "school_ilea", "insteval")
MOST_TASKS = 400
"""Of a family, at random for each split."""
SHOTS, LEVEL = 5, 0.8


def load(family: str, split: int) -> up.TaskSet:
    """All tasks of a family with enough rows, or a random part of them."""
    if family == "shared subspace":
        return SharedSubspace().sample(160, rows=20, random_state=split)
    frame = pd.read_csv(DATA / f"{family}.csv.gz", keep_default_na=False, na_values=[""])
    tasks = up.TaskSet.from_frame(frame, task="task", target="target", kind="regression").filter(min_rows=SHOTS + 3)
    chosen = np.random.default_rng([split, 1]).permutation(len(tasks))[:MOST_TASKS]
    return tasks[np.sort(chosen)]


def measure(family: str, split: int) -> dict[str, Any]:
    """One split: the curve on half of the training tasks, and the values after learning from all."""
    train, fresh, test = load(family, split).split(valid=0.15, test=0.25, random_state=split)
    half = train[np.random.default_rng([split, 2]).permutation(len(train))[: len(train) // 2]]
    meta = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear", shots=(SHOTS, SHOTS), random_state=0)
    how = {"shots": [SHOTS], "draws": 2, "random_state": split}
    curve = task_curve(meta, half, test, orders=5, **how)
    fitted = meta.meta_fit(train)
    found = {}
    for name, tasks in (("same", test), ("new", fresh)):
        values = up.evaluate({"all": fitted}, tasks, train=half, baselines=None, **how).by_task(SHOTS)[2][:, 0]
        found[name] = [float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)]
    return {"curve": curve.to_dict(), "all": len(train), **found}


def answers(record: dict[str, Any]) -> dict[str, tuple[float, float, float, float]]:
    """Low, high, mean and truth of each way to answer."""
    curve, number = TaskCurve.from_dict(record["curve"]), record["all"]
    last = curve.values[SHOTS][0, -1]
    sums, counts = cluster_sums(last[:, None], curve.groups[SHOTS])
    drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=2000)
    plain = (drawn @ sums[:, 0]) / (drawn @ counts)
    reach = float(ndtri(0.5 + LEVEL / 2))
    found = {}
    for on in ("same", "new"):
        truth, error = record[on]
        wide = reach * error if on == "new" else 0.0
        there = curve.predict(number, level=LEVEL, on=on)
        rows = {on: (there.low, there.mean, there.high)}
        rows[f"{on}, last point"] = (
            *np.quantile(plain, [0.5 - LEVEL / 2]),
            last.mean(),
            *np.quantile(plain, [0.5 + LEVEL / 2]),
        )
        for name, (low, mean, high) in rows.items():
            below, above = mean - np.hypot(mean - low, wide), mean + np.hypot(high - mean, wide)
            found[name] = (float(below), float(above), float(mean), truth)
    return found


def table(records: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Coverage and width for every family and together."""
    lines = [
        "| family | splits | tasks at hand, all | interval | inside | truth below, above | width | off by | error with all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    together: dict[str, list[tuple[float, float, float, float]]] = {}
    for family, listed in records.items():
        found = [answers(record) for record in listed]
        sizes = f"{listed[0]['curve']['sizes'][-1]}, {listed[0]['all']}"
        for name in found[0]:
            rows = [each[name] for each in found]
            together.setdefault(name, []).extend(rows)
            lines.append(f"| {family} | {len(rows)} | {sizes} | {name} | {said(rows)} |")
    lines += [f"| **together** | {len(rows)} | | {name} | {said(rows)} |" for name, rows in together.items()]
    return lines


def said(rows: list[tuple[float, float, float, float]]) -> str:
    """Cells of a row."""
    low, high, mean, truth = np.array(rows).T
    inside = (low <= truth) & (truth <= high)
    return (
        f"{inside.mean():.2f} | {(truth < low).sum()}, {(truth > high).sum()} | {(high - low).mean():.4f} | "
        f"{np.abs(mean - truth).mean():.4f} | {truth.mean():.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("families", nargs="*", default=[])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument(
        "--curves", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "more_tasks_curves"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.curves.mkdir(parents=True, exist_ok=True)
    for split in range(options.splits):
        for family in options.families or [*CHOICE, *REPORTED]:
            file = options.curves / f"{family.replace(' ', '_')}-{split}.json"
            if not file.exists():
                text = json.dumps(measure(family, split))
                file.with_suffix(".part").write_text(text)
                file.with_suffix(".part").rename(file)
                print(family, split, flush=True)

    def kept(families: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for family in families:
            files = sorted(
                options.curves.glob(f"{family.replace(' ', '_')}-*.json"), key=lambda f: int(f.stem.split("-")[-1])
            )
            if files:
                found[family] = [json.loads(file.read_text()) for file in files]
        return found

    text = [
        "# Would more tasks help? Forecasts from half of the training tasks",
        "",
        __doc__.split("\n\n")[2].replace("\n", " "),
        "",
    ]
    for title, families in (
        ("Families that the way of fitting was not chosen on", REPORTED),
        ("Families of choice", CHOICE),
    ):
        found = kept(families)
        text += [f"## {title}", "", *(table(found) if found else []), ""]
    (HERE / "more_tasks.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
