"""Random quadratics: update rules that were learned on some beside rules of Optax that were tuned on some.

    python benchmarks/quadratics.py [--quick]

f(w) = |W w - y|^2 in 10 dimensions; W, y and the start are drawn from N(0, 1); 100 steps. Rates and momenta of the
rules of Optax are chosen on a grid by the mean loss at step 100 of 1,000 problems. Every rule is then judged on 1,000
further problems, on ten times as many steps, and in 100 dimensions. Writes ``quadratics.md`` beside itself (not with
``--quick``, whose settings are tiny and show only that all of it runs).

Andrychowicz, M. et al. (2016). Learning to learn by gradient descent by gradient descent. NeurIPS; section 3.1.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import upstairs as up
from upstairs.inner.update_network import UpdateNetwork

HERE = pathlib.Path(__file__).resolve().parent
SIZE, LARGE, STEPS = 10, 100, 100
LOOKS = (10, 30, STEPS)
FEW = 10
"""Steps of a training with ``--quick``."""
TRAIN, TEST = 1, 2
"""Seeds of the problems that rates are chosen on, and of those that all rules are judged on."""
DIVERGED = 1e6
"""A loss above this has diverged: those of the start are about 100, in 100 dimensions 10,000."""


class Quadratics(NamedTuple):
    """Some problems."""

    matrix: Array
    target: Array
    start: Array


def drawn(count: int, size: int, seed: int) -> Quadratics:
    one, two, three = jax.random.split(jax.random.key(seed), 3)
    return Quadratics(
        jax.random.normal(one, (count, size, size)),
        jax.random.normal(two, (count, size)),
        jax.random.normal(three, (count, size)),
    )


def loss(weights: Array, data: Mapping[str, Array]) -> Array:
    return jnp.square(data["matrix"] @ weights - data["target"]).sum()


def family() -> Any:
    """The problems to learn on, new ones in every outer step."""

    def sample(key: Array) -> dict[str, Array]:
        one, two = jax.random.split(key)
        return {"matrix": jax.random.normal(one, (SIZE, SIZE)), "target": jax.random.normal(two, (SIZE,))}

    return up.optim.Problems(loss, sample=sample, start=lambda key: jax.random.normal(key, (SIZE,)))


def runs(rule: optax.GradientTransformation, problems: Quadratics, steps: int) -> Array:
    """Losses of all problems at the start and after every step."""

    def one(matrix: Array, target: Array, start: Array) -> Array:
        data = {"matrix": matrix, "target": target}
        return up.optim.run(rule, lambda weights: loss(weights, data), start, steps)[1]

    return jax.vmap(one)(*problems)


# Rules of Optax, tuned ------------------------------------------------------------------------------------------------

RATES = {"sgd": (-3.0, -1.25), "adam": (-1.5, 0.5)}
"""Decades of the rates of the first, coarse grid; its step is an eighth of a decade."""
MOMENTA = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)
FIRST, SECOND = (0.5, 0.7, 0.85, 0.9, 0.95), (0.3, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)


@final
@dataclass(frozen=True)
class Tuned:
    """A rule of Optax and the grid of its numbers, the rate first."""

    make: Callable[..., optax.GradientTransformation]
    rates: tuple[float, float]
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)


RULES = {
    "SGD": Tuned(optax.sgd, RATES["sgd"]),
    "momentum": Tuned(lambda rate, m: optax.sgd(rate, m), RATES["sgd"], {"momentum": MOMENTA}),
    "Nesterov": Tuned(lambda rate, m: optax.sgd(rate, m, nesterov=True), RATES["sgd"], {"momentum": MOMENTA}),
    "RMSProp": Tuned(lambda rate, decay: optax.rmsprop(rate, decay), (-3.0, -0.5), {"decay": SECOND}),
    "Adam": Tuned(lambda rate, b1, b2: optax.adam(rate, b1, b2), RATES["adam"], {"b1": FIRST, "b2": SECOND}),
    "Adam, b1 = .9, b2 = .999": Tuned(optax.adam, RATES["adam"]),
    "Adam, linear decay to 0": Tuned(
        lambda rate, b1, b2: optax.adam(optax.linear_schedule(rate, 0.0, STEPS), b1, b2),
        RATES["adam"],
        {"b1": FIRST, "b2": SECOND},
    ),
}
DECAYED = "Adam, linear decay to 0"


def tuned(rule: Tuned, some: Quadratics, many: Quadratics, quick: bool = False) -> tuple[tuple[float, ...], str]:
    """Choose the numbers of a rule.

    The three best sets of other numbers, and about where their rate lies, come from a coarse grid on some problems.
    The rate then comes from a finer grid on many, because the best one lies where the first problems diverge.
    """

    @jax.jit
    def score(numbers: Any, problems: Quadratics) -> Array:
        last = runs(rule.make(*numbers), problems, STEPS)[:, -1]
        return jnp.where(last < DIVERGED, last, jnp.inf).mean()  # not a number: infinite too

    low, high = rule.rates
    coarse = 10.0 ** np.arange(low, high + 0.01, 0.5 if quick else 0.125)
    sets = list(itertools.product(*(options[2::3] if quick else options for options in rule.others.values())))
    best = {rest: min((float(score((rate, *rest), some)), float(rate)) for rate in coarse) for rest in sets}
    found = {}
    for rest in sorted(sets, key=lambda rest: best[rest])[: 1 if quick else 3]:
        for rate in best[rest][1] * 10.0 ** np.arange(-0.2, 0.11, 0.025):
            found[float(rate), *rest] = float(score((rate, *rest), many))
    chosen = min(found, key=lambda key: found[key])
    grids = {"rate": coarse, **rule.others}
    edges = [
        name
        for (name, options), value in zip(grids.items(), chosen, strict=True)
        if not min(options) < value < max(options)
    ]
    said = ", ".join(f"{name} {value:.3g}" for name, value in zip(grids, chosen, strict=True))
    return chosen, said + (f" (AT THE EDGE of the grid: {', '.join(edges)})" if edges and not quick else "")


def lbfgs_runs(problems: Quadratics, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses of L-BFGS with its default line search, and how many gradients had been used by then."""

    def one(matrix: Array, target: Array, start: Array) -> tuple[Array, Array]:
        rule = optax.lbfgs()

        def value(weights: Array) -> Array:
            return loss(weights, {"matrix": matrix, "target": target})

        kept = optax.value_and_grad_from_state(value)  # what the line search has computed is not computed again

        def step(carry: Any, _: None) -> tuple[Any, Any]:
            weights, state, used = carry
            height, slope = kept(weights, state=state)
            updates, state = rule.update(slope, state, weights, value=height, grad=slope, value_fn=value)
            used = used + optax.tree.get(state, "info").num_linesearch_steps
            return (optax.apply_updates(weights, updates), state, used), (height, used)

        first = (start, rule.init(start), jnp.ones((), jnp.int32))
        (weights, _, _), (losses, used) = jax.lax.scan(step, first, None, length=steps)
        return jnp.append(losses, value(weights)), jnp.concatenate([jnp.ones(1, used.dtype), used])

    losses, used = jax.jit(jax.vmap(one))(*problems)
    return np.asarray(losses), np.asarray(used)


# Learned rules --------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Learned:
    """How a rule is learned."""

    rule: str
    objective: Any
    outer: int
    """Steps of the training."""
    options: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 3e-3
    batch: int = 64
    first_order: bool = False
    seeds: int = 1


def learned_rules() -> dict[str, Learned]:
    last, log, mean = up.optim.Objective("last"), up.optim.Objective("mean", "log"), up.optim.Objective("mean")
    return {
        "network": Learned("network", log, 300, seeds=3),
        "network, without quasi-Newton": Learned("network", log, 300, {"pairs": 0}),
        "learned SGD, momentum, a schedule": Learned(
            "sgd", last, 400, {"rate": 0.012, "momentum": 0.9, "schedule": True}
        ),
        "learned Adam, a schedule": Learned("adam", last, 600, {"rate": 0.2, "schedule": True}, rate=2e-2),
        "LSTM": Learned("lstm", mean, 600, batch=32, first_order=True),
    }


def learn(how: Learned, seed: int, quick: bool) -> Any:
    options = dict(how.options) | ({"seed": seed} if how.rule in ("network", "lstm") else {})
    meta = up.MetaGradientDescent(
        how.rule,
        steps=STEPS,
        options=options,
        objective=how.objective,
        first_order=how.first_order,
        training=up.Training(steps=FEW if quick else how.outer, rate=how.rate, batch=8 if quick else how.batch),
        random_state=seed,
    )
    return meta.meta_fit(family())


# Judging --------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class Result:
    """Losses of the test problems at some steps, and at the last step in 100 dimensions."""

    name: str
    at: Mapping[int, np.ndarray]
    large: np.ndarray
    note: str
    seconds: float | None = None

    @property
    def geometric(self) -> float:
        return float(np.exp(np.log(self.at[STEPS] + 1e-30).mean()))

    def mean(self, step: int) -> float:
        return float(self.at[step].mean())


def lasting(losses: Any) -> np.ndarray:
    """Count what has diverged, or is no number, as infinite."""
    losses = np.asarray(losses, np.float64)
    return np.where(losses < DIVERGED, losses, np.inf)


def judged(name: str, losses: Any, large: Any, note: str, seconds: float | None = None) -> Result:
    losses, large = lasting(losses), lasting(large)
    return Result(name, {step: losses[:, step] for step in (*LOOKS, 10 * STEPS)}, large[:, -1], note, seconds)


def shown(losses: np.ndarray, worst: bool = False) -> str:
    wild = int(np.isinf(losses).sum())
    if wild:
        return f"{wild} of {len(losses)} diverge"
    return f"{losses.max() if worst else losses.mean():.3g}"


def line(result: Result) -> str:
    cells = [shown(result.at[step]) for step in LOOKS]
    cells += ["inf" if np.isinf(result.geometric) else f"{result.geometric:.2g}", shown(result.at[10 * STEPS])]
    cells += [shown(result.large), shown(result.large, worst=True)]
    cells += ["" if result.seconds is None else f"{result.seconds:.0f}", result.note]
    return f"| {result.name} | {' | '.join(cells)} |"


def aims(rules: Sequence[Result], learned: Sequence[Result], adam: Result) -> list[str]:
    """Which aims hold for which learned rule."""
    best = min(rules, key=lambda result: result.mean(STEPS))
    constant = min((rule for rule in rules if rule.name != DECAYED), key=lambda rule: rule.geometric)
    decayed = next(rule for rule in rules if rule.name == DECAYED)
    lines = [
        f"1. The mean at step {STEPS} is at most .65 of that of the best tuned rule ({best.name}, {best.mean(STEPS):.3g}).",
        f"2. The geometric mean is at most a tenth of the best of a constant rate ({constant.name}, "
        f"{constant.geometric:.2g}), and below that of Adam with a decay ({decayed.geometric:.2g}).",
        f"3. The mean at step {10 * STEPS} is below that at step {STEPS}.",
        f"4. In {LARGE} dimensions all losses are finite, and their mean is at most 3 times that of Adam tuned there "
        f"({adam.large.mean():.3g}).",
        "",
        "| learned rule | 1 | 2 | 3 | 4 |",
        "|---|---|---|---|---|",
    ]
    for result in learned:
        share, of_large = result.mean(STEPS) / best.mean(STEPS), result.large.mean() / adam.large.mean()
        kept = (
            (share <= 0.65, f"{share:.3g} of it"),
            (
                result.geometric <= 0.1 * constant.geometric and result.geometric < decayed.geometric,
                f"{result.geometric / constant.geometric:.2g} and {result.geometric / decayed.geometric:.2g} of it",
            ),
            (result.mean(10 * STEPS) < result.mean(STEPS), shown(result.at[10 * STEPS])),
            (of_large <= 3.0, f"{of_large:.3g} times" if np.isfinite(of_large) else shown(result.large)),
        )
        lines.append(
            f"| {result.name} | " + " | ".join(f"{'holds' if good else 'MISSED'}: {how}" for good, how in kept) + " |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="tiny settings; writes nothing")
    quick = parser.parse_args().quick
    begun = time.process_time()
    count, large = (50, 10) if quick else (1000, 100)
    some, many = drawn(count, SIZE, TRAIN), drawn(count if quick else 10 * count, SIZE, TRAIN)
    test, test_large = drawn(count, SIZE, TEST), drawn(large, LARGE, TEST)

    def losses_of(rule: optax.GradientTransformation) -> tuple[Any, Any]:
        return jax.jit(lambda: runs(rule, test, 10 * STEPS))(), jax.jit(lambda: runs(rule, test_large, STEPS))()

    rules, learned = [], []
    for name, rule in RULES.items():
        if quick and name not in ("SGD", "Adam", DECAYED):
            continue
        start = time.process_time()
        numbers, note = tuned(rule, some, many, quick)
        seconds = time.process_time() - start
        rules.append(judged(name, *losses_of(rule.make(*numbers)), note, seconds))
        print(line(rules[-1]), flush=True)
    start = time.process_time()
    wide = drawn(large, LARGE, TRAIN)
    numbers, note = tuned(RULES["Adam"], wide, wide, quick)
    seconds = time.process_time() - start
    adam = judged(f"Adam, tuned in {LARGE} dimensions", *losses_of(RULES["Adam"].make(*numbers)), note, seconds)
    print(line(adam), flush=True)

    found, used = lbfgs_runs(test, 10 * STEPS)
    note = f"{(used[:, 30] - 1).mean() / 30:.2f} gradients a step over the first 30"
    lbfgs = judged("L-BFGS, line search", found, lbfgs_runs(test_large, STEPS)[0], note)
    print(line(lbfgs), flush=True)
    same = {}
    for look in LOOKS:  # after the steps that as many gradients pay for
        paid = np.array([(row <= look).sum() - 1 for row in used])
        same[look] = found[np.arange(len(found)), paid]
    geometric = np.exp(np.log(same[STEPS].astype(np.float64) + 1e-30).mean())
    means = ", ".join(f"{same[look].mean():.3g} after {look}" for look in LOOKS)
    paid_for = f"L-BFGS counted by gradients: {means}; geometric mean {geometric:.2g} after {STEPS}."
    print(paid_for, flush=True)

    for name, how in learned_rules().items():
        if quick and name != "network":
            continue
        for seed in range(1 if quick else how.seeds):
            start = time.process_time()
            meta = learn(how, seed, quick)
            seconds = time.process_time() - start
            note = f"{FEW if quick else how.outer} outer steps of {how.batch}; {meta.prior_.settings['choice'].split('; ')[-1]}"
            shown_as = name if how.seeds == 1 else f"{name}, seed {seed}"
            learned.append(judged(shown_as, *losses_of(meta.transformation()), note, seconds))
            print(line(learned[-1]), flush=True)
    said = aims(rules, learned, adam)
    print(*said, sep="\n")
    if quick:
        return
    raw = judged("network before learning", *losses_of(up.optim.transformation(UpdateNetwork())), "")
    every = [result for result in learned if result.name.startswith("network, seed")]
    spread = "; ".join(
        f"{what} {min(values):.2g} to {max(values):.2g}"
        for what, values in {
            f"mean at {STEPS}": [result.mean(STEPS) for result in every],
            "geometric mean": [result.geometric for result in every],
            f"mean at {10 * STEPS}": [result.mean(10 * STEPS) for result in every],
            f"mean in {LARGE} dimensions": [result.large.mean() for result in every],
        }.items()
    )
    best = min(learned, key=lambda result: result.mean(STEPS))
    against = (
        f"L-BFGS with a line search does not count as a rule above: it is made for problems like these. It reaches a mean of "
        f"{lbfgs.mean(STEPS):.2g}\nat step {STEPS} and {lbfgs.mean(30):.2g} at step 30 ({same[STEPS].mean():.2g} and {same[30].mean():.2g} "
        f"counted by gradients); the best learned rule, {best.name}, {best.mean(STEPS):.2g} and {best.mean(30):.2g}."
    )
    text = f"""# Random quadratics in {SIZE} dimensions, {STEPS} steps

`python benchmarks/quadratics.py`: f(w) = |W w - y|^2; W, y and the start from N(0, 1). {time.process_time() - begun:.0f} s
of one core in all.

## Aims

{chr(10).join(said)}

"network" over {len(every)} seeds of training: {spread}.

{against}

## Losses

Means over {count:,} problems that nothing was chosen or learned on, unless said. The geometric mean is that at step {STEPS}.
In {LARGE} dimensions: {large} problems, step {STEPS}, with what was chosen or learned in {SIZE}. A loss above {DIVERGED:.0e} has diverged.
Seconds of one core: the choice of numbers on a grid, or the training, compilation included. Rates and momenta were chosen
by the mean at step {STEPS} of {10 * count:,} training problems (the grid around the rate; a coarse one over all numbers on the
first {count:,}).

| rule | step 10 | step 30 | step {STEPS} | geometric | step {10 * STEPS} | {LARGE} dimensions | worst | seconds | |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(line(result) for result in (*rules, adam, lbfgs, raw, *learned))}

{paid_for}
"network" rests on a quasi-Newton direction, too, with one gradient a step and no search; "without quasi-Newton" shows
what is learned alone. Schedules end at step {STEPS}: after it the learned ones keep their last numbers, and Adam's decayed rate is 0.
"""
    (HERE / "quadratics.md").write_text(text)


if __name__ == "__main__":
    main()
