"""What users set of methods that are trained by gradients: synthetic tasks, learned scales, and what they are warned of."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.context import InContext
from upstairs.inner.descent import SGD
from upstairs.inner.implicit import ImplicitMaml
from upstairs.inner.traced import Spec
from upstairs.nets import NetSpec
from upstairs.nets.precision import HalfNet, computing
from upstairs.outer.augment import training_draw
from upstairs.outer.draws import TaskDraw, flat_data
from upstairs.outer.scan import unsolved
from upstairs.outer.synthetic_draws import SyntheticTargets
from upstairs.outer.training import train
from upstairs.tasks.batches import FlatRows

RNG = np.random.default_rng(0)
NET = {"name": "mlp", "sizes": (4,)}
SHORT = up.Training(steps=2, rate=1e-2, queries=2)


def test_synthetic_targets_are_functions_of_the_rows_with_the_variance_of_targets():
    rows = FlatRows(RNG.normal(size=(1200, 2)), np.zeros(1200), np.arange(0, 1201, 30))
    plain = TaskDraw(batch=40, shots=(10, 10), queries=10)
    make = jax.jit(SyntheticTargets(plain, share=0.5))
    tasks, support, query = make(flat_data(rows), np.uint32(0), np.uint32(2))
    before = jax.jit(plain)(flat_data(rows), np.uint32(0), np.uint32(2))
    assert (tasks == before[0]).all()
    assert (support.x == before[1].x).all()
    assert (support.y[20:] == 0).all()
    own = np.concatenate([support.y[:20], query.y[:20]], axis=1)
    assert 0.5 < np.sqrt((own**2).mean()) < 1.6
    assert (own.std(axis=1) > 0).all()
    classes = SyntheticTargets(plain, share=1.0, ways=3)
    _, support, query = jax.jit(classes)(flat_data(rows), np.uint32(0), np.uint32(2))
    assert set(np.unique(support.y)) == {0.0, 1.0, 2.0}


def test_a_prior_of_synthetic_tasks_only_never_sees_the_targets_of_the_users():
    x, y, offsets = RNG.normal(size=(80, 3)), RNG.normal(size=80), np.arange(0, 81, 20)
    training = up.Training(steps=2, rate=1e-2, synthetic=1.0)
    draw = training_draw(TaskDraw(batch=4, shots=(4, 4), queries=4), training, "regression")
    rule = InContext(width=8, layers=1, heads=2)
    found = [train(rule, Spec((3,)), draw, flat_data(FlatRows(x, own, offsets)), training).params for own in (y, -y)]
    np.testing.assert_array_equal(found[0]["last/weight"], found[1]["last/weight"])
    assert np.abs(found[0]["last/weight"]).max() > 0
    pool = up.ClassPool(RNG.normal(size=(60, 3)), np.repeat(np.arange(12), 5))
    with pytest.raises(
        up.TaskError, match="synthetic gives rows new targets, but these tasks have labels of their own"
    ):
        up.MetaNeuralNetwork("in-context", training=up.Training(synthetic=0.5)).meta_fit(pool)
    with pytest.raises(ValueError, match="synthetic must be a share from 0 to 1, but is 2"):
        up.Training(synthetic=2)


def test_prototypes_learn_scales_of_features_and_go_on_from_them():
    pool = up.ClassPool(RNG.normal(size=(60, 3)), np.repeat(np.arange(12), 5))
    meta = up.MetaNeuralNetwork("prototype", net=NET, options={"diagonal": True}, training=SHORT, shots=1).meta_fit(
        pool
    )
    scale = np.diag(meta.prior_.group("params")["transform"])
    assert scale.shape == (64,)
    assert not np.allclose(scale, 1.0)
    more = up.ClassPool(RNG.normal(size=(20, 3)), np.repeat(np.arange(12, 16), 5))
    later = np.diag(meta.meta_partial_fit(more).prior_.group("params")["transform"])
    assert np.abs(later - scale).max() < 0.1  # two steps further, not from one again
    with pytest.raises(ValueError, match="no option 'steps'; its options are diagonal"):
        up.MetaNeuralNetwork("prototype", options={"steps": 1}).meta_fit(pool)
    with pytest.raises(ValueError, match="'diagonal' scales the features of a network, but there is none"):
        up.MetaNeuralNetwork("prototype", options={"diagonal": True}).meta_fit(pool)


def test_a_problem_that_is_not_solved_is_said():
    tasks = up.tasks.synthetic.SharedSubspace().sample(12, 20, random_state=0)
    few = {"steps": 1, "descent": SGD(1e-4)}
    with pytest.warns(up.UnsolvedWarning, match="after the inner steps 100 % of its first gradient is left"):
        up.MetaNeuralNetwork("imaml", net=NET, options=few, training=SHORT, shots=4).meta_fit(tasks)
    data = flat_data(FlatRows(RNG.normal(size=(80, 3)), RNG.normal(size=80), np.arange(0, 81, 20)))
    draw, spec = TaskDraw(batch=4, shots=(4, 4), queries=2), Spec((3,))
    well = ImplicitMaml(NetSpec("mlp", (3,), (4,), 1), steps=60, regulariser=5.0)
    assert unsolved(well, draw, data, jax.jit(well.init, static_argnums=1)(jax.random.key(0), spec)) < 0.1


def test_networks_may_compute_in_bfloat16():
    pool = up.ClassPool(RNG.normal(size=(60, 3)), np.repeat(np.arange(12), 5))
    training = up.Training(steps=1, rate=1e-12, queries=2, precision="bfloat16")
    meta = up.MetaNeuralNetwork("prototype", net=NET, training=training, shots=1).meta_fit(pool)
    params, report = meta.prior_.group("params"), meta.prior_.settings["report"]
    assert params["net/layers.0.weight"].dtype == np.float32
    start = NetSpec("mlp", (3,), (4,), 64).init(jax.random.key(0))
    assert np.abs(params["net/layers.0.weight"]).max() > 0
    assert set(start) == {name[4:] for name in params if name.startswith("net/")}
    assert np.isfinite(report[-1]["loss"])
    net = NetSpec("mlp", (3,), (4,), 1)
    assert computing(net, "bfloat16") == HalfNet(net)
    assert computing(net, "float32") is net
    tasks = up.tasks.synthetic.SharedSubspace().sample(12, 20, random_state=0)
    half = up.Training(steps=1, precision="bfloat16")
    with pytest.raises(ValueError, match="precision='bfloat16' is for methods with a network"):
        up.MetaNeuralNetwork("in-context", options={"width": 8, "layers": 1, "heads": 2}, training=half).meta_fit(tasks)
    with pytest.raises(ValueError, match="precision must be 'float32' or 'bfloat16', but is 'half'"):
        up.Training(precision="half")


def test_network_features_are_trained_on_what_was_asked_for_too():
    tasks = up.tasks.synthetic.SharedSubspace().sample(12, 20, random_state=0)
    with pytest.raises(up.TaskError, match="'rotations' turns the images of a ClassPool, but these tasks have columns"):
        up.MetaNeuralNetwork(net=NET, training=up.Training(augment=("rotations",))).meta_fit(tasks)
