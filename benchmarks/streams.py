"""Streams, test-then-train: one setting for all of them, beside river's learners; speed and memory.

    python benchmarks/streams.py [mixture] [worlds] [river] [speed] [page]

Each part keeps its figures in ``streams.json`` beside itself; ``streams.md`` is written from all that are there. Data:
``$UPSTAIRS_DATA/streams``, in time order. Elec2 has 45,312 half hours, NOAA weather 18,159 days; wbf_insects is spliced into 20
blocks of 2,000 rows whose context alternates, and nobody is told where they begin.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd

from upstairs.inner.recursive import linear_learn, linear_predict, linear_start, recursive_params
from upstairs.inner.recursive_logistic import logistic_learn, logistic_params, logistic_predict, logistic_start
from upstairs.online.forgetful import ForgetfulClassifier
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.stream import chunks, prequential

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", HERE.parent.parent / "shared" / "data")) / "streams"
BLOCKS, BLOCK, FIRST = 20, 2000, 100
RIVER = {
    "adaptive random forest (10)": lambda river: river.forest.ARFClassifier(n_models=10, seed=0),
    "Hoeffding adaptive tree": lambda river: river.tree.HoeffdingAdaptiveTreeClassifier(seed=0),
    "logistic regression": lambda river: (
        river.preprocessing.StandardScaler()
        | river.multiclass.OneVsRestClassifier(river.linear_model.LogisticRegression())
    ),
    "k nearest neighbours": lambda river: river.preprocessing.StandardScaler() | river.neighbors.KNNClassifier(),
}


def streams() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Columns and class numbers; ``+ last label`` has the label of the row before as a column, for everybody."""
    found = {}
    for name in ("elec2", "noaa_weather"):
        table = pd.read_csv(DATA / f"{name}.csv.gz")
        x, y = table.iloc[:, :-1].to_numpy(float), table["target"].to_numpy(int)
        found[name] = x, y
        found[f"{name} + last label"] = np.column_stack([x, np.concatenate([[0], y[:-1]])]), y
    insects = pd.read_csv(DATA / "wbf_insects.csv.gz")
    contexts = [part for _, part in insects.groupby("context")]
    blocks = [contexts[b % 2].iloc[b // 2 * BLOCK : (b // 2 + 1) * BLOCK] for b in range(BLOCKS)]
    spliced = pd.concat(blocks)
    found["wbf_insects, spliced"] = (
        spliced[["wbf"]].to_numpy(float),
        np.unique(spliced["target"], return_inverse=True)[1],
    )
    return found


def scores(right: np.ndarray, name: str) -> dict[str, float]:
    """Accuracy on the whole stream, and in the first rows of the blocks of a spliced one (the first block left out)."""
    found = {"accuracy": float(right.mean())}
    if "spliced" in name:
        found["first rows"] = float(right.reshape(BLOCKS, BLOCK)[1:, :FIRST].mean())
    return found


def keep(part: str, key: str, value: object) -> None:
    """Write one figure beside the script."""
    path = HERE / "streams.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures.setdefault(part, {})[key] = value
    path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    print(part, key, value, flush=True)


def run_river() -> None:
    """River's learners with their own defaults, a row at a time."""
    import river
    from river import forest, linear_model, multiclass, neighbors, preprocessing, tree  # noqa: F401

    for name, (x, y) in streams().items():
        keep("accuracy", f"{name} | no change", scores(np.concatenate([[False], y[1:] == y[:-1]]), name))
        rows = [{str(j): value for j, value in enumerate(row)} for row in x.tolist()]
        for learner, make in RIVER.items():
            model, right, begun = make(river), np.zeros(len(y), dtype=bool), time.process_time()
            for i, (row, label) in enumerate(zip(rows, y.tolist(), strict=True)):
                right[i] = model.predict_one(row) == label
                model.learn_one(row, label)
            found = scores(right, name) | {"seconds": round(time.process_time() - begun, 1)}
            keep("accuracy", f"{name} | river {river.__version__}: {learner}", found)


def run_mixture() -> None:
    """One setting, that of the class, a row at a time and (where no column tells labels within it) in chunks of 48 rows."""
    for name, (x, y) in streams().items():
        for rows in (1,) if "last label" in name else (1, 48):
            result = prequential(ForgetfulClassifier(), chunks(x, y, rows))
            label = "forgetful mixture" if rows == 1 else f"forgetful mixture, chunks of {rows}"
            found = scores(result.loss == 0.0, name) | {"seconds": round(result.seconds, 1)}
            keep("accuracy", f"{name} | {label}", found)


def run_worlds() -> None:
    """Worlds that are recalled, each a forgetful mixture, beside one mixture that forgets: one setting, that of the class."""
    for name, (x, y) in streams().items():
        model = OnlineMetaLearner(ForgetfulClassifier())
        result = prequential(model, chunks(x, y, 1))
        found = scores(result.loss == 0.0, name) | {"seconds": round(result.seconds, 1)}
        found |= {"changes": len(model.changes_), "drift": round(model.drift_, 3)}
        if "spliced" in name:
            found["changes at"] = [f"{change['at']}: {change['kind']} {change['world']}" for change in model.changes_]
        keep("accuracy", f"{name} | OnlineMetaLearner of mixtures", found)


def rows_a_second(learn: Callable[[np.ndarray, np.ndarray], None], x: np.ndarray, y: np.ndarray, rows: int) -> int:
    """Predict and learn a stream in chunks; the best of three."""
    best = np.inf
    for _ in range(3):
        begun = time.process_time()
        for first in range(0, len(y), rows):
            learn(x[first : first + rows], y[first : first + rows])
        best = min(best, time.process_time() - begun)
    return round(len(y) / best)


def run_speed() -> None:
    """Rows a second (processor time) with 20 columns and a level, and memory over a million rows."""
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(100_000), rng.standard_normal((100_000, 20))])
    score = x @ rng.standard_normal(21)
    y, label = score[:, None] + rng.standard_normal((100_000, 1)), (score + rng.logistic(size=100_000) > 0).astype(int)
    linear = recursive_params(np.zeros((21, 1)), np.eye(21), 1.0, np.array([0.999]))
    logistic = logistic_params(np.zeros((21, 1)), np.eye(21), np.array([0.999]))
    state = {"linear": linear_start(linear), "logistic": logistic_start(logistic)}

    def least_squares(x: np.ndarray, y: np.ndarray) -> None:
        linear_predict(linear, state["linear"], x)
        state["linear"] = linear_learn(linear, state["linear"], x, y)

    def logits(x: np.ndarray, y: np.ndarray) -> None:
        logistic_predict(logistic, state["logistic"], x)
        state["logistic"] = logistic_learn(logistic, state["logistic"], x, y)

    for name, learn, target in (("least squares", least_squares, y), ("logistic", logits, label)):
        keep("speed", f"{name}, chunks of 100", rows_a_second(learn, x, target, 100))
        keep("speed", f"{name}, one by one", rows_a_second(learn, x[:20_000], target[:20_000], 1))
    model = ForgetfulClassifier().partial_fit(x[:100, 1:], label[:100])

    def mixture(x: np.ndarray, y: np.ndarray) -> None:
        model.predict_proba(x[:, 1:])
        model.partial_fit(x[:, 1:], y)

    keep(
        "speed",
        "forgetful mixture (18 experts), chunks of 100",
        rows_a_second(mixture, x[:10_000], label[:10_000], 100),
    )
    keep("speed", "forgetful mixture (18 experts), one by one", rows_a_second(mixture, x[:500], label[:500], 1))
    held = np.zeros(10)
    tracemalloc.start()
    for k in range(len(held)):
        for _ in range(1000):
            first = int(rng.integers(0, 99_900))
            least_squares(x[first : first + 100], y[first : first + 100])
            logits(x[first : first + 100], label[first : first + 100])
        held[k] = tracemalloc.get_traced_memory()[0] / 1024
    tracemalloc.stop()
    for k, size in enumerate(held):
        keep("memory", f"{(k + 1) * 100_000:,}", round(float(size), 1))


def write_page() -> None:
    """The page of all figures that are there."""
    figures = json.loads((HERE / "streams.json").read_text())
    lines = ["# Streams, test-then-train", "", TEXT, ""]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for key, value in figures["accuracy"].items():
        name, learner = key.split(" | ")
        table.setdefault(learner, {})[name] = value
    names = list(streams())
    lines += [
        "| accuracy | " + " | ".join(names) + f" | first {FIRST} rows of a block |",
        "|---" * (len(names) + 2) + "|",
    ]
    for learner, row in sorted(table.items(), key=lambda item: -item[1].get("elec2", {"accuracy": 0.0})["accuracy"]):
        cells = [f"{row[name]['accuracy']:.4f}" if name in row else "" for name in names]
        cells.append(f"{row[names[-1]]['first rows']:.4f}" if names[-1] in row else "")
        lines.append(f"| {learner} | " + " | ".join(cells) + " |")
    lines += ["", "| rows a second, 20 features, one core | |", "|---|---|"]
    lines += [f"| {name} | {value:,} |" for name, value in figures.get("speed", {}).items()]
    lines += ["", "| rows seen | kB allocated since the start, states of both learners included |", "|---|---|"]
    memory = figures.get("memory", {}).items()
    lines += [f"| {rows} | {size} |" for rows, size in sorted(memory, key=lambda item: int(item[0].replace(",", "")))]
    (HERE / "streams.md").write_text("\n".join(lines) + "\n")


TEXT = """`python benchmarks/streams.py`. Every row is predicted and then learned. One setting, the default of `ForgetfulClassifier`, for
all streams; river's learners with river's own defaults, in the same script and with the same columns (logistic regression and neighbours on
standardised columns). `+ last label`: the label of the row before is a column, for everybody.

The setting was chosen on the first 20 % of Elec2 and of NOAA weather and the first 4 to 6 % of wbf_insects as it comes (one
context), by accuracy and log loss there: least squares against logistic experts, maps, width of the Fourier features, rates, share,
sharpness. No total was looked at. The prefixes are part of the scored streams: the rule saw them, though not their totals.

wbf_insects is spliced into 20 blocks of 2,000 rows of alternating context, borders unknown; the last column is the accuracy in the
first 100 rows of the blocks 2 to 20. The mixture has no memory of worlds: it learns each again. `OnlineMetaLearner(ForgetfulClassifier())`,
with its default setting, puts a contest of worlds beside it: mixtures that forget nothing, one a world, recalled when they predict better.
That it needs both, and its chunk of 10 rows, was seen on the first 6 of the 20 blocks; hazard, recall and temper are those of the
class, which were set on synthetic streams."""

PARTS: dict[str, Callable[[], None]] = {
    "mixture": run_mixture,
    "worlds": run_worlds,
    "river": run_river,
    "speed": run_speed,
    "page": write_page,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
