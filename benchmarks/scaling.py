"""More tasks than memory: a store is written, and a prior is learned from it while it is read.

    python benchmarks/scaling.py [--tasks 10000 100000 1000000] [--folder FOLDER]

Tasks have 20 rows and 20 features in single precision; their weights lie near a plane that all share. Each number of tasks is one
process that writes the store from a generator, and one that opens it and makes one pass over it with `MetaNeuralNetwork("ridge")` (a
network of 32 features, 256 tasks a step). Seconds of a pass are steps divided by steps a second, the first chunk of steps
left out, which compiles. "Waiting" is the share of the pass in which steps waited for data. Memory is the peak of the whole process.
Writes ``scaling.md`` beside itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import upstairs as up

HERE = pathlib.Path(__file__).resolve().parent
ROWS, FEATURES, PLANE, AT_ONCE = 20, 20, 3, 5000
BATCH = 256


def tasks(count: int) -> Iterator[up.Task]:
    """Linear tasks with weights near a shared plane."""
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(PLANE, FEATURES)) / np.sqrt(PLANE)
    for start in range(0, count, AT_ONCE):
        number = min(AT_ONCE, count - start)
        X = rng.normal(size=(number, ROWS, FEATURES))
        w = rng.normal(size=(number, PLANE)) @ plane
        y = np.einsum("trf,tf->tr", X, w) + 0.3 * rng.normal(size=(number, ROWS))
        for n in range(number):
            yield up.Task(X[n], y[n], name=f"t{start + n:08d}", kind="regression")


def peak() -> float:
    """Megabytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def write(path: pathlib.Path, count: int) -> dict[str, Any]:
    begun = time.perf_counter()
    up.tasks.write_store(path, tasks(count), precision="float32")
    size = sum(file.stat().st_size for file in path.iterdir())
    return {"seconds": time.perf_counter() - begun, "disk": size / 1e6, "memory": peak()}


def learn(path: pathlib.Path, count: int) -> dict[str, Any]:
    warnings.simplefilter("ignore")
    begun = time.perf_counter()
    store = up.TaskSet.from_store(path)
    opened = time.perf_counter() - begun
    steps = max(count - 1000, count * 4 // 5) // BATCH
    events: list[Any] = []
    training = up.Training(
        steps=steps, batch=BATCH, rate=3e-3, validate_every=max(50, steps // 10), patience=None, callback=events.append
    )
    meta = up.MetaNeuralNetwork("ridge", net={"name": "mlp", "sizes": (32,)}, shots=10, training=training)
    begun = time.perf_counter()
    meta.meta_fit(store)
    whole = time.perf_counter() - begun
    rate = next(event.rate for event in reversed(events) if event.rate)
    report = meta.prior_.settings["report"]
    return {
        "opened": opened,
        "whole": whole,
        "steps": steps,
        "pass": steps / rate,
        "waited": events[-1].waited,
        "memory": peak(),
        "streamed": getattr(meta, "seen_", None) is None,
        "losses": [report[0]["loss"], report[-1]["loss"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "upstairs-scaling")
    parser.add_argument("--part", choices=("write", "learn"))
    options = parser.parse_args()
    if options.part:
        path = options.folder / str(options.tasks[0])
        print(json.dumps((write if options.part == "write" else learn)(path, options.tasks[0])))
        return
    rows = []
    for count in options.tasks:
        path = options.folder / str(count)
        shutil.rmtree(path, ignore_errors=True)
        found = []
        for part in ("write", "learn"):
            command = [sys.executable, __file__, "--tasks", str(count), "--folder", str(options.folder), "--part", part]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        shutil.rmtree(path, ignore_errors=True)
        print(count, found, flush=True)
        rows.append((count, *found))
    (HERE / "scaling.md").write_text("\n".join(page(rows)) + "\n")


def page(rows: list[Any]) -> list[str]:
    lines = [
        "# More tasks than memory",
        "",
        *(__doc__ or "").split("\n\n")[2:3],
        "",
        "| tasks | write, s | disk, MB | memory while writing, MB | open, s | pass, s | tasks a second | waiting | memory while "
        "learning, MB | streamed | validation loss, first and last |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for count, wrote, learned in rows:
        made = learned["steps"] * BATCH
        lines.append(
            f"| {count:,} | {wrote['seconds']:.1f} | {wrote['disk']:.0f} | {wrote['memory']:.0f} | {learned['opened']:.2f} | "
            f"{learned['pass']:.2f} | {made / learned['pass']:,.0f} | {learned['waited'] / learned['pass']:.1%} | "
            f"{learned['memory']:.0f} | {'yes' if learned['streamed'] else 'no'} | {learned['losses'][0]:.3f}, {learned['losses'][1]:.3f} |"
        )
    ratios = [
        later[2]["pass"] / later[2]["steps"] / (earlier[2]["pass"] / earlier[2]["steps"]) * later[0] / earlier[0]
        for earlier, later in itertools.pairwise(rows)
    ]
    return [
        *lines,
        "",
        f"Seconds of a pass, times that of a tenth of the tasks: {', '.join(f'{r:.2f}' for r in ratios)}.",
    ]


if __name__ == "__main__":
    main()
