"""Sinusoid regression, the protocol of MAML: rules that are trained by gradients beside each other.

    python benchmarks/sinusoids.py [--steps 20000] [--seeds 3] [rule ...]

y = A sin(x - phase), A even in [0.1, 5], phase in [0, pi], x in [-5, 5]; 10 support rows, 10 query rows in training, 25
tasks a step, new ones in every step; network 1-40-40-1 with ReLU; Adam with a rate falling along a cosine. Test: mean
squared error on 100 further rows of 600 tasks, the same for all. The outer rate is chosen on
600 validation tasks, as inner rates were before. Writes ``sinusoids.md`` beside itself (not for some rules only).
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import upstairs as up
from upstairs.inner.anil import Anil, Boil
from upstairs.inner.context import InContext
from upstairs.inner.descent import SGD
from upstairs.inner.fomaml import FirstOrderMaml
from upstairs.inner.gradient import Maml, Reptile
from upstairs.inner.implicit import ImplicitMaml
from upstairs.inner.maml_plus import MamlPlusPlus
from upstairs.inner.meta_sgd import MetaSGD
from upstairs.inner.traced import Spec, TaskRows, TracedRule
from upstairs.nets import NetSpec
from upstairs.outer.draws import Draw
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.scan import judge
from upstairs.outer.training import Training, train
from upstairs.tasks.synthetic import Sinusoids

HERE = pathlib.Path(__file__).resolve().parent
NET = NetSpec("mlp", (1,), (40, 40), 1)
SPEC = Spec((1,))
SHOTS, TASKS = 10, 600
VALIDATION, TEST = 1001, 1002
"""Seeds of the draws that rules are chosen and judged on; training uses 0, 1, 2."""


@final
@dataclass(frozen=True)
class Waves(Draw):
    """New tasks in every step."""

    batch: int = 25
    queries: int = 10

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        size, turn, place = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), 3)
        amplitude = jax.random.uniform(size, (self.batch, 1), minval=0.1, maxval=5.0)
        phase = jax.random.uniform(turn, (self.batch, 1), maxval=jnp.pi)
        x = jax.random.uniform(place, (self.batch, SHOTS + self.queries), minval=-5.0, maxval=5.0)
        y = amplitude * jnp.sin(x - phase)
        parts = [
            TaskRows(x[:, s, None], y[:, s], jnp.ones(y[:, s].shape, bool)) for s in (slice(SHOTS), slice(SHOTS, None))
        ]
        return jnp.arange(self.batch), parts[0], parts[1]


RULES: dict[str, tuple[TracedRule, tuple[float, ...]]] = {
    "maml": (Maml(NET, steps=1, descent=SGD(0.02)), (3e-3, 1e-2)),
    "fomaml": (FirstOrderMaml(NET, steps=1, descent=SGD(0.02, clip=10.0)), (1e-3, 3e-3)),
    "reptile, 10 steps": (Reptile(NET, steps=10, descent=SGD(0.02, clip=10.0)), (1e-3, 3e-3)),
    "anil": (Anil(NET, steps=1, descent=SGD(0.02)), (3e-3, 1e-2)),
    "boil": (Boil(NET, steps=1, descent=SGD(0.02)), (3e-3, 1e-2)),
    "meta-sgd": (MetaSGD(NET, rate=0.02), (3e-3, 1e-2)),
    "maml++": (MamlPlusPlus(NET, steps=1, rate=0.02), (3e-3, 1e-2)),
    "imaml, 16 steps": (ImplicitMaml(NET, steps=16, regulariser=2.0, descent=SGD(0.05)), (1e-3, 3e-3)),
    "in-context": (InContext(width=32, layers=2, recut=0.0), (3e-3,)),
    "pooled net": (Maml(NET, steps=0), (3e-3,)),
}
"""Rule, and highest outer rates of which the validation tasks choose one, after a fifth of the steps."""
LINEAR = "bayesian linear"
PUBLISHED = {"maml": 0.77, "meta-sgd": 0.53}
"""Meta-SGD paper, table 1, 10 rows and one step."""
NONE = {"none": np.zeros(1, np.float32)}


def learn(rule: TracedRule, rate: float, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Params after so many steps."""
    optimiser = Optimiser("adam", rate, "cosine", steps, warmup=steps // 20, clip=1.0)
    training = Training(steps=steps, rate=rate, optimiser=optimiser if isinstance(rule, InContext) else None)
    return train(rule, SPEC, Waves(), NONE, training, seed=seed).params


def errors(rule: TracedRule, params: Mapping[str, np.ndarray], tasks: int) -> np.ndarray:
    """Mean squared error of each of the tasks."""
    return judge(rule, Waves(batch=100, queries=100), NONE, params, batches=TASKS // 100, seed=tasks)[1]


def tuned(rule: TracedRule, rates: tuple[float, ...], steps: int) -> float:
    """Choose the outer rate; one that fails is out."""
    found = {}
    for rate in rates if len(rates) > 1 else ():
        try:
            found[rate] = float(errors(rule, learn(rule, rate, steps, 0), VALIDATION).mean())
        except up.UpstairsError:
            found[rate] = float("inf")
    return min(found, key=lambda rate: found[rate]) if found else rates[0]


def linear_errors(seed: int) -> np.ndarray:
    """The library's default learner, which has no network, on the same test tasks."""
    meta = up.MetaNeuralNetwork().meta_fit(Sinusoids().sample(2000, SHOTS + 10, random_state=seed))
    found = []
    for number in range(TASKS // 100):
        _, support, query = Waves(batch=100, queries=100)(NONE, np.uint32(TEST), np.uint32(number))
        x, y, x_new, y_new = (np.asarray(part, np.float64) for part in (support.x, support.y, query.x, query.y))
        models = meta.adapt_many(list(zip(x, y, strict=True)))
        found += [
            np.mean((model.predict(new) - true) ** 2) for model, new, true in zip(models, x_new, y_new, strict=True)
        ]
    return np.array(found)


def line(name: str, every: list[np.ndarray], rate: float | None, seconds: float) -> str:
    """Mean over seeds, 95% interval over tasks, lowest and highest seed."""
    means, tasks = [one.mean() for one in every], np.mean(every, axis=0)
    half = 1.96 * tasks.std(ddof=1) / len(tasks) ** 0.5
    return (
        f"| {name} | {np.mean(means):.3f} +- {half:.3f} | {min(means):.3f} to {max(means):.3f} "
        f"| {PUBLISHED.get(name, '')} | {'' if rate is None else rate} | {seconds:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("rules", nargs="*")
    args = parser.parse_args()
    lines = []
    for name in args.rules or [*RULES, LINEAR]:
        begin, rate = time.perf_counter(), None
        if name == LINEAR:
            every = [linear_errors(seed) for seed in range(args.seeds)]
        else:
            rule, rates = RULES[name]
            rate = tuned(rule, rates, args.steps // 5)
            every = [errors(rule, learn(rule, rate, args.steps, seed), TEST) for seed in range(args.seeds)]
        lines.append(line(name, every, rate, time.perf_counter() - begin))
        print(lines[-1], flush=True)
    if args.rules:
        return
    head = [
        "# Sinusoids: 10 support rows, one inner step unless said, 600 test tasks",
        "",
        f"`python benchmarks/sinusoids.py`, {args.steps} steps of 25 new tasks, {args.seeds} seeds; squared error with its 95%",
        "interval over tasks, the range over seeds, and the seconds that the line took, choice of the outer rate included.",
        "",
        "| rule | squared error | seeds | published | outer rate | seconds |",
        "|---|---|---|---|---|---|",
    ]
    (HERE / "sinusoids.md").write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
