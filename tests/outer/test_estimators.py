"""Gradients by evolution strategies, and from windows of long runs, beside exact ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.learned_rates import LearnedSGD
from upstairs.inner.loss_descent import LossDescent
from upstairs.inner.trajectory import Objective
from upstairs.outer.estimators import EvolutionStrategies
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.outer_gradient import outer_gradient
from upstairs.outer.problems import Problems
from upstairs.outer.scan import ScanStepper
from upstairs.outer.windows import Windows

KEY = jax.random.key(0)
STEPS, WINDOW, RUNS = 6, 2, 20_000
SHAPES = (("weights", (2,)),)


def bowl(w, data):
    return (data * jnp.square(w)).sum()


PROBLEMS = Problems(bowl, np.array([[0.5, 1.0], [1.0, 2.0], [1.5, 0.3]]), start=jnp.ones(2))
RULE = LossDescent(
    PROBLEMS.loss, SHAPES, LearnedSGD(0.05, momentum=0.5), STEPS, None, Objective("mean", "loss"), name="bowl"
)
PARAMS = RULE.init(KEY)


def exact():
    """Mean over the three problems, in reverse mode."""
    draw = PROBLEMS.draw(3)
    _, tasks, _ = draw(PROBLEMS.arrays(), 0, 0)
    return outer_gradient(RULE, PARAMS, tasks, None, jax.random.split(KEY, 3))[1]


def test_evolution_strategies_are_right_on_average():
    rule = EvolutionStrategies(0.01, pairs=RUNS)
    _, tasks, _ = PROBLEMS.draw(3)(PROBLEMS.arrays(), 0, 0)
    found = jax.jit(lambda: outer_gradient(RULE, PARAMS, tasks, None, jax.random.split(KEY, 3), estimator=rule))()[1]
    for name, truth in exact().items():
        np.testing.assert_allclose(found[name], truth, rtol=0.05)


@pytest.mark.parametrize("kind", ["nres", "pes"])
def test_windows_of_evolution_strategies_are_right_on_average(kind):
    """All runs start at once, so that the windows of whole runs add up to the gradient of a run; params do not move."""
    windows = Windows(kind, WINDOW, 0.01)
    draw, data = PROBLEMS.draw(RUNS * 3), PROBLEMS.arrays()

    @jax.jit
    def total():
        particles = windows.begin(RULE, draw, data, PARAMS, 1)
        particles = particles._replace(until=jnp.full_like(particles.until, STEPS))
        found = []
        for number in range(STEPS // WINDOW):
            _, _, gradient, particles = windows.step(RULE, draw, data, PARAMS, particles, None, 1, number)
            found.append(gradient)
        return jax.tree.map(lambda *parts: sum(parts) / len(parts), *found)

    found, truth = total(), exact()
    for name in truth:
        np.testing.assert_allclose(found[name], truth[name], rtol=0.1)


def test_truncation_ignores_what_happened_before():
    """The gradient of the second window is that of a run from where it begins, and not that of the whole run."""
    windows = Windows("truncated", WINDOW)
    draw, data = PROBLEMS.draw(3), PROBLEMS.arrays()

    def late(params, task, key, *, whole):
        run, first = RULE.begin(params, task, key)
        run, _ = RULE.proceed(params, task, run, WINDOW, key)
        run = run if whole else jax.lax.stop_gradient(run)
        return RULE.objective.counted(RULE.proceed(params, task, run, WINDOW, key)[1], first).mean()

    @jax.jit
    def found():
        particles = windows.begin(RULE, draw, data, PARAMS, 1)
        particles = particles._replace(until=jnp.full_like(particles.until, STEPS))
        tasks, keys = particles.task, particles.key
        for number in range(2):
            _, _, gradient, particles = windows.step(RULE, draw, data, PARAMS, particles, None, 1, number)
        cut, whole = (
            jax.grad(lambda p, w=w: jax.vmap(lambda t, k: late(p, t, k, whole=w))(tasks, keys).mean())(PARAMS)
            for w in (False, True)
        )
        return gradient, cut, whole

    gradient, cut, whole = found()
    for name in PARAMS:
        np.testing.assert_allclose(gradient[name], cut[name], rtol=1e-4)
        assert abs(whole[name] / cut[name] - 1.0) > 0.05


@pytest.mark.parametrize("kind", ["truncated", "nres", "pes"])
def test_a_run_in_windows_goes_on_bit_for_bit(kind):
    def stepper():
        return ScanStepper(
            RULE,
            SHAPES,
            PROBLEMS.draw(3),
            PROBLEMS.arrays(),
            gradient=Windows(kind, WINDOW),
            optimiser=Optimiser("sgd", 0.1),
        )

    whole = stepper()
    once, metrics = whole.advance(whole.start(), 0, 7)
    part, _ = whole.advance(whole.start(), 0, 3)
    other = stepper()
    again, _ = other.advance(other.unpack(whole.pack(part)), 3, 4)
    assert metrics.bad_step is None
    assert len(metrics.losses) == 7
    for name, array in whole.pack(once).items():
        np.testing.assert_array_equal(other.pack(again)[name], array)
    assert stepper().fingerprint() == whole.fingerprint()


def test_a_problem_that_explodes_is_left_out():
    """A rate of a million: the loss counts as the cap, the gradient of that problem as nothing."""
    wild = LossDescent(PROBLEMS.loss, SHAPES, LearnedSGD(1e6, momentum=None), 60, None, Objective("last"), name="bowl")
    _, tasks, _ = PROBLEMS.draw(3)(PROBLEMS.arrays(), 0, 0)
    losses, gradient = jax.jit(lambda p: outer_gradient(wild, p, tasks, None, jax.random.split(KEY, 3), 1.0))(
        wild.init(KEY)
    )
    assert losses.tolist() == [10.0] * 3
    assert float(gradient["descent/rate"]) == 0.0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EvolutionStrategies(sigma=0.0), "sigma must be a positive number"),
        (lambda: EvolutionStrategies(pairs=0), "pairs must be a whole number"),
        (lambda: Windows("nres", window=0), "window must be a whole number"),
        (lambda: Windows("pes", sigma=-1.0), "sigma must be a positive number"),
    ],
)
def test_what_means_nothing_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
