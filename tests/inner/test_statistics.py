"""Rows may share statistics, padding never has a part in them, and a method that would mix tasks refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.anil import Anil
from upstairs.inner.gradient import Maml
from upstairs.inner.heads import PrototypeHead
from upstairs.inner.proto_maml import ProtoMaml
from upstairs.inner.ridge import RidgeHead
from upstairs.inner.rule import Rows
from upstairs.inner.svm_head import SvmHead
from upstairs.inner.traced import Spec, TaskRows, Traced, TracedRule
from upstairs.nets import NetSpec

SPEC = Spec((2, 2, 1), 2)
FEATURES = NetSpec("conv4", (2, 2, 1), (3,), statistics="batch")
LOGITS = NetSpec("conv4", (2, 2, 1), (3,), 2, statistics="batch")
RULES = [
    Maml(LOGITS, 2, 1),
    Anil(LOGITS, 2, 1),
    ProtoMaml(FEATURES, 2, 1),
    PrototypeHead(FEATURES, 2),
    RidgeHead(FEATURES, 2),
    SvmHead(FEATURES, 2),
]


def rows(count: int, padding: int, fill: float, seed: int) -> TaskRows:
    x = jax.random.normal(jax.random.key(seed), (count, 2, 2, 1))
    x = jnp.concatenate([x, jnp.full((padding, 2, 2, 1), fill)])
    return TaskRows(x, jnp.arange(count + padding) % 2, jnp.arange(count + padding) < count)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_padding_has_no_part_in_the_statistics(rule: TracedRule) -> None:
    params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), SPEC)
    loss = jax.jit(lambda support, query: rule.outer_loss(params, support, query, jax.random.key(1)))
    zeros = loss(rows(4, 3, 0.0, 2), rows(3, 2, 0.0, 3))
    np.testing.assert_allclose(loss(rows(4, 3, 9.0, 2), rows(3, 2, -7.0, 3)), zeros, rtol=1e-4)
    if isinstance(rule, Maml):  # nor in their number
        np.testing.assert_allclose(loss(rows(4, 0, 0.0, 2), rows(3, 0, 0.0, 3)), zeros, rtol=1e-4)


def test_a_prediction_depends_on_real_rows_only() -> None:
    rule = Maml(LOGITS, 2, 1)
    face = Traced(rule, SPEC)
    params = jax.tree.map(np.asarray, jax.jit(rule.init, static_argnums=1)(jax.random.key(0), SPEC))
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    state = face.adapt(params, Rows(x, np.tile([0, 1, 0, 1, 0], (2, 1)), np.ones((2, 5), bool)))
    found = face.predict(params, state, x).probability
    one = {name: jnp.asarray(array[0], jnp.float32) for name, array in state.items()}
    direct = rule.predict(
        jax.tree.map(jnp.asarray, params), one, jnp.asarray(x[0], jnp.float32).reshape(5, 2, 2, 1), jnp.ones(5, bool)
    )
    np.testing.assert_allclose(found[0], jax.nn.softmax(direct.value), rtol=1e-4)  # the bucket holds more than 5 rows
    mask = np.array([[True] * 3 + [False] * 2, [True] * 5])
    real = face.predict_real(params, state, Rows(x, np.zeros((2, 5), int), mask)).probability
    np.testing.assert_allclose(real[0, :3], face.predict(params, state, x[:, :3]).probability[0], rtol=1e-5)
    np.testing.assert_allclose(real[1], found[1], rtol=1e-5)
    assert np.abs(real[0, :3] - found[0, :3]).max() > 1e-3


def test_a_method_that_maps_all_tasks_at_once_refuses() -> None:
    images = np.random.default_rng(0).integers(0, 255, (24, 4, 4)).astype(np.uint8)
    pool = up.ClassPool(images, np.repeat(list("abcd"), 6))
    with pytest.raises(ValueError, match=r"method='prototype' maps rows of all tasks at once"):
        up.MetaNeuralNetwork("prototype", net={"name": "conv4", "statistics": "batch"}, ways=2).meta_fit(pool)


@pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")
def test_a_prior_says_whose_statistics_it_was_learned_with() -> None:
    images = np.random.default_rng(0).integers(0, 255, (72, 2, 2)).astype(np.uint8)
    pool = up.ClassPool(images, np.repeat(list("abcdefghijkl"), 6))
    net = {"name": "conv4", "sizes": (2,), "statistics": "batch"}
    training = up.Training(steps=2, validate_every=2, batch=2, queries=2)
    meta = up.MetaNeuralNetwork("maml", net=net, ways=2, shots=1, options={"steps": 1}, training=training)
    meta.meta_fit(pool)
    assert meta.prior_.settings["net"]["statistics"] == "batch"
    flat = images.reshape(72, 4)
    model = meta.adapt(flat[[0, 6]], np.array(["a", "b"]))
    together, alone = model.predict_proba(flat[:9]), model.predict_proba(flat[:1])
    assert together.shape == (9, 2)
    assert np.abs(together[0] - alone[0]).max() > 1e-6
