"""Families of losses on real rows, for `benchmarks/descent_tasks.py`: what a task is, which tasks are for what, and where steps start.

Data: the folder ``UPSTAIRS_DATA`` (default ``../shared/data``), and scikit-learn's digits.
"""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from sklearn.datasets import load_digits

DATA = pathlib.Path(os.environ.get("UPSTAIRS_DATA", pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"))
HIDDEN, RIDGE = 32, 1e-4
HALVES = 8


class Rows(NamedTuple):
    """Rows of many tasks, padded; weights of a task's rows sum to one."""

    x: Any
    y: Any
    weight: Any


@final
@dataclass(frozen=True)
class Tasks:
    """Rows on which steps are made, and rows on which they are judged too."""

    support: Rows
    query: Rows

    def joined(self, other: Tasks) -> Tasks:
        """Tasks of both."""
        parts = [
            Rows(*(np.concatenate(pair) for pair in zip(one, two, strict=True)))
            for one, two in ((self.support, other.support), (self.query, other.query))
        ]
        return Tasks(*parts)


@final
@dataclass(frozen=True, eq=False)
class Family:
    """Tasks of one form: three parts, the model's start, and its loss."""

    fit: Tasks
    validation: Tasks
    test: Tasks
    start: dict[str, np.ndarray]
    ridge: float = 0.0
    apart: bool = False
    """Whether no row of a test task is one of a training task, so that query rows of training tasks may be learned from."""

    def bare(self, weights: Any, rows: Rows) -> Float[Array, ""]:
        """Mean log loss, exact where it is close to zero."""
        hidden = rows.x
        if "w0" in weights:
            hidden = jax.nn.relu(hidden @ weights["w0"] + weights["b0"])
        logits = hidden @ weights["w"] + weights["b"]
        if logits.shape[-1] == 1:
            against = logits[:, 0] * (1.0 - 2.0 * rows.y)
        else:
            mine = jax.nn.one_hot(rows.y, logits.shape[-1])
            gaps = logits - (logits * mine).sum(axis=-1, keepdims=True)
            against = jax.nn.logsumexp(jnp.where(mine > 0, -jnp.inf, gaps), axis=-1)
        return (rows.weight * jax.nn.softplus(against)).sum()

    def loss(self, weights: Any, rows: Rows) -> Float[Array, ""]:
        """What steps go down."""
        found = self.bare(weights, rows)
        if self.ridge:
            found = found + 0.5 * self.ridge * jnp.square(weights["w"]).sum()
        return found


def packed(tasks: list[tuple[np.ndarray, np.ndarray]], least: int = 0) -> Rows:
    """Pad to equal numbers of rows."""
    most = max(least, *(len(y) for _, y in tasks))
    found = Rows(
        np.zeros((len(tasks), most, tasks[0][0].shape[1]), np.float32),
        np.zeros((len(tasks), most), np.int32),
        np.zeros((len(tasks), most), np.float32),
    )
    for number, (x, y) in enumerate(tasks):
        found.x[number, : len(y)], found.y[number, : len(y)], found.weight[number, : len(y)] = x, y, 1.0 / len(y)
    return found


def made(pairs: list[tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]], least: int = 0) -> Tasks:
    return Tasks(packed([one for one, _ in pairs], least), packed([other for _, other in pairs], least))


def linear(columns: int, outputs: int) -> dict[str, np.ndarray]:
    return {"w": np.zeros((columns, outputs), np.float32), "b": np.zeros(outputs, np.float32)}


def landmine(seed: int) -> Family:
    """29 fields, 8 of them for the test and 5 of the others for validation; half of the rows for the query.

    A field to learn on is several tasks, each another half of its rows.
    """
    table = pd.read_csv(DATA / "task_families" / "landmine.csv.gz")
    rng = np.random.default_rng([seed, 1])
    names = rng.permutation(np.unique(table["task"]))
    x, y, owner = table.filter(regex="^x").to_numpy(), table["target"].to_numpy(), table["task"].to_numpy()
    known = np.isin(owner, names[13:])
    x = (x - x[known].mean(axis=0)) / x[known].std(axis=0)

    def halves(name: Any) -> Any:
        rows = rng.permutation(np.flatnonzero(owner == name))
        half = len(rows) // 2
        return (x[rows[:half]], y[rows[:half]]), (x[rows[half:]], y[rows[half:]])

    held = [halves(name) for name in names[:13]]
    fit = [halves(name) for name in names[13:] for _ in range(HALVES)]
    parts = [made(some, 345) for some in (fit, held[8:], held[:8])]
    return Family(parts[0], parts[1], parts[2], linear(x.shape[1], 1), apart=True)


def clinc(seed: int, ridge: float = 0.0, ways: int = 5, rows: int = 20) -> Family:
    """5 domains to learn on, 2 for validation, 3 for the test; a task is some classes of one domain."""
    file = np.load(DATA / "text" / "minilm128_clinc150.npz", allow_pickle=False)
    table = pd.read_csv(DATA / "text" / "clinc150.csv.gz", keep_default_na=False)
    x = file["x"] * float(file["scale"])
    rng = np.random.default_rng([seed, 2])
    label, domain = table["label"].to_numpy(), table["domain"].to_numpy()
    domains = rng.permutation(np.unique(domain[domain != "oos"]))

    def some(names: Any, each: int) -> Tasks:
        tasks = []
        for name in names:
            classes = np.unique(label[domain == name])
            for _ in range(each):
                chosen = [
                    rng.permutation(np.flatnonzero(label == c))[: 2 * rows] for c in rng.permutation(classes)[:ways]
                ]
                y = np.repeat(np.arange(ways), rows)
                support, query = (np.concatenate([c[s] for c in chosen]) for s in (slice(rows), slice(rows, None)))
                tasks.append(((x[support], y), (x[query], y)))
        return made(tasks)

    return Family(some(domains[5:], 40), some(domains[3:5], 10), some(domains[:3], 10), linear(128, ways), ridge)


def digits(seed: int, by_digit: bool) -> Family:
    """Pairs of digits in both orders; 30 rows a digit for steps and 60 others for the query, the same in every pair."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng([seed, 3])
    x = x / 16.0
    rows = [rng.permutation(np.flatnonzero(y == digit)) for digit in range(10)]

    def some(pairs: Any) -> Tasks:
        tasks = []
        for a, b in [*pairs, *((b, a) for a, b in pairs)]:
            parts = []
            for part in (slice(0, 30), slice(30, 90)):
                one, two = rows[a][part], rows[b][part]
                parts.append((x[np.concatenate([one, two])], np.repeat([0, 1], [len(one), len(two)])))
            tasks.append((parts[0], parts[1]))
        return made(tasks)

    if by_digit:
        inside = rng.permutation(7)
        fit, validation, test = (list(itertools.combinations(of, 2)) for of in (range(7), inside[5:], range(7, 10)))
        held = set(inside[4:].tolist())
        validation = [pair for pair in fit if set(pair) <= held]
        fit = [pair for pair in fit if not set(pair) & held]
    else:
        pairs = [tuple(pair) for pair in rng.permutation(list(itertools.combinations(range(10), 2))).tolist()]
        test, validation, fit = pairs[:12], pairs[12:18], pairs[18:]
    start = {
        "w0": rng.normal(size=(64, HIDDEN)) * (2.0 / 64) ** 0.5,
        "b0": np.zeros(HIDDEN),
        "w": rng.normal(size=(HIDDEN, 2)) * (1.0 / HIDDEN) ** 0.5,
        "b": np.zeros(2),
    }
    begin = {name: array.astype(np.float32) for name, array in start.items()}
    return Family(some(fit), some(validation), some(test), begin, apart=by_digit)


def clinc_ridge(seed: int) -> Family:
    """With a ridge, so that the loss has a lowest point; one with which Adam's query loss on training tasks is good."""
    return clinc(seed, ridge=RIDGE)


FAMILIES: dict[str, tuple[str, Callable[[int], Family]]] = {
    "landmine": ("Landmine fields, logistic regression", landmine),
    "clinc-ridge": (f"CLINC150, softmax regression with a ridge of {RIDGE}", clinc_ridge),
    "pairs": ("Pairs of digits, new pairs, network 64-32-2", lambda seed: digits(seed, False)),
    "new-digits": ("Pairs of digits, new digits, network 64-32-2", lambda seed: digits(seed, True)),
    "clinc": ("CLINC150, softmax regression without a ridge", clinc),
}


def apart(tasks: Tasks) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Support and query rows of every task, without padding."""
    found = []
    for number in range(len(tasks.support.x)):
        real = [(rows, rows.weight[number] > 0) for rows in (tasks.support, tasks.query)]
        found.append([(rows.x[number][some], rows.y[number][some]) for rows, some in real])
    return found
