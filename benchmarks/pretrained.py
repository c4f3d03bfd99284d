"""The update rule that ships: train it on synthetic problems and small nets, and try it on problems it has never seen.

    python benchmarks/pretrained.py [--train] [--steps 840] [--save]

``--train`` learns the rule (about ten minutes of one core; a run that was interrupted goes on from ``--checkpoint``), and
``--save`` puts it in the place that `upstairs.optim.pretrained` reads. Without them the rule that ships is tried. A problem counts
as won if the rule, without any tuning, reaches the loss that Adam has after 200 steps in at most 200 steps; Adam's rate is
the best of a grid on that very problem. Losses are those of all rows, also where steps see mini-batches; three seeds draw starts and
batches. Writes ``pretrained.md`` beside itself.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import random
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_friedman1

import upstairs as up
from upstairs.optim import Objective, Problems

HERE = pathlib.Path(__file__).resolve().parent
STEPS, SEEDS = 200, 3
RATES = tuple(10.0 ** (power / 3) for power in range(-12, 2))


# --- what it is trained on: nothing here is a real data set ----------------------------------------------------------
def layers(key: Any, sizes: tuple[int, ...]) -> dict[str, Any]:
    weights = {}
    for number, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weights[f"w{number}"] = random.normal(random.fold_in(key, number), (rows, columns)) / np.sqrt(rows)
        weights[f"b{number}"] = jnp.zeros(columns)
    return weights


def forward(weights: Any, x: Any, bend: Callable[[Any], Any]) -> Any:
    depth = len(weights) // 2
    for number in range(depth):
        x = x @ weights[f"w{number}"] + weights[f"b{number}"]
        x = bend(x) if number < depth - 1 else x
    return x


def log_loss(logits: Any, labels: Any) -> Any:
    return (jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]).mean()


def quadratics(size: int) -> Problems:
    """Bowls with curvatures spread over up to five powers of ten."""

    def sample(key: Any) -> Any:
        turn, curve, spread, point = random.split(key, 4)
        axes = jnp.linalg.qr(random.normal(turn, (size, size)))[0]
        wide = random.uniform(spread, minval=0.0, maxval=5.0)
        curvature = 10.0 ** (wide * (random.uniform(curve, (size,)) - 0.5))
        return {"matrix": (axes * curvature) @ axes.T, "point": random.normal(point, (size,))}

    def loss(w: Any, data: Any) -> Any:
        away = w - data["point"]
        return 0.5 * away @ data["matrix"] @ away

    return Problems(loss, sample=sample, start=lambda key: random.normal(key, (size,)))


def rows_of(key: Any, rows: int, columns: int) -> Any:
    """Columns of unlike scales that are correlated."""
    one, two, three = random.split(key, 3)
    mix = random.normal(one, (columns, columns)) / np.sqrt(columns)
    scale = jnp.exp(0.7 * random.normal(two, (columns,)))
    return random.normal(three, (rows, columns)) @ mix * scale


def regressions(columns: int, classes: int, rows: int, batch: int | None) -> Problems:
    """Softmax regression on labels of a noisy linear teacher, with a small penalty."""

    def sample(key: Any) -> Any:
        here, teach, noise = random.split(key, 3)
        x = rows_of(here, rows, columns)
        score = x @ random.normal(teach, (columns, classes)) * 2.0 + random.gumbel(noise, (rows, classes))
        return {"x": x, "y": score.argmax(axis=1)}

    def loss(w: Any, data: Any, key: Any) -> Any:
        x, y = data["x"], data["y"]
        if batch is not None:
            some = random.randint(key, (batch,), 0, rows)
            x, y = x[some], y[some]
        return log_loss(x @ w["w"] + w["b"], y) + 1e-3 * jnp.square(w["w"]).sum()

    start = {"w": jnp.zeros((columns, classes)), "b": jnp.zeros(classes)}
    return Problems(loss, sample=sample, start=start)


def networks(
    sizes: tuple[int, ...], rows: int, batch: int | None, bend: Callable[[Any], Any], labels: bool
) -> Problems:
    """Small nets on labels or numbers of a teacher net."""

    def sample(key: Any) -> Any:
        here, teach, noise = random.split(key, 3)
        x = rows_of(here, rows, sizes[0])
        told = 3.0 * forward(layers(teach, (sizes[0], 16, sizes[-1])), x, jnp.tanh)
        if labels:
            return {"x": x, "y": (told + random.gumbel(noise, told.shape)).argmax(axis=1)}
        return {"x": x, "y": told + 0.1 * random.normal(noise, told.shape)}

    def loss(w: Any, data: Any, key: Any) -> Any:
        x, y = data["x"], data["y"]
        if batch is not None:
            some = random.randint(key, (batch,), 0, rows)
            x, y = x[some], y[some]
        out = forward(w, x, bend)
        return log_loss(out, y) if labels else jnp.square(out - y).mean()

    return Problems(loss, sample=sample, start=lambda key: layers(key, sizes))


def valleys(size: int) -> Problems:
    """Curved valleys of a random width."""

    def sample(key: Any) -> Any:
        return {"wall": 10.0 ** random.uniform(key, minval=0.0, maxval=1.5)}

    def loss(w: Any, data: Any) -> Any:
        return (data["wall"] * jnp.square(w[1:] - w[:-1] ** 2) + 0.3 * jnp.square(1.0 - w[:-1])).mean()

    return Problems(loss, sample=sample, start=lambda key: 0.5 * random.normal(key, (size,)))


def training_families() -> list[Problems]:
    return [
        quadratics(10),
        valleys(4),
        regressions(8, 3, 96, None),
        regressions(16, 4, 256, 32),
        networks((6, 16, 3), 96, None, jax.nn.relu, labels=True),
        networks((8, 16, 1), 96, None, jnp.tanh, labels=False),
        networks((12, 20, 12, 4), 256, 32, jax.nn.relu, labels=True),
    ]


def learn(steps: int, batch: int, checkpoint: str | None) -> up.MetaGradientDescent:
    def tell(event: Any) -> None:
        if event.kind == "validation":
            print(
                f"{event.seconds:7.0f} s  step {event.step}: {event.loss:.3f}, held out {event.validation}", flush=True
            )

    meta = up.MetaGradientDescent(
        "network",
        steps=STEPS,
        objective=Objective("mean", "log"),
        shortest=STEPS // 4,
        rescale=3.0,
        training=up.Training(
            steps=steps,
            rate=7e-4,
            batch=batch,
            task_clip=0.3,
            validate_every=90,
            patience=None,
            checkpoint=checkpoint,
            callback=tell,
        ),
    )
    return meta.meta_fit(training_families())


# --- what it is tried on ---------------------------------------------------------------------------------------------
class Trial(NamedTuple):
    name: str
    start: Callable[[Any], Any]
    loss: Callable[[Any, Any, Any], Any]
    """Of weights and rows; the rows of a step, or all."""
    x: np.ndarray
    y: np.ndarray
    batch: int | None = None


def scaled(x: np.ndarray) -> np.ndarray:
    return ((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)).astype(np.float32)


def image_net(weights: Any, x: Any) -> Any:
    images = x.reshape(-1, 8, 8, 1)
    seen = jax.lax.conv_general_dilated(
        images, weights["filter"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(seen + weights["shift"]).reshape(len(x), -1) @ weights["w"] + weights["b"]


def image_loss(w: Any, x: Any, y: Any) -> Any:
    return log_loss(image_net(w, x), y)


def image_start(key: Any) -> Any:
    one, two = random.split(key)
    return {
        "filter": random.normal(one, (3, 3, 1, 8)) / 3.0,
        "shift": jnp.zeros(8),
        "w": random.normal(two, (128, 10)) / np.sqrt(128.0),
        "b": jnp.zeros(10),
    }


def zeros(*shape: int) -> Callable[[Any], Any]:
    return lambda key: {"w": jnp.zeros(shape), "b": jnp.zeros(shape[-1])}


def net_start(*sizes: int) -> Callable[[Any], Any]:
    return lambda key: layers(key, sizes)


def linear(w: Any, x: Any, y: Any) -> Any:
    return log_loss(x @ w["w"] + w["b"], y)


def net_labels(bend: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda w, x, y: log_loss(forward(w, x, bend), y)


def net_numbers(bend: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda w, x, y: jnp.square(forward(w, x, bend) - y).mean()


def own_code(w: Any, x: Any, y: Any) -> Any:
    return jnp.square(forward(w, x, jnp.tanh) - x).sum(axis=1).mean()


def rosenbrock(w: Any, x: Any, y: Any) -> Any:
    return (100.0 * jnp.square(w[1:] - w[:-1] ** 2) + jnp.square(1.0 - w[:-1])).sum()


def factors(w: Any, x: Any, y: Any) -> Any:
    return jnp.square(w["rows"] @ w["columns"] - x).mean()


def factors_start(key: Any) -> Any:
    one, two = random.split(key)
    return {"rows": 0.1 * random.normal(one, (150, 6)), "columns": 0.1 * random.normal(two, (6, 64))}


NONE = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)


def quadratic(size: int, seed: int, spread: float) -> Callable[..., Any]:
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(size, size)) * 10.0 ** (-spread * rng.random(size))).astype(np.float32)
    point = rng.normal(size=size).astype(np.float32)
    return lambda w, x, y: jnp.square(matrix @ w - point).sum()


def pixels() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return (digits.data / 16.0).astype(np.float32), digits.target


def development() -> list[Trial]:
    """Ten problems that the settings of the training were chosen by."""
    cancer, wine, sugar = load_breast_cancer(), load_wine(), load_diabetes()
    x, y = pixels()
    tanh, relu = jnp.tanh, jax.nn.relu
    return [
        Trial("quadratic, 100 dimensions", lambda key: random.normal(key, (100,)), quadratic(100, 1, 0.0), *NONE),
        Trial("Rosenbrock, 10 dimensions", lambda key: 0.5 * random.normal(key, (10,)), rosenbrock, *NONE),
        Trial("breast cancer, logistic, all rows", zeros(30, 2), linear, scaled(cancer.data), cancer.target),
        Trial(
            "wine, MLP 13-32-3 tanh, all rows", net_start(13, 32, 3), net_labels(tanh), scaled(wine.data), wine.target
        ),
        Trial(
            "diabetes, MLP 10-32-1 ReLU, all rows",
            net_start(10, 32, 1),
            net_numbers(relu),
            scaled(sugar.data),
            scaled(sugar.target[:, None]),
        ),
        Trial("digits, softmax, all rows", zeros(64, 10), linear, x, y),
        Trial("digits, softmax, batches of 64", zeros(64, 10), linear, x, y, 64),
        Trial("digits, MLP 64-64-10 ReLU, batches of 64", net_start(64, 64, 10), net_labels(relu), x, y, 64),
        Trial("digits, small convolutional net, batches of 64", image_start, image_loss, x, y, 64),
        Trial("digits, autoencoder 64-16-64 tanh, batches of 64", net_start(64, 16, 64), own_code, x, y, 64),
    ]


def trials() -> list[Trial]:
    """Ten other problems, run once, when all was settled."""
    cancer, wine, sugar, iris = load_breast_cancer(), load_wine(), load_diabetes(), load_iris()
    x, y = pixels()
    tanh, relu, wave = jnp.tanh, jax.nn.relu, jax.nn.gelu
    friedman = make_friedman1(400, noise=0.5, random_state=0)
    lungs = scaled(cancer.data)
    return [
        Trial("quadratic, 40 dimensions, uneven", lambda key: random.normal(key, (40,)), quadratic(40, 2, 2.0), *NONE),
        Trial("digits, 150 x 64 in 6 factors", factors_start, factors, x[:150], y[:150]),
        Trial("iris, softmax, all rows", zeros(4, 3), linear, scaled(iris.data), iris.target),
        Trial(
            "breast cancer, MLP 30-24-2 tanh, all rows", net_start(30, 24, 2), net_labels(tanh), lungs, cancer.target
        ),
        Trial("wine, softmax, batches of 32", zeros(13, 3), linear, scaled(wine.data), wine.target, 32),
        Trial(
            "Friedman's function, MLP 10-24-24-1 tanh, all rows",
            net_start(10, 24, 24, 1),
            net_numbers(tanh),
            scaled(friedman[0]),
            scaled(friedman[1][:, None]),
        ),
        Trial(
            "diabetes, MLP 10-32-1 GELU, batches of 32",
            net_start(10, 32, 1),
            net_numbers(wave),
            scaled(sugar.data),
            scaled(sugar.target[:, None]),
            32,
        ),
        Trial("digits even or odd, MLP 64-32-2 ReLU, all rows", net_start(64, 32, 2), net_labels(relu), x, y % 2),
        Trial("digits, MLP 64-48-48-10 GELU, batches of 32", net_start(64, 48, 48, 10), net_labels(wave), x, y, 32),
        Trial(
            "breast cancer, MLP 30-64-2 ReLU, batches of 64",
            net_start(30, 64, 2),
            net_labels(relu),
            lungs,
            cancer.target,
            64,
        ),
    ]


def runs(trial: Trial, make: Callable[[Any], optax.GradientTransformation], values: Any) -> np.ndarray:
    """Losses of all rows before and after every step, for a rule made of each of some values: (value, seed, step)."""
    x, y = jnp.asarray(trial.x), jnp.asarray(trial.y)

    def one(value: Any, key: Any) -> Any:
        rule, weights = make(value), trial.start(key)

        def step(carry: Any, number: Any) -> Any:
            weights, state = carry
            whole = trial.loss(weights, x, y)
            here = x, y
            if trial.batch is not None:
                some = random.randint(random.fold_in(key, number), (trial.batch,), 0, len(x))
                here = x[some], y[some]
            gradient = jax.grad(trial.loss)(weights, *here)
            update, state = rule.update(gradient, state, weights)
            return (optax.apply_updates(weights, update), state), whole

        (weights, _), losses = jax.lax.scan(step, (weights, rule.init(weights)), jnp.arange(STEPS))
        return jnp.append(losses, trial.loss(weights, x, y))

    seeds = jax.vmap(one, (None, 0))
    found = jax.jit(jax.vmap(seeds, (0, None)))(values, random.split(random.key(7), SEEDS))
    return np.where(np.isfinite(found), found, np.inf)


def best_adam(trial: Trial) -> tuple[float, np.ndarray]:
    """The best rate of the grid on this problem, and its runs."""
    found = runs(trial, lambda rate: optax.chain(optax.scale_by_adam(), optax.scale(-rate)), jnp.asarray(RATES))
    best = int(found[:, :, -1].mean(axis=1).argmin())
    return RATES[best], found[best]


def overhead(rule: optax.GradientTransformation) -> float:
    """Microseconds of one update of a 64-64-10 net's weights, beside the same loop with Adam."""
    weights = layers(random.key(0), (64, 64, 10))

    def seconds(rule: optax.GradientTransformation) -> float:
        @jax.jit
        def many(weights: Any) -> Any:
            def step(carry: Any, _: None) -> Any:
                weights, state = carry
                update, state = rule.update(weights, state, weights)
                return (optax.apply_updates(weights, update), state), None

            return jax.lax.scan(step, (weights, rule.init(weights)), None, length=1000)[0][0]

        jax.block_until_ready(many(weights))
        found = []
        for _ in range(5):
            clock = time.perf_counter()
            jax.block_until_ready(many(weights))
            found.append(time.perf_counter() - clock)
        return float(np.median(found))

    return 1000.0 * (seconds(rule) - seconds(optax.adam(1e-3)))


def table(rule: optax.GradientTransformation, some: list[Trial]) -> list[str]:
    lines = [
        "| problem | start | Adam, tuned | its rate | learned rule (worst seed) | won | steps to Adam's loss |",
        "|---|---|---|---|---|---|---|",
    ]
    won = 0
    for trial in some:
        rate, adam = best_adam(trial)
        own = runs(trial, lambda _: rule, jnp.zeros(1))[0]
        there = adam[:, -1].mean()
        reached = np.flatnonzero(own.mean(axis=0) <= there)
        won += len(reached) > 0
        said = ("yes", str(reached[0])) if len(reached) else ("no", "-")
        last = f"{own[:, -1].mean():.3g} ({own[:, -1].max():.2g})"
        lines.append(
            f"| {trial.name} | {adam[:, 0].mean():.3g} | {there:.3g} | {rate:.2g} | {last} | {said[0]} | {said[1]} |"
        )
        print(lines[-1], flush=True)
    return [*lines, "", f"{won} of {len(some)} won."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--steps", type=int, default=840)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--checkpoint")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    said = ""
    if given.train:
        meta = learn(given.steps, given.batch, given.checkpoint)
        said = "Learned as: " + meta.prior_.settings["choice"] + ".\n"
        if given.save:
            up.save(meta, up.optim.PRETRAINED)
        rule = meta.transformation()
    else:
        rule = up.optim.pretrained()
    text = [
        "# The update rule that ships",
        "",
        (__doc__ or "").split("``--train``")[1].split("A problem counts", 1)[1].strip(),
    ]
    text[-1] = "A problem counts " + " ".join(text[-1].split()).removesuffix(" Writes ``pretrained.md`` beside itself.")
    text += ["", said, "## Ten problems that played no part in anything", "", *table(rule, trials()), ""]
    text += ["## Ten problems that the settings of the training were chosen by", "", *table(rule, development()), ""]
    text.append(f"One update of a 64-64-10 net costs {overhead(rule):.0f} microseconds more than Adam's (one core).")
    (HERE / "pretrained.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
