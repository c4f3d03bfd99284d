"""Streams whose world changes and comes back: predict every row, then learn it.

    python examples/streams.py            # a made-up stream, and one that comes with river; half a minute
    python examples/streams.py --full     # the start of elec2, a few minutes; needs the folder of UPSTAIRS_DATA

First a made-up stream: a machine that makes four products in turn, for 200 rows each, and says neither when it changes over nor to
what. A prior was learned on 60 other products. Beside `upstairs.OnlineMetaLearner`, which notices the change and remembers
what it has met: one learner that goes on for ever, and two that are *told* when the machine changes over and then start again, from
the prior or from nothing. Only the rows after a product has come *back* are counted.

Then real streams without any prior: ``OnlineMetaLearner(ForgetfulClassifier())``, with its default settings, beside river's learners with
river's. A stream is one sample; differences within a percent or so mean little.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time

import numpy as np
import pandas as pd
from river import forest, linear_model, multiclass, neighbors, preprocessing, tree
from river.datasets import ImageSegments, Phishing

import upstairs as up
from upstairs.online import NoChange, chunks, prequential

CHUNK = 10
ONLINE = "OnlineMetaLearner"


def followed(model, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared errors of predicting a few rows, then learning them."""
    return prequential(model, chunks(X, y, CHUNK)).loss


def from_nothing(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared errors of ridge regression on the rows so far."""
    found = []
    for start in range(0, len(y), CHUNK):
        part = slice(start, start + CHUNK)
        said = up.PriorNeuralNetworkRegressor().fit(X[:start], y[:start]).predict(X[part]) if start else 0.0
        found.append(np.square(said - y[part]))
    return np.concatenate(found)


def products(
    seeds: int = 3, worlds: int = 4, returns: int = 8, length: int = 200, prior_tasks: int = 60
) -> dict[str, np.ndarray]:
    """Print errors after a product has come back; each array has the shape (seed, return, row)."""
    family = up.tasks.synthetic.SharedSubspace()
    meta = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear")
    meta.meta_fit(family.sample(prior_tasks, 30, random_state=0))
    found: dict[str, list[np.ndarray]] = {}
    changes = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        turns = list(range(worlds))
        while len(turns) < worlds + returns:
            turns.append(int(rng.choice([world for world in range(worlds) if world != turns[-1]])))
        tasks = family.sample(worlds, length * len(turns), random_state=1000 + seed)
        place = [slice(k * length, (k + 1) * length) for k in range(len(turns))]
        X, y = (
            np.concatenate([getattr(tasks[w], side)[p] for w, p in zip(turns, place, strict=True)]) for side in "Xy"
        )
        online = up.OnlineMetaLearner(meta.learner())
        losses = {
            ONLINE: followed(online, X, y),
            "one learner for ever": followed(meta.adapt_zero(), X, y),
            "told, starts from the prior": np.concatenate([followed(meta.adapt_zero(), X[p], y[p]) for p in place]),
            "told, starts from nothing": np.concatenate([from_nothing(X[p], y[p]) for p in place]),
        }
        for name, loss in losses.items():
            found.setdefault(name, []).append(loss.reshape(len(turns), length)[worlds:])
        borders = np.arange(1, len(turns)) * length
        changes.append([change["at"] for change in online.changes_])
        missed = [b for b in borders if not any(b < at <= b + 50 for at in changes[-1])]
        recalls = sum(change["kind"] == "recall" for change in online.changes_)
        print(
            f"  seed {seed}: {len(borders) - len(missed)} of {len(borders)} changes noticed within 50 rows, "
            f"{len(changes[-1]) - len(borders) + len(missed)} other alarms; {recalls} times a product was recognised ({returns} returns)"
        )
    errors = {name: np.array(values) for name, values in found.items()}
    parts = {"rows 0-9": slice(0, 10), "10-19": slice(10, 20), "20-49": slice(20, 50), "50 and on": slice(50, None)}
    print(
        f"  mean squared error of the rows after a product came back (lowest and highest seed); noise has {family.noise**2:.2f}"
    )
    print(f"    {'':30s}" + "".join(f"{name:22s}" for name in parts))
    for name, values in errors.items():
        cells = [values[:, :, part].mean(axis=(1, 2)) for part in parts.values()]
        print(
            f"    {name:30s}"
            + "".join(f"{c.mean():6.2f} ({c.min():.2f}-{c.max():.2f})".ljust(22) for c in cells).rstrip()
        )
    after = {name: values[:, :, CHUNK:].mean() for name, values in errors.items()}
    best = min((name for name in after if name != ONLINE), key=lambda name: after[name])
    how = "less" if after[ONLINE] < after[best] else "MORE"
    print(f"  After the first {CHUNK} rows, {ONLINE} has {how} error than the best of the others ({best}).")
    return errors


RIVER = {
    "adaptive random forest": lambda: forest.ARFClassifier(n_models=10, seed=0),
    "Hoeffding adaptive tree": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=0),
    "logistic regression": lambda: (
        preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    ),
    "k nearest neighbours": lambda: preprocessing.StandardScaler() | neighbors.KNNClassifier(),
}


def of_river(data) -> tuple[np.ndarray, np.ndarray]:
    """Columns and class numbers of one of river's data sets, in the order of the file."""
    rows = list(data)
    X = np.array([list(x.values()) for x, _ in rows], dtype=float)
    return X, np.unique([str(y) for _, y in rows], return_inverse=True)[1]


def real(
    streams: dict[str, tuple[np.ndarray, np.ndarray]], names: tuple = tuple(RIVER)
) -> dict[tuple[str, str], float]:
    """Print accuracies of test-then-train, a row at a time for everybody."""
    found, seconds = {}, {}
    for stream, (X, y) in streams.items():
        begun = time.perf_counter()
        found[ONLINE, stream] = prequential(up.OnlineMetaLearner(up.ForgetfulClassifier()), chunks(X, y, 1)).total
        seconds[ONLINE, stream] = time.perf_counter() - begun
        found["the label of the row before", stream] = prequential(NoChange(), chunks(X, y, 1)).total
        rows = [{str(j): value for j, value in enumerate(row)} for row in X.tolist()]
        for name in names:
            model, right, begun = RIVER[name](), 0, time.perf_counter()
            for row, label in zip(rows, y.tolist(), strict=True):
                right += model.predict_one(row) == label
                model.learn_one(row, label)
            found[f"river: {name}", stream], seconds[f"river: {name}", stream] = (
                right / len(y),
                time.perf_counter() - begun,
            )
    print(
        f"    {'accuracy (seconds)':32s}"
        + "".join(f"{name + f', {len(y)} rows':34s}" for name, (_, y) in streams.items())
    )
    for name in dict.fromkeys(name for name, _ in found):
        cells = [
            f"{found[name, s]:.3f}" + (f" ({seconds[name, s]:.0f})" if (name, s) in seconds else "") for s in streams
        ]
        print(f"    {name:32s}" + "".join(cell.ljust(34) for cell in cells).rstrip())
    for stream in streams:
        best = max((name for name, s in found if s == stream and name != ONLINE), key=lambda name: found[name, stream])
        gap = found[ONLINE, stream] - found[best, stream]
        print(
            f"  {stream}: {ONLINE} is {abs(gap):.3f} {'above' if gap >= 0 else 'BELOW'} the best of the others ({best})."
        )
    return found


def elec2(rows: int = 5_000) -> None:
    """Half hours of an electricity market: does the price go up? The first ``rows`` of 45,312."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(data) / "streams" / "elec2.csv.gz"
    if not path.exists():
        raise SystemExit(
            f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder that holds streams/."
        )
    table = pd.read_csv(path).iloc[:rows]
    X, y = table.iloc[:, :-1].to_numpy(float), table["target"].to_numpy(int)
    before = np.concatenate([[0], y[:-1]])
    print(
        f"elec2, the first {rows} rows, where the label of the row before is a column that all learners get, and a set of river"
    )
    real({"elec2 + last label": (np.column_stack([X, before]), y), "ImageSegments": of_river(ImageSegments())})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="elec2")
    if parser.parse_args().full:
        elec2()
    else:
        print("A machine that makes four products in turn, made up")
        products()
        print("\nA real stream that comes with river, in the order of its file")
        real({"Phishing": of_river(Phishing())})
