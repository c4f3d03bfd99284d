"""Time importing, adapting and predicting; every comparison is the median of alternating pairs in one run.

    python benchmarks/speed.py

Writes ``speed.md`` beside itself.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

import upstairs as up
from upstairs.tasks.synthetic import SharedSubspace

PAIRS = 7


def seconds(job: Callable[[], object], repeats: int = 1) -> float:
    """Mean wall time of a job."""
    start = time.perf_counter()
    for _ in range(repeats):
        job()
    return (time.perf_counter() - start) / repeats


def process_seconds(*command: str) -> float:
    """Wall time of a whole process, median of `PAIRS`."""
    return statistics.median(
        seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(PAIRS)
    )


def import_rows() -> list[tuple[str, str, str]]:
    """Time the import alone (inside the process) and the help page (whole process)."""
    code = "import time; t = time.perf_counter(); import upstairs; print(time.perf_counter() - t)"
    inside = statistics.median(
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(PAIRS)
    )
    help_page = process_seconds(sys.executable, "-m", "upstairs", "--help")
    return [("import upstairs", f"{inside * 1e3:.1f} ms", "300 ms"), ("upstairs --help", f"{help_page:.2f} s", "0.5 s")]


def adapt_rows(prior_mean: str) -> list[tuple[str, str, str]]:
    """Time adapting to 10 rows and predicting 10, and many tasks at once against a loop."""
    family = SharedSubspace()
    train = family.sample(100, 25, random_state=0)
    meta = up.MetaNeuralNetwork(prior_mean=prior_mean).meta_fit(train)  # type: ignore[arg-type]
    task = family.sample(1, 20, random_state=1)[0]
    few, rest = task.take(slice(0, 10)), task.take(slice(10, 20))
    many = family.sample(1000, 10, random_state=2)
    tasks = list(many)
    names = [f"x{n}" for n in range(task.X.shape[1])]
    framed = up.TaskSet([up.Task(pd.DataFrame(t.X, columns=names), t.y, name=t.name) for t in train])
    framed_meta = up.MetaNeuralNetwork(prior_mean=prior_mean).meta_fit(framed)  # type: ignore[arg-type]
    few_frame, rest_frame = pd.DataFrame(few.X, columns=names), pd.DataFrame(rest.X, columns=names)
    meta.adapt(few.X, few.y)
    arrays = statistics.median(seconds(lambda: meta.adapt(few.X, few.y).predict(rest.X), 20) for _ in range(PAIRS))
    frames = statistics.median(
        seconds(lambda: framed_meta.adapt(few_frame, few.y).predict(rest_frame), 20) for _ in range(PAIRS)
    )
    ratios = []
    for _ in range(PAIRS):
        loop = seconds(lambda: [meta.adapt(t.X, t.y) for t in tasks])
        together = seconds(lambda: meta.adapt_many(many))
        ratios.append(loop / together)
    return [
        (f"adapt + predict, 10 rows, arrays ({prior_mean})", f"{arrays * 1e3:.2f} ms", "5 ms"),
        (f"adapt + predict, 10 rows, data frames ({prior_mean})", f"{frames * 1e3:.2f} ms", "8 ms"),
        (f"adapt_many of 1,000 tasks over a loop ({prior_mean})", f"{statistics.median(ratios):.1f} times", "20 times"),
    ]


def main() -> None:
    """Run everything and write the table."""
    warnings.simplefilter("ignore", up.FamiliarityWarning)
    np.set_printoptions(precision=3)
    rows = import_rows() + adapt_rows("linear") + adapt_rows("boosting")
    lines = ["| what | median of 7 | aim |", "|---|---|---|"] + [f"| {a} | {b} | {c} |" for a, b, c in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    pathlib.Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
