"""One outer step of learning an update rule, beside PyTorch: ``higher``, and gradients of gradients written by hand.

    python -m pip install torch higher   # besides upstairs with its own dependencies
    python benchmarks/peers_descent.py

The rule: a network 2-20-1 that is the same for every coordinate, of the gradient and its running mean, both divided by
their root mean square over the problem. The problems: 64 quadratics |W w - y|^2 in 10 dimensions. The outer loss: the
mean of the losses after each of 20 or 100 steps, with all derivatives of gradients; the outer optimiser: Adam. All
implementations run in one process, on one core, on the same numbers; their outer gradients are compared before anything
is timed. Times are of the processor, medians of seven rounds in each of which all take their turn. Writes
``peers_descent.md`` beside itself.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import upstairs as up
from upstairs.inner.descent import Descent, Weights
from upstairs.inner.loss_descent import LossDescent, Problem
from upstairs.outer.draws import Draw
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.outer_gradient import outer_gradient
from upstairs.outer.scan import ScanStepper

HERE = pathlib.Path(__file__).resolve().parent
ROUNDS = 7
PROBLEMS, SIZE, UNITS = 64, 10, 20
KEPT, SCALE, TINY, OUTER = 0.9, 0.01, 1e-12, 1e-3
"""A rule of normalised steps jumps about a minimum; steps this short do not get there, so that gradients can be compared."""


def numbers(dtype: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The problems, and the network before learning."""
    rng = np.random.default_rng(0)
    problems = {
        "matrix": rng.normal(size=(PROBLEMS, SIZE, SIZE)),
        "target": rng.normal(size=(PROBLEMS, SIZE)),
        "start": rng.normal(size=(PROBLEMS, SIZE)),
    }
    network = {
        "in/weight": rng.normal(size=(2, UNITS)) / np.sqrt(2.0),
        "in/bias": np.zeros(UNITS),
        "out/weight": -np.abs(rng.normal(size=(UNITS, 1))) / UNITS,
        "out/bias": np.zeros(1),
    }
    network["out/weight"] *= np.sign(network["in/weight"].sum(axis=0))[:, None]  # downhill, so that no run explodes
    return tuple({name: array.astype(dtype) for name, array in one.items()} for one in (problems, network))


# Ours -----------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True)
class SmallNetwork(Descent):
    """The rule as a user of the library writes it."""

    seed: int = 0

    def settings(self, weights: Weights) -> dict[str, Array]:
        return {name: jnp.asarray(array) for name, array in numbers(next(iter(weights.values())).dtype)[1].items()}

    def init(self, settings: Weights, weights: Weights) -> dict[str, Array]:
        return {name: jnp.zeros_like(array) for name, array in weights.items()}

    def update(
        self, settings: Weights, memory: Weights, gradient: Weights, weights: Weights
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        out, new = {}, {}
        for name, slope in gradient.items():
            new[name] = KEPT * memory[name] + (1.0 - KEPT) * slope
            seen = jnp.stack([slope / jnp.sqrt(jnp.square(slope).mean() + TINY), new[name] / _size(new[name])], axis=-1)
            hidden = jnp.tanh(seen @ settings["in/weight"] + settings["in/bias"])
            out[name] = weights[name] + SCALE * (hidden @ settings["out/weight"] + settings["out/bias"])[..., 0]
        return out, new


def _size(array: Array) -> Array:
    return jnp.sqrt(jnp.square(array).mean() + TINY)


@final
@dataclass(frozen=True)
class Fixed(Draw):
    """Every step sees the same problems."""

    batch: int = PROBLEMS

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, Problem, None]:
        given = {name: data[name] for name in ("matrix", "target")}
        return jnp.arange(self.batch), Problem(given, {"w": data["start"]}), None


def rule_of(steps: int) -> LossDescent:
    objective = up.optim.Objective("mean", "loss", cap=1e9)
    return LossDescent(
        lambda w, data, key: jnp.square(data["matrix"] @ w["w"] - data["target"]).sum(),
        (("w", (SIZE,)),),
        SmallNetwork(),
        steps,
        objective=objective,
    )


class Ours:
    """The library's stepper, with its checks for finite numbers; one step a call, or many."""

    def __init__(self, steps: int, problems: dict[str, np.ndarray], network: dict[str, np.ndarray]) -> None:
        self._stepper = ScanStepper(
            rule_of(steps),
            (("w", (SIZE,)),),
            Fixed(),
            problems,
            optimiser=Optimiser("adam", OUTER, clip=None),
            start={f"descent/{name}": array for name, array in network.items()},
        )
        self._state, self._step = self._stepper.start(), 0

    def many(self, count: int) -> float:
        self._state, metrics = self._stepper.advance(self._state, self._step, count)
        self._step += count
        return float(metrics.losses[-1])


class Bare:
    """The step alone, many in one program: what the peers do, without checks for finite numbers."""

    def __init__(self, steps: int, problems: dict[str, np.ndarray], network: dict[str, np.ndarray]) -> None:
        rule, adam = rule_of(steps), optax.adam(OUTER)

        def slope(params: Any, data: Any) -> Any:
            tasks, some, _ = Fixed()(data, 0, 0)
            keys = jax.random.split(jax.random.key(0), len(tasks))  # this rule draws nothing: no work is done
            return outer_gradient(rule, params, some, None, keys)

        def step(_: Any, state: Any, data: Any) -> Any:
            params, moments, _ = state
            each, gradient = slope(params, data)
            updates, moments = adam.update(gradient, moments, params)
            return optax.apply_updates(params, updates), moments, each.mean()

        alone = {"xla_cpu_multi_thread_eigen": False}  # one core, as the library's stepper has it
        self._data = {name: jnp.asarray(array) for name, array in problems.items()}
        params = {f"descent/{name}": jnp.asarray(array) for name, array in network.items()}
        self._state = params, adam.init(params), jnp.zeros((), problems["start"].dtype)
        self._slope = jax.jit(slope)
        self._many = jax.jit(
            lambda state, data, count: jax.lax.fori_loop(0, count, lambda i, now: step(i, now, data), state),
            compiler_options=alone,
        )

    def gradient(self) -> dict[str, np.ndarray]:
        _, gradient = self._slope(self._state[0], self._data)
        return {name.removeprefix("descent/"): np.asarray(array) for name, array in gradient.items()}

    def many(self, count: int) -> float:
        self._state = self._many(self._state, self._data, count)
        return float(self._state[-1])


# PyTorch --------------------------------------------------------------------------------------------------------------


class Peer:
    """Adam around an outer gradient."""

    def __init__(self, steps: int, problems: dict[str, np.ndarray], network: dict[str, np.ndarray]) -> None:
        import torch

        self.steps = steps
        self.problems = {name: torch.from_numpy(array) for name, array in problems.items()}
        self.network = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in network.items()}
        self.adam = torch.optim.Adam(self.network.values(), lr=OUTER)

    def backward(self) -> float:
        """Put the outer gradient beside the network; return the outer loss."""
        raise NotImplementedError

    def gradient(self) -> dict[str, np.ndarray]:
        self.adam.zero_grad()
        self.backward()
        return {name: array.grad.numpy().copy() for name, array in self.network.items()}

    def many(self, count: int) -> float:
        value = 0.0
        for _ in range(count):
            self.adam.zero_grad()
            value = self.backward()
            self.adam.step()
        return value


def moved(network: Any, mean: Any, slope: Any) -> tuple[Any, Any]:
    """The rule in PyTorch, for problems along any leading axes: the step, and the new running mean."""
    import torch

    mean = KEPT * mean + (1.0 - KEPT) * slope
    seen = torch.stack([part / torch.sqrt((part * part).mean(-1, keepdim=True) + TINY) for part in (slope, mean)], -1)
    hidden = torch.tanh(seen @ network["in/weight"] + network["in/bias"])
    return SCALE * (hidden @ network["out/weight"] + network["out/bias"])[..., 0], mean


class ByHand(Peer):
    """All problems as one tensor, ``autograd.grad`` with ``create_graph`` in every step."""

    def backward(self) -> float:
        import torch

        matrix, target, weights = (self.problems[name] for name in ("matrix", "target", "start"))
        mean, total = torch.zeros_like(weights), 0.0
        weights = weights.clone().requires_grad_()
        loss = (torch.einsum("pij,pj->pi", matrix, weights) - target).square().sum()
        for _ in range(self.steps):
            (slope,) = torch.autograd.grad(loss, weights, create_graph=True)
            step, mean = moved(self.network, mean, slope)
            weights = weights + step
            loss = (torch.einsum("pij,pj->pi", matrix, weights) - target).square().sum()
            total = total + loss
        value = total / (self.steps * PROBLEMS)
        value.backward()
        return float(value.detach())


class Func(Peer):
    """``torch.func``: grad of the mean over a run in which grad is taken, with vmap over problems."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        import torch
        from torch.func import grad, grad_and_value, vmap

        def height(weights: Any, matrix: Any, target: Any) -> Any:
            return (matrix @ weights - target).square().sum()

        def run(network: Any, matrix: Any, target: Any, weights: Any) -> Any:
            mean, total = torch.zeros_like(weights), 0.0
            for _ in range(self.steps):
                step, mean = moved(network, mean, grad(height)(weights, matrix, target))
                weights = weights + step
                total = total + height(weights, matrix, target)
            return total / self.steps

        def outer(network: Any, *problems: Any) -> Any:
            return vmap(run, (None, 0, 0, 0))(network, *problems).mean()

        self._slope = grad_and_value(outer)

    def backward(self) -> float:
        network = {name: array.detach() for name, array in self.network.items()}
        gradient, value = self._slope(network, *(self.problems[name] for name in ("matrix", "target", "start")))
        for name, array in self.network.items():
            array.grad = gradient[name]
        return float(value)


def known_to_higher() -> Any:
    """An optimiser whose steps a network makes, and its differentiable twin, as ``higher`` asks for."""
    import higher
    import torch

    class Rule(torch.optim.Optimizer):
        def __init__(self, params: Any, network: Any) -> None:
            super().__init__(params, {})
            self.network = network

    class Twin(higher.optim.DifferentiableOptimizer):
        def __init__(self, other: Any, *given: Any, **named: Any) -> None:
            super().__init__(other, *given, **named)
            self.network = other.network

        def _update(self, grouped_grads: Any, **_: Any) -> None:
            for number, (group, slopes) in enumerate(zip(self.param_groups, grouped_grads, strict=True)):
                for place, (weights, slope) in enumerate(zip(group["params"], slopes, strict=True)):
                    state = self.state[number][place]
                    mean = state["mean"] if "mean" in state else torch.zeros_like(slope)
                    step, state["mean"] = moved(self.network, mean, slope)
                    group["params"][place] = weights + step

    higher.register_optim(Rule, Twin)
    return Rule


class Higher(Peer):
    """The loop over problems that users of ``higher`` write; with ``together`` all problems as one tensor instead."""

    together = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        import higher
        import torch

        class Weights(torch.nn.Module):
            def __init__(self, start: Any) -> None:
                super().__init__()
                self.weights = torch.nn.Parameter(start.clone())

            def forward(self, matrix: Any, target: Any) -> Any:
                return (torch.einsum("...ij,...j->...i", matrix, self.weights) - target).square().sum()

        self._inner, self._weights, self._rule = higher.innerloop_ctx, Weights, known_to_higher()

    def backward(self) -> float:
        value = 0.0
        places: Any = [slice(None)] if self.together else range(PROBLEMS)
        for place in places:
            matrix, target, start = (self.problems[name][place] for name in ("matrix", "target", "start"))
            model = self._weights(start)
            with self._inner(model, self._rule(model.parameters(), self.network)) as (net, inner):
                total, loss = 0.0, net(matrix, target)
                for _ in range(self.steps):
                    inner.step(loss)
                    loss = net(matrix, target)
                    total = total + loss
                total = total / (self.steps * PROBLEMS)
                total.backward()
                value += float(total.detach())
        return value


class HigherTogether(Higher):
    """``higher`` with all problems as one tensor."""

    together = True


# Measuring ------------------------------------------------------------------------------------------------------------


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Largest difference of two gradients, as a share of the largest entry of its array."""
    return max(float(np.abs(one[name] - other[name]).max() / np.abs(one[name]).max()) for name in one)


PEERS: dict[str, Any] = {
    "higher, a loop over problems": Higher,
    "higher, one tensor": HigherTogether,
    "torch, one tensor, create_graph": ByHand,
    "torch.func, vmap": Func,
}
NAMES = ("ours, the step alone", "ours, many steps a call", "ours, a call a step")


def agreement(steps: int, dtype: Any, most: float) -> float:
    """Check that all outer gradients are the same; return the largest distance."""
    with jax.enable_x64(dtype == np.float64):
        ours = Bare(steps, *numbers(dtype)).gradient()
    found = {name: distance(ours, peer(steps, *numbers(dtype)).gradient()) for name, peer in PEERS.items()}
    assert all(value <= most for value in found.values()), found
    return max(found.values())


def seconds(job: Callable[[], Any]) -> float:
    """Processor time of this process, which has one core: others on the machine do not count."""
    begun = time.process_time()
    job()
    return time.process_time() - begun


def compare(steps: int, many: int) -> list[str]:
    apart = agreement(steps, np.float64, 1e-8), agreement(steps, np.float32, 1e-3)
    given = numbers(np.float32)
    made: dict[str, Any] = {}
    first: dict[str, float] = {}
    losses: dict[str, float] = {}
    for name, kind in {"ours, the step alone": Bare, "ours, a call a step": Ours, **PEERS}.items():
        begun = time.process_time()
        made[name] = kind(steps, *given)
        made[name].many(1)
        first[name] = time.process_time() - begun
        losses[name] = made[name].many(1)  # the second step: after one of Adam
    made[NAMES[1]], first[NAMES[1]] = made[NAMES[2]], first[NAMES[2]]
    base = losses["ours, the step alone"]
    assert all(abs(value - base) < 1e-4 * base for value in losses.values()), losses
    jobs: dict[str, Callable[[], float]] = {
        NAMES[0]: lambda: seconds(lambda: made[NAMES[0]].many(many)) / many,
        NAMES[1]: lambda: seconds(lambda: made[NAMES[1]].many(many)) / many,
        NAMES[2]: lambda: seconds(lambda: [made[NAMES[2]].many(1) for _ in range(many)]) / many,
    }
    for name in PEERS:
        jobs[name] = lambda name=name: seconds(lambda: made[name].many(1))
    for name in NAMES:  # all have made two steps
        jobs[name]()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            times[name].append(job())
    lines = [
        f"## {steps} steps",
        "",
        f"Outer gradients differ by at most {apart[0]:.0e} of the largest entry in float64 and {apart[1]:.0e} in float32; "
        "times are in float32.",
        "",
        "| | outer step, ms (least to most) | times the step alone | times a call a step | first step, s |",
        "|---|---|---|---|---|",
    ]
    for name, found in times.items():
        alone, called = (
            statistics.median(a / b for a, b in zip(found, times[base], strict=True)) for base in (NAMES[0], NAMES[2])
        )
        spread = f"{1e3 * statistics.median(found):.2f} ({1e3 * min(found):.2f} to {1e3 * max(found):.2f})"
        lines.append(f"| {name} | {spread} | {alone:.3g} | {called:.3g} | {first[name]:.2f} |")
    print(*lines, sep="\n", flush=True)
    least = {
        what: min(
            statistics.median(a / b for a, b in zip(times[name], times[NAMES[2]], strict=True))
            for name in PEERS
            if name.startswith(what)
        )
        for what in ("higher", "torch")
    }
    loop = statistics.median(a / b for a, b in zip(times[next(iter(PEERS))], times[NAMES[2]], strict=True))
    said = (
        f"{steps} steps: {'holds' if loop >= 10 else 'MISSED'} ({loop:.3g} times) for the loop over problems; "
        f"{'holds' if least['higher'] >= 10 else 'MISSED'} ({least['higher']:.3g} times) for its best form; "
        f"the best of plain torch takes {least['torch']:.3g} times as long."
    )
    return [said, *lines]


def main() -> None:
    import torch

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    parts = [compare(20, 20), compare(100, 5)]
    print(*(part[0] for part in parts), sep="\n")
    text = [
        "# One outer step of learning an update rule, beside PyTorch",
        "",
        f"`python benchmarks/peers_descent.py`: {platform.processor() or platform.machine()}, one core; jax "
        f"{jax.__version__}, torch {torch.__version__}; {PROBLEMS} quadratics in {SIZE} dimensions, the same network "
        f"2-{UNITS}-1 for every coordinate, reverse mode through all steps, Adam outside; processor time, median of {ROUNDS} "
        "rounds in which all take turns.",
        "",
        "Aim: `higher` takes at least 10 times as long as the library's stepper, called once a step.",
        "",
        *(f"- {part[0]}" for part in parts),
        "",
        '"The step alone" is the library\'s outer gradient and Adam in one program; the stepper also looks whether numbers are',
        "finite. Both take the gradient of every problem by itself, so that one that explodes can be left out; no peer does.",
        "First step: making, compiling and one step.",
        "",
    ]
    for part in parts:
        text += [*part[1:], ""]
    (HERE / "peers_descent.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
