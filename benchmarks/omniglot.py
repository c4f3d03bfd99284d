"""Few-shot classification of Omniglot characters, alphabets apart: any method and network of MetaNeuralNetwork.

    UPSTAIRS_DATA=... python benchmarks/omniglot.py NAME [--method prototype] [--net conv4] [--steps N] [--folder FOLDER] ...

The background set is split by alphabet: five alphabets report, three others say when to stop, the rest trains. A run with
``--folder`` can be stopped and called again. Adds its row, under NAME, to ``omniglot.json`` and ``omniglot.md`` beside itself.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import pathlib
import sys
import time
import warnings
from typing import Any

import numpy as np

import upstairs as up
from upstairs.values import restored

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data"))
EPISODES, QUERIES = 1000, 15


def pools(seed: int = 0) -> tuple[up.ClassPool, up.ClassPool, up.ClassPool, list[list[str]]]:
    """Training, stopping and reporting pools, and their alphabets."""
    file = np.load(DATA / "omniglot" / "omniglot28_background.npz", allow_pickle=False)
    images, alphabet = file["images"], file["alphabet"]
    names = np.random.default_rng(seed).permutation(np.unique(alphabet))
    groups = [sorted(names[8:]), sorted(names[5:8]), sorted(names[:5])]
    found = []
    for group in groups:
        part = images[np.isin(alphabet, group)]
        labels = np.repeat([f"character {n:04d}" for n in np.flatnonzero(np.isin(alphabet, group))], part.shape[1])
        owner = np.repeat(alphabet[np.isin(alphabet, group)], part.shape[1])
        found.append(up.ClassPool(part.reshape(-1, 28, 28), labels, group=owner))
    return found[0], found[1], found[2], groups


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="of the row in the table")
    parser.add_argument("--method", default="prototype")
    parser.add_argument("--net", default="conv4", help="mlp, conv4, or mlp:256,128,64")
    parser.add_argument("--normalised", action="store_true", help="an mlp normalises what goes through an activation")
    parser.add_argument(
        "--options", default="{}", help='JSON; an update rule is {"is": "SGD", "rate": 0.1, "learned": true}'
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--queries", type=int, default=None)
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--tests", default="5x1,5x5,20x1", help="ways x shots; a method with fixed ways has one")
    parser.add_argument("--patience", type=int, default=None)
    parser.add_argument("--augment", default="rotations", help="such as rotations,affine:0.2")
    parser.add_argument(
        "--heads", action="store_true", help="also judge other last layers on the learned prototypes' network"
    )
    parser.add_argument("--folder", default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore", up.FamiliarityWarning)
    train, stop, report, groups = pools()
    kind, _, sizes = options.net.partition(":")
    changes = [change.partition(":") for change in options.augment.split(",")]
    net: Any = {"name": kind, "sizes": ast.literal_eval(f"({sizes},)")} if sizes else kind
    if options.normalised:
        net = {"name": kind} | (net if sizes else {}) | {"normalised": True}

    def tell(event: Any) -> None:
        if event.kind == "validation":
            judged = event.validation
            left = "" if event.seconds_left is None else f", about {event.seconds_left:.0f} s left"
            said = f"loss {event.loss:.4f}, stopping alphabets {100 * (1 - judged.error):.2f} %{left}"
            sys.stdout.write(f"{event.seconds:7.1f} s  step {event.step:6d}  {said}\n")
            sys.stdout.flush()

    training = up.Training(
        steps=options.steps,
        batch=options.batch,
        rate=options.rate,
        queries=options.queries,
        validate_every=500,
        patience=options.patience,
        augment={name: float(strength) if strength else None for name, _, strength in changes},
        checkpoint=options.folder,
        callback=tell,
    )
    meta = up.MetaNeuralNetwork(
        options.method,
        net=net,
        options=restored(json.loads(options.options)),
        training=training,
        ways=options.ways,
        shots=options.shots,
        random_state=options.seed,
    )
    begun = time.perf_counter()
    meta.meta_fit(train, validation=stop)
    seconds = time.perf_counter() - begun
    cells: dict[str, str] = {}
    for test in options.tests.split(","):
        ways, shots = map(int, test.split("x"))
        tasks = report.episodes(EPISODES, ways=ways, shots=shots, queries=QUERIES, random_state=1)
        result = up.evaluate(
            {"it": meta},
            tasks,
            shots=[shots],
            ways=ways,
            queries=QUERIES,
            random_state=0,
            baselines=["nearest prototype"],
        )
        for row in result.table(shots, "accuracy"):
            cells[f"{test} {'' if row.learner == 'it' else 'raw '}"] = (
                f"{100 * row.mean:.2f} +- {50 * (row.high - row.low):.2f}"
            )
        sys.stdout.write(f"{test}: {cells}\n")
        sys.stdout.flush()
    if options.heads:
        cells |= on_the_same_embedding(meta, report, options.tests)
    place = HERE / "omniglot.json"
    rows = json.loads(place.read_text()) if place.exists() else {}
    net_said = options.net + ", normalised" * options.normalised
    rows[options.name] = {
        "how": f"{options.method}, {net_said}, {options.augment}, trained {options.ways} ways {options.shots} shots, "
        f"{meta.prior_.settings['choice']}",
        "seconds": round(seconds),
        "cells": cells,
    }
    place.write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "omniglot.md").write_text(table(rows, groups))


def on_the_same_embedding(meta: up.MetaNeuralNetwork, pool: up.ClassPool, tests: str) -> dict[str, str]:
    """Accuracy of prototypes, ridge and SVM on the network that prototypes learned, on the same 1,000 episodes.

    Nothing is learned: the heads have the strength that they start learning from.
    """
    import jax

    from upstairs.inner.heads import PrototypeHead
    from upstairs.inner.ridge import RidgeHead
    from upstairs.inner.svm_head import SvmHead
    from upstairs.inner.traced import Spec
    from upstairs.learners.networks import net_from
    from upstairs.outer.draws import EpisodeDraw, pool_data
    from upstairs.outer.scan import judge

    net = net_from(meta.prior_.settings["net"])
    arrays = {name: array for name, array in meta.prior_.group("params").items() if name.startswith("net/")}
    images = pool_data(pool.X, np.unique(pool.y, return_inverse=True)[1], net.inputs)
    found = {}
    for test in tests.split(","):
        ways, shots = map(int, test.split("x"))
        draw = EpisodeDraw(20, ways, (shots, shots), QUERIES)
        for head in (PrototypeHead(net, ways), RidgeHead(net, ways), SvmHead(net, ways)):
            params = jax.jit(head.init, static_argnums=1)(jax.random.key(0), Spec(net.inputs, ways)) | arrays
            _, errors = judge(head, draw, images, params, batches=EPISODES // 20, seed=1)
            half = 196 * errors.std(ddof=1) / len(errors) ** 0.5
            found[f"{test} {type(head).__name__} on it"] = f"{100 * (1 - errors.mean()):.2f} +- {half:.2f}"
            sys.stdout.write(f"{test} {type(head).__name__}: {found[f'{test} {type(head).__name__} on it']}\n")
            sys.stdout.flush()
    return found


def table(rows: dict[str, Any], groups: list[list[str]]) -> str:
    tests = [("5x1", "5-way 1-shot"), ("5x5", "5-way 5-shot"), ("20x1", "20-way 1-shot")]
    lines = [
        "# Omniglot, background set, split by alphabet",
        "",
        f"{EPISODES:,} frozen episodes of unseen alphabets, {QUERIES} query rows a class, accuracy in percent with 95 % intervals over "
        "episodes. No transduction: every image is normalised by itself. Stops on "
        f"{', '.join(groups[1])}; reports on {', '.join(groups[2])}.",
        "",
        "| | " + " | ".join(said for _, said in tests) + " | learning, s |",
        "|---|" + "---|" * (len(tests) + 1),
    ]
    raw = {
        key: row["cells"][f"{key} raw "] for row in rows.values() for key, _ in tests if f"{key} raw " in row["cells"]
    }
    lines.append("| nearest raw prototype | " + " | ".join(raw.get(key, "") for key, _ in tests) + " | |")
    for name, row in rows.items():
        cells = [row["cells"].get(f"{key} ", "") for key, _ in tests]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['seconds']} |")
    return "\n".join([*lines, "", *(f"- **{name}**: {row['how']}." for name, row in rows.items()), ""])


if __name__ == "__main__":
    main()
