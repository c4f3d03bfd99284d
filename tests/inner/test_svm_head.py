"""The support vector head: derivatives, masks, classes without rows, both kernels, and training in single precision."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.inner.svm_dual import solve_dual
from upstairs.inner.svm_head import SvmHead
from upstairs.inner.traced import Spec, TaskRows
from upstairs.nets import NetSpec
from upstairs.outer.draws import EpisodeDraw, pool_data
from upstairs.outer.loop import run
from upstairs.outer.optimiser import Optimiser
from upstairs.outer.scan import ScanStepper

KEY = jax.random.key(0)
NET = NetSpec("mlp", (3,), (4,), 5, "tanh", True)
RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(9, 3)), RNG.normal(size=(4, 3))
Y = np.array([0, 1, 0, 2, 1, 0, 0, 1, 2])
MASK = np.arange(9) < 7  # four, two and one rows


def _params(head: SvmHead) -> dict[str, jax.Array]:
    init = jax.jit(head.init, static_argnums=1)
    params = {k: jnp.asarray(v, jnp.float64) for k, v in init(jax.random.key(0), Spec((3,), 3)).items()}
    noisy = np.random.default_rng(1)
    return {k: v + 0.3 * noisy.normal(size=v.shape) for k, v in params.items()}


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_gradients_are_central_differences_and_states_are_right(kernel: str) -> None:
    with jax.enable_x64(True):
        head = SvmHead(NET, 4, kernel, 0.5)  # class 3 has no support rows
        params = _params(head)
        rows = TaskRows(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(MASK))
        new = TaskRows(jnp.asarray(X_NEW), jnp.array([0, 1, 2, 3]), jnp.ones(4, bool))

        def loss(params: Any) -> Any:
            state = head.adapt(params, *rows)
            logits = head.predict(params, state, new.x)
            return head.outer_loss(params, rows, new, jax.random.key(0)), (state, logits)

        both = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, (state, logits)), gradient = both(params)
        for number, (name, array) in enumerate(params.items()):
            direction = np.random.default_rng(number).normal(size=array.shape)
            ends = [float(both(params | {name: array + sign * 1e-6 * direction})[0][0]) for sign in (1.0, -1.0)]
            expected = (ends[0] - ends[1]) / 2e-6
            assert abs(expected) > 1e-6, name
            assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name

        net = {k[4:]: v for k, v in params.items() if k.startswith("net/")}
        known, asked = np.split(np.asarray(jax.jit(NET)(net, jnp.asarray(np.concatenate([X[:7], X_NEW])))), [7])

        def similar(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if kernel == "linear":
                return a @ b.T
            return np.exp(-0.5 * ((a[:, None] - b) ** 2).sum(axis=2) / np.exp(2 * params["width"]))

        matrix, target = similar(known, known) + 0.5 * np.eye(7), np.eye(3)[Y[:7]].T
        alpha = jax.jit(solve_dual)(*map(jnp.asarray, (matrix, np.exp(params["cost"]), target, np.ones((3, 7), bool))))
        expected = np.exp(params["scale"]) * similar(asked, known) @ np.asarray(alpha).T
        np.testing.assert_allclose(logits.value[:, :3], expected, rtol=1e-7, atol=1e-9)
        np.testing.assert_array_equal(logits.value[:, 3], params["absent"])
        if kernel == "rbf":
            np.testing.assert_array_equal(state["alpha"][:, 7:], 0.0)
            np.testing.assert_array_equal(state["support"][7:], 0.0)
        # no rows: every class is as probable
        nothing = TaskRows(rows.x, rows.y, jnp.zeros(9, bool))
        prior = jax.jit(lambda params, rows: head.predict(params, head.adapt(params, *rows), new.x).value)(
            params, nothing
        )
        np.testing.assert_array_equal(prior, float(params["absent"]))


def test_training_in_single_precision_is_steady() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 6))
    x = centers.repeat(12, axis=0) + 0.5 * rng.normal(size=(240, 6))
    x[:, 0] += 50.0 * rng.normal(size=240)  # a large column that says nothing
    learner = ScanStepper(
        SvmHead(NetSpec("mlp", (6,), (16,), 8), 5),
        Spec((6,), 5),
        EpisodeDraw(4, 5, (1, 3), 4),
        pool_data(x, np.repeat(np.arange(20), 12)),
        optimiser=Optimiser(rate=1e-2),
    )
    found = run(learner, 300, validate_every=300)  # a step that is not finite would be an error
    assert all(np.isfinite(array).all() for array in found.params.values())


def test_params_do_not_depend_on_the_number_of_classes() -> None:
    for kernel in ("linear", "rbf"):
        shapes = [
            {
                name: array.shape
                for name, array in jax.eval_shape(
                    lambda key, w=ways, k=kernel: SvmHead(NET, w, k).init(key, Spec((3,))), KEY
                ).items()
            }
            for ways in (2, 7)
        ]
        assert shapes[0] == shapes[1]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be 'linear' or 'rbf', but is 'poly'"):
        SvmHead(NET, 3, "poly")
    with pytest.raises(ValueError, match=r"regulariser must be a positive number, but is 0\.0"):
        SvmHead(NET, 3, regulariser=0.0)
