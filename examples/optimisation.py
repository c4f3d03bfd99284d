"""Learn how to descend, on a family of losses, and train new ones in fewer steps.

    python examples/optimisation.py            # small networks on made-up curves, about half a minute
    python examples/optimisation.py --full     # landmine fields, about a minute; needs the folder of UPSTAIRS_DATA

Somebody fits the same kind of model again and again: here a network with 16 hidden units to 20 points of a curve, thousands of
curves. An update rule that was learned on some of them (`upstairs.MetaGradientDescent`) meets others that it has not seen, beside
SGD with momentum and Adam, whose rate (and momentum) are the best of a grid on losses of the same family. It goes on after the
steps that it was learned for, too. L-BFGS with a line search stands there because it is what one would take for losses
without noise; its steps cost several evaluations of the loss.

Then two trainings of one's own, in Equinox and Flax, with the rule that ships (`upstairs.optim.pretrained`): a learned rule is a
plain Optax transformation. With Matplotlib installed, ``--picture FILE`` draws the curves.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import upstairs as up

HIDDEN, POINTS = 16, 20
LEARNED = "learned rule"
RATES = tuple(10.0 ** (power / 4) for power in range(-12, 5))


# --- a family of losses -------------------------------------------------------------------------------------------------
def curve(key: Any) -> dict[str, Any]:
    """Draw the points of a curve: a wave of its own height, phase and frequency."""
    keys = jax.random.split(key, 4)
    x = jax.random.uniform(keys[0], (POINTS,), minval=-2.0, maxval=2.0)
    height = jax.random.uniform(keys[1], minval=0.5, maxval=2.0)
    phase = jax.random.uniform(keys[2], maxval=2 * jnp.pi)
    frequency = jax.random.uniform(keys[3], minval=1.0, maxval=3.0)
    return {"x": x, "y": height * jnp.sin(frequency * x + phase)}


def network_start(key: Any) -> dict[str, Any]:
    """Draw first weights."""
    one, two, three = jax.random.split(key, 3)
    return {
        "in": jax.random.normal(one, (HIDDEN,)),
        "bias": jax.random.normal(two, (HIDDEN,)),
        "out": jax.random.normal(three, (HIDDEN,)) / HIDDEN**0.5,
    }


def network_loss(weights: Any, data: Any) -> Any:
    """Mean squared error of the network on the points."""
    hidden = jnp.tanh(data["x"][:, None] * weights["in"] + weights["bias"])
    return jnp.square(hidden @ weights["out"] - data["y"]).mean()


# --- learned and tuned ---------------------------------------------------------------------------------------------------
def curves_of(rule: Any, loss: Callable, data: Any, starts: Any, steps: int) -> np.ndarray:
    """Losses (problem, step) of many trainings with one rule, side by side."""
    one = lambda data, start: up.optim.run(rule, lambda weights: loss(weights, data), start, steps)[1]  # noqa: E731
    return np.asarray(jax.jit(jax.vmap(one))(data, starts))


def lbfgs_curves(loss: Callable, data: Any, starts: Any, steps: int) -> np.ndarray:
    """The same of L-BFGS with its line search."""

    def one(data: Any, start: Any) -> Any:
        rule, value = optax.lbfgs(), lambda weights: loss(weights, data)
        slope = optax.value_and_grad_from_state(value)

        def step(carry: Any, _: None) -> Any:
            weights, state = carry
            height, gradient = slope(weights, state=state)
            updates, state = rule.update(gradient, state, weights, value=height, grad=gradient, value_fn=value)
            return (optax.apply_updates(weights, updates), state), height

        (weights, _), losses = jax.lax.scan(step, (start, rule.init(start)), None, length=steps)
        return jnp.append(losses, value(weights))

    return np.asarray(jax.jit(jax.vmap(one))(data, starts))


def geometric(losses: np.ndarray) -> np.ndarray:
    """Geometric mean over problems; losses that are no numbers count as ten thousand."""
    return np.exp(np.log(np.nan_to_num(np.clip(losses, 1e-12, 1e4), nan=1e4)).mean(axis=0))


def tuned(loss: Callable, data: Any, starts: Any, steps: int, rates: tuple = RATES) -> dict[str, Any]:
    """SGD with momentum and Adam, each with what is best on these losses after so many steps."""

    def best(make: Callable, grid: list[tuple]) -> tuple[float, ...]:
        def final(numbers: Any) -> Any:  # one program for the whole grid
            rule = make(*numbers)
            one = lambda data, start: up.optim.run(rule, lambda w: loss(w, data), start, steps)[1][-1]  # noqa: E731
            return jax.vmap(one)(data, starts)

        score = geometric(np.asarray(jax.jit(lambda grid: jax.lax.map(final, grid))(jnp.array(grid))).T)
        return grid[int(score.argmin())]

    rate, momentum = best(optax.sgd, list(itertools.product(rates, (0.5, 0.9))))
    sgd = f"SGD, rate {rate:.2g}, momentum {momentum}", optax.sgd(rate, momentum)
    (rate,) = best(optax.adam, [(rate,) for rate in rates])
    return dict([sgd, (f"Adam, rate {rate:.2g}", optax.adam(rate))])


def learned(
    problems: up.optim.Problems, steps: int, outer: int, *, batch: int = 16, seed: int = 0, rule: str = "network"
):
    """Learn an update rule."""
    training = up.Training(steps=outer, batch=batch, rate=0.01, validate_every=max(1, outer // 4), patience=None)
    meta = up.MetaGradientDescent(rule, steps=steps, training=training, random_state=seed)
    return meta.meta_fit(problems)


def race(
    rules: dict[str, Any], loss: Callable, data: Any, starts: Any, steps: int, looks: tuple
) -> dict[str, np.ndarray]:
    """Curves of every rule and of L-BFGS on losses that nothing was learned or chosen on; geometric means at ``looks``."""
    found = {name: curves_of(rule, loss, data, starts, steps) for name, rule in rules.items()}
    found["L-BFGS, line search"] = lbfgs_curves(loss, data, starts, steps)
    number = len(next(iter(found.values())))
    print(
        f"  geometric mean of {number} unseen losses after so many steps, and the share that is lower than Adam's at the end"
    )
    print(f"    {'':28s}" + "".join(f"{look:>9d}" for look in looks))
    adam = next(values for name, values in found.items() if name.startswith("Adam"))
    for name, values in found.items():
        cells = "".join(f"{value:9.2g}" for value in geometric(values)[list(looks)])
        share = "" if values is adam else f"   {100 * np.mean(values[:, looks[-1]] < adam[:, looks[-1]]):3.0f} %"
        print(f"    {name:28s}{cells}{share}")
    return found


def verdict(found: dict[str, np.ndarray], steps: int) -> float:
    """Say how the worst training of a learned rule stands beside the better of the tuned ones; the ratio of losses."""
    ours = max(geometric(values)[steps] for name, values in found.items() if name.startswith(LEARNED))
    plain = min(geometric(values)[steps] for name, values in found.items() if name.startswith(("SGD", "Adam")))
    print(
        f"  After {steps} steps the learned rule (worst training) has {ours / plain:.2g} times the loss of the better tuned one."
    )
    return float(ours / plain)


def curves(
    steps: int = 40, outer: int = 100, seeds: int = 2, test: int = 100, rates: tuple = RATES, picture: str | None = None
) -> float:
    """Learn on random curves, race on others; the ratio of losses after the steps that were learned."""
    print(f"Networks on curves: {steps} steps learned, {outer} outer steps, {seeds} trainings")
    problems = up.optim.Problems(network_loss, sample=curve, start=network_start)
    known, new = jax.random.split(jax.random.key(1))

    def drawn(key: Any, number: int) -> Any:
        one, two = jax.random.split(key)
        return jax.vmap(curve)(jax.random.split(one, number)), jax.vmap(network_start)(jax.random.split(two, number))

    begun = time.perf_counter()
    rules = {}
    for seed in range(seeds):
        rules[f"{LEARNED}, training {seed}"] = learned(problems, steps, outer, seed=seed).transformation()
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    rules |= tuned(network_loss, *drawn(known, 200), steps, rates)
    print(f"  learning took {seconds / seeds:.0f} s a training, tuning {time.perf_counter() - begun:.0f} s")
    looks = (0, steps // 4, steps // 2, steps, 3 * steps)
    found = race(rules, network_loss, *drawn(new, test), 3 * steps, looks)
    if picture is not None:
        draw(found, picture, steps)
    return verdict(found, steps)


def draw(found: dict[str, np.ndarray], path: str, steps: int) -> None:
    """Draw the curves, if Matplotlib is installed."""
    try:
        import matplotlib
    except ImportError:
        print("  No picture: Matplotlib is not installed (pip install 'upstairs[plot]').")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    for name, values in found.items():
        axes.semilogy(geometric(values), label=name)
    axes.axvline(steps, color="grey", linestyle=":")
    axes.set(xlabel="step (dotted: as many as were learned)", ylabel="loss, geometric mean over problems")
    axes.legend()
    figure.savefig(path)
    print(f"  Picture in {path}.")


# --- a model of one's own, with the rule that ships ------------------------------------------------------------------------
_rng = np.random.default_rng(0)
X = _rng.normal(size=(64, 3)).astype(np.float32)
Y = np.sin(X @ np.array([1.0, -2.0, 0.5], np.float32))


def equinox_model(steps: int = 60) -> tuple[Any, Any]:
    """An Equinox network, in a training loop of one's own."""
    net = eqx.nn.MLP(3, "scalar", 16, 1, key=jax.random.key(0))
    rule = up.optim.pretrained()
    state = rule.init(eqx.filter(net, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(net: Any, state: Any) -> Any:
        loss, gradient = eqx.filter_value_and_grad(lambda net: jnp.square(jax.vmap(net)(X) - Y).mean())(net)
        updates, state = rule.update(gradient, state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state, loss

    losses = []
    for _ in range(steps):
        net, state, loss = step(net, state)
        losses.append(float(loss))
    return net, losses


def flax_model(steps: int = 60) -> tuple[Any, Any]:
    """A Flax NNX network, in one compiled loop; clipping is chained in front as with any other transformation."""
    from flax import nnx

    net = nnx.Sequential(nnx.Linear(3, 16, rngs=nnx.Rngs(0)), jax.nn.tanh, nnx.Linear(16, 1, rngs=nnx.Rngs(1)))
    graph, weights = nnx.split(net)
    rule = optax.chain(optax.clip_by_global_norm(10.0), up.optim.pretrained())
    weights, losses = up.optim.run(
        rule, lambda weights: jnp.square(nnx.merge(graph, weights)(X)[:, 0] - Y).mean(), weights, steps
    )
    return nnx.merge(graph, weights), losses


def models() -> None:
    """Train both with the rule that ships."""
    print("\nThe rule that ships, in a training of one's own")
    for name, train in (("Equinox", equinox_model), ("Flax", flax_model)):
        try:
            _, losses = train()
        except ImportError:
            print(f"  {name} is not installed (pip install 'upstairs[nnx]').")
            continue
        print(f"  {name}: {losses[0]:.3f} at the start, {losses[-1]:.5f} after {len(losses) - 1} steps")


# --- real losses ------------------------------------------------------------------------------------------------------------
def field_loss(weights: Any, data: Any) -> Any:
    """Mean log loss of a logistic regression; rows without weight are filled in."""
    logit = data["x"] @ weights["w"] + weights["b"]
    return (data["weight"] * jax.nn.softplus(logit * (1.0 - 2.0 * data["y"]))).sum()


def landmine(steps: int = 10, outer: int = 600, seeds: int = 3, test: int = 8) -> None:
    """Logistic regressions of landmine fields, from zero; a seed draws the fields that are held out."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(data) / "task_families" / "landmine.csv.gz"
    if not path.exists():
        raise SystemExit(
            f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder of task_families/."
        )
    table = pd.read_csv(path)
    owner, y = table["task"].to_numpy(), table["target"].to_numpy(float)
    ratios = []
    for seed in range(seeds):
        names = np.random.default_rng(seed).permutation(np.unique(owner))
        x = table.filter(regex="^x").to_numpy()
        known = np.isin(owner, names[test:])
        x = (x - x[known].mean(axis=0)) / x[known].std(axis=0)
        fields = [
            fit_in(x[owner == name], y[owner == name], max(np.bincount(np.unique(owner, return_inverse=True)[1])))
            for name in names
        ]
        both = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *part) for part in (fields[test:], fields[:test])]
        start = {"w": jnp.zeros(x.shape[1]), "b": jnp.zeros(())}
        starts = [jax.tree.map(lambda leaf, n=n: jnp.zeros((n, *leaf.shape)), start) for n in (len(names) - test, test)]
        problems = up.optim.Problems(field_loss, both[0], start=start)
        print(
            f"Landmine fields, seed {seed}: {len(names) - test} to learn from, {test} to test on, {steps} steps learned"
        )
        rules = {LEARNED: learned(problems, steps, outer, batch=8, seed=seed).transformation()}
        rules |= tuned(field_loss, both[0], starts[0], steps)
        found = race(rules, field_loss, both[1], starts[1], 10 * steps, (0, steps // 2, steps, 10 * steps))
        ratios.append(verdict(found, steps))
    print(
        f"Over {seeds} seeds {min(ratios):.2g} to {max(ratios):.2g} times the loss of the better tuned rule after {steps} steps."
    )


def fit_in(x: np.ndarray, y: np.ndarray, rows: int) -> dict[str, np.ndarray]:
    """Fill a field up to equal numbers of rows."""
    more = rows - len(y)
    weight = np.pad(np.full(len(y), 1.0 / len(y)), (0, more))
    return {
        "x": np.pad(x, ((0, more), (0, 0))).astype(np.float32),
        "y": np.pad(y, (0, more)).astype(np.float32),
        "weight": weight.astype(np.float32),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="landmine fields")
    parser.add_argument("--picture", metavar="FILE", help="draw the curves into this file")
    options = parser.parse_args()
    if options.full:
        landmine()
    else:
        curves(picture=options.picture)
        models()
