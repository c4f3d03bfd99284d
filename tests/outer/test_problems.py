"""Families of losses, and several of them in one training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.errors import TaskError
from upstairs.inner.learned_rates import LearnedSGD
from upstairs.inner.loss_descent import LossDescent
from upstairs.optim import Problems
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.scan import ScanStepper
from upstairs.outer.turns import BLOCK, Turns

KEY = jax.random.key(0)


def bowl(depth, point):
    return lambda w: depth * jnp.square(w["a"] - point).sum() + w["b"][0] ** 2


START = {"a": jnp.ones(2), "b": [jnp.zeros(())]}


def test_functions_of_one_form_become_one_family():
    depths, points = np.array([1.0, 2.0, 3.0], np.float32), np.eye(3, 2, dtype=np.float32)
    functions = [bowl(jnp.asarray(depth), point) for depth, point in zip(depths, points, strict=True)]
    (family,) = Problems.from_functions(functions, START)
    assert len(family) == 3
    assert family.shapes == (("a", (2,)), ("b/0", ()))
    weights = {"a": jnp.array([0.3, -0.2]), "b": [jnp.array(0.5)]}
    chosen, problems, _ = family.draw(3)(family.arrays(), 0, 0)
    assert sorted(chosen.tolist()) == [0, 1, 2]
    flat = {"a": weights["a"], "b/0": weights["b"][0]}
    found = jax.vmap(lambda data: family.loss(flat, data, KEY))(problems.data)
    np.testing.assert_allclose(found, [functions[number](weights) for number in chosen.tolist()], rtol=1e-6)
    np.testing.assert_array_equal(problems.start["a"], np.ones((3, 2)))


def test_functions_of_other_forms_make_families_of_their_own():
    numbers = [bowl(1.0, np.zeros(2)), bowl(2.0, np.zeros(2)), bowl(1.0, np.ones(2))]
    assert sorted(map(len, Problems.from_functions(numbers, START))) == [1, 2]
    with pytest.raises(TaskError, match="3 functions are of 2 different forms"):
        up.MetaGradientDescent("sgd").meta_fit(numbers, start=START)


def test_the_name_is_that_of_the_computation():
    make = lambda factor: Problems(lambda w, d: factor * (w * d).sum(), np.ones((4, 2)), start=jnp.ones(2))  # noqa: E731
    assert make(1.0).name == make(1.0).name != make(2.0).name


def test_sampled_problems_are_new_in_every_step():
    family = Problems(
        lambda w, d, key: (w - d + jax.random.normal(key)) ** 2,
        sample=lambda key: jax.random.normal(key),
        start=lambda key: jax.random.uniform(key),
    )
    one, two = (family.draw(4)({}, 0, step)[1] for step in (0, 1))
    assert len(set(one.data["weights"].tolist() + two.data["weights"].tolist())) == 8
    assert len(set(one.start["weights"].tolist())) == 4
    np.testing.assert_array_equal(family.draw(4)({}, 0, 1)[1].data["weights"], two.data["weights"])
    with pytest.raises(TypeError, match="no number"):
        len(family)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Problems(lambda w, d: w, start=jnp.zeros(())), "either data"),
        (lambda: Problems(lambda w, d: w, np.ones((3, 2)), start=jnp.zeros(2)), "loss must return one number"),
        (
            lambda: Problems(lambda w, d: d["x"].sum(), {"x": np.ones(3), "y": np.ones(2)}, start=jnp.zeros(2)),
            "must have the same",
        ),
        (lambda: Problems.from_functions([lambda w: w], jnp.zeros(2)), "Problem 0: the loss must return one number"),
        (lambda: Problems.from_functions([lambda w: float(w)], jnp.zeros(())), "Problem 0: the loss cannot be traced"),
        (lambda: up.MetaGradientDescent("sgd").meta_fit([lambda w: w], start=None), "needs start="),
        (lambda: up.MetaGradientDescent("sgd").meta_fit([lambda w: w**2], start=jnp.ones(())), "there are 1"),
    ],
)
def test_what_is_no_family_is_refused(make, said):
    with pytest.raises(TaskError, match=said):
        make()


def test_families_take_turns_and_a_run_can_be_cut():
    def stepper(size):
        family = Problems(lambda w, d: (d * w**2).sum(), np.linspace(1.0, 2.0, 4), start=jnp.ones(size))
        rule = LossDescent(family.loss, family.shapes, LearnedSGD(0.01), 3, name=family.name)
        return ScanStepper(
            rule,
            family.shapes,
            family.draw(2),
            family.arrays(),
            optimiser=Optimiser("sgd", 0.5),
            validation=(family.draw(4), family.arrays()),
        )

    turns = Turns([stepper(1), stepper(3)])
    state, metrics = turns.advance(turns.start(), 0, 2 * BLOCK + 2)
    # by hand: the steppers hand params and moments to each other
    one, two = turns.steppers
    by_hand, _ = one.advance(one.start(), 0, BLOCK)
    by_hand, _ = two.advance(by_hand, BLOCK, BLOCK)
    by_hand, last = one.advance(by_hand, 2 * BLOCK, 2)
    np.testing.assert_array_equal(metrics.losses[-2:], last.losses)
    for name, array in one.params(by_hand).items():
        np.testing.assert_array_equal(turns.params(state)[name], array)
    cut, _ = turns.advance(turns.start(), 0, BLOCK + 2)
    cut, _ = turns.advance(turns.unpack(turns.pack(cut)), BLOCK + 2, BLOCK)
    for name, array in turns.params(state).items():
        np.testing.assert_array_equal(turns.params(cut)[name], array)
    judged = turns.validate(state)
    assert judged is not None
    assert judged.loss == pytest.approx(np.mean([own.validate(by_hand).loss for own in (one, two)]))
