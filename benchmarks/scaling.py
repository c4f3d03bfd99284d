"""More tasks than memory: a store is written, and a prior is learned from it while it is read.

    python benchmarks/scaling.py [--tasks 10000 100000 1000000] [--folder FOLDER]

Tasks have 20 rows and 20 features in single precision; their weights lie near a plane that all share. Each number of tasks is one
process that writes the store from a generator, and one that opens it and makes one pass over it with `MetaNeuralNetwork("ridge")` (a
network of 32 features, 256 tasks a step). Seconds of a pass are steps divided by steps a second, the first chunk of steps
left out, which compiles. "Waiting" is the share of the pass in which steps waited for data. Memory is the peak of the whole process.
Ten times the most tasks are then worked out on paper, from the slopes between the two largest numbers that were measured.
Writes ``scaling.md`` and a picture beside itself.
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
    (HERE / "scaling.md").write_text("\n".join([*page(rows), *on_paper(rows)]) + "\n")
    picture(rows)


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
        "",
        "![seconds, megabytes of memory and of disk by number of tasks](scaling.svg)",
    ]


def on_paper(rows: list[Any]) -> list[str]:
    """Carry what grows with the tasks on to ten times the most that was measured."""
    (few, wrote_few, learned_few), (many, wrote, learned) = rows[-2:]
    aim = 10 * many

    def carried(small: float, large: float) -> float:
        return large + (large - small) / (many - few) * (aim - many)

    disk = carried(wrote_few["disk"], wrote["disk"]) / 1e3
    writing = carried(wrote_few["seconds"], wrote["seconds"])
    held = carried(learned_few["memory"], learned["memory"]) / 1e3
    writing_memory = carried(wrote_few["memory"], wrote["memory"]) / 1e3
    index = (learned["memory"] - learned_few["memory"]) / (many - few) * 1e6
    each = learned["pass"] / (learned["steps"] * BATCH)
    reading = wrote["disk"] * 1e6 / (many * each) / 1e6
    return [
        "",
        f"## {aim:,} tasks, on paper",
        "",
        f"- **Bytes.** {disk:.0f} GB on disk. Of a task that is not being trained on, {index:.0f} bytes stay in memory (name, "
        f"group, place, hash): {held:.1f} GB in all; writing takes {writing_memory:.1f} GB.",
        f"- **Seconds.** {writing / 60:.0f} minutes to write, {aim * each / 60:.0f} minutes a pass with one process. Ten passes "
        f"are {aim * each / 360:.1f} hours.",
        f"- **Machines.** One is enough, with {2 ** int(np.ceil(np.log2(held * 1.3)))} GB. Training reads {reading:.0f} MB of "
        "files a second; a disk gives hundreds. Several processes that share the tasks of a step (`docs/methods/machines.md`) "
        "each read all windows, so that some ten of them would wait for one disk.",
        "- **What breaks first** is the memory of the index: every process opens all of it, and at ten times as many tasks "
        f"again it would be {index * aim / 1e8:.0f} GB. Neither the steps nor the windows grow with the tasks.",
    ]


def picture(rows: list[Any]) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "upstairs"
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    counts = [row[0] for row in rows]
    left.loglog(counts, [wrote["seconds"] for _, wrote, _ in rows], "o-", label="writing")
    left.loglog(counts, [learned["pass"] for _, _, learned in rows], "s--", label="a pass")
    left.set(xlabel="tasks", ylabel="seconds")
    right.loglog(counts, [wrote["disk"] for _, wrote, _ in rows], "o-", label="on disk")
    right.loglog(counts, [learned["memory"] for _, _, learned in rows], "s--", label="memory while learning")
    right.loglog(counts, [wrote["memory"] for _, wrote, _ in rows], "^:", label="memory while writing")
    right.set(xlabel="tasks", ylabel="megabytes")
    for axes in (left, right):
        axes.legend()
    figure.savefig(HERE / "scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
