"""In context: what rows may see, gradients, the draws of Gaussian processes, and what a stranger's rule needs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.inner.context import InContext
from upstairs.inner.traced import Logits, Normal, Spec, TaskRows, log_density
from upstairs.nets.transformer import attend
from upstairs.outer.synthetic_draws import GaussianProcessDraw

RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(9, 3)), RNG.normal(size=(4, 3))
MASK = np.arange(9) < 7
KEY = jax.random.key(0)


def _rule(ways: int, recut: float = 0.0) -> InContext:
    return InContext(ways, width=8, layers=1, heads=2, recut=recut)


@functools.cache
def _start(ways: int) -> dict[str, np.ndarray]:
    start = jax.jit(_rule(ways).init, static_argnums=1)(jax.random.key(0), Spec((3,), ways))
    return {name: np.asarray(array) for name, array in start.items()}


def _params(ways: int) -> dict[str, np.ndarray]:
    noisy = np.random.default_rng(1)
    return {k: v.astype(np.float64) + 0.3 * noisy.normal(size=v.shape) for k, v in _start(ways).items()}


def _targets(ways: int) -> np.ndarray:
    return np.arange(9) % ways if ways else np.sin(X.sum(axis=1))


@functools.partial(jax.jit, static_argnums=0)
def _predicted(rule: InContext, params: Any, support: TaskRows, new: Any) -> Any:
    return rule.predict(params, rule.adapt(params, *support), new)


_loss = jax.jit(lambda rule, *rows: rule.outer_loss(*rows), static_argnums=0)
_density = jax.jit(log_density)


def _said(rule: InContext, params: Any, x: Any, y: Any, mask: Any, new: Any) -> np.ndarray:
    predicted = _predicted(rule, params, TaskRows(x, y, mask), new)
    assert isinstance(predicted, Logits if rule.ways else Normal)
    return np.column_stack([np.asarray(entry) for entry in predicted])


@pytest.mark.parametrize("ways", [0, 3])
def test_what_rows_may_see(ways: int) -> None:
    with jax.enable_x64(True):
        rule, y = _rule(ways), _targets(ways)
        params = _params(ways)
        want = _said(rule, params, X, y, MASK, X_NEW)
        assert want.shape == (4, ways or 2)
        # the order of support rows does not matter
        order = np.random.default_rng(3).permutation(9)
        np.testing.assert_allclose(_said(rule, params, X[order], y[order], MASK[order], X_NEW), want, rtol=1e-10)
        # nor do masked rows, whatever they hold, or where they stand
        odd_x, odd_y = np.where(MASK[:, None], X, 1e6), np.where(MASK, y, 0 if ways else np.nan)
        np.testing.assert_allclose(_said(rule, params, odd_x, odd_y, MASK, X_NEW), want, rtol=1e-10)
        np.testing.assert_allclose(_said(rule, params, X[:7], y[:7], MASK[:7], X_NEW), want, rtol=1e-10)
        # but the rows that count do
        assert abs(_said(rule, params, X, y, np.arange(9) < 6, X_NEW) - want).max() > 1e-3
        # query rows know nothing of each other
        one = X_NEW.copy()
        one[1:] += 9.0
        np.testing.assert_allclose(_said(rule, params, X, y, MASK, one)[0], want[0], rtol=1e-10)
        # without rows: what the learned token says
        none = _said(rule, params, X, y, np.zeros(9, bool), X_NEW)
        assert np.isfinite(none).all()
        np.testing.assert_allclose(_said(rule, params, X + 1.0, y, np.zeros(9, bool), X_NEW), none, rtol=1e-10)


@pytest.mark.parametrize("ways", [0, 3])
def test_one_pass_is_adapt_and_predict(ways: int) -> None:
    """The loss of a training step is that of `adapt` and `predict`, and with fewer rows that of a part of them."""
    with jax.enable_x64(True):
        rule, y = _rule(ways), _targets(ways)
        params = _params(ways)
        support, query = TaskRows(X, y, MASK), TaskRows(X_NEW, y[:4], np.arange(4) < 3)
        found = _loss(rule, params, support, query, jax.random.key(0))
        density = _density(_predicted(rule, params, support, query.x), query.y)
        assert float(found) == pytest.approx(-float(np.asarray(density)[:3].mean()), rel=1e-12)
        again, key = _rule(ways, recut=1.0), jax.random.key(1)
        seen = np.asarray(jax.jit(again._cut)(MASK, key))
        assert 0 < seen.sum() < 7
        assert not (seen & ~MASK).any()
        both = np.concatenate([X, X_NEW])
        density = _density(_predicted(rule, params, TaskRows(X, y, seen), both), np.concatenate([y, y[:4]]))
        asked = np.concatenate([MASK & ~seen, query.mask])
        found = _loss(again, params, support, query, key)
        assert float(found) == pytest.approx(-float(np.asarray(density)[asked].mean()), rel=1e-12)


def test_fewer_rows_are_of_log_uniform_number() -> None:
    count = 7
    cut = jax.jit(jax.vmap(lambda key: _rule(0, recut=1.0)._cut(jnp.asarray(MASK), key).sum()))
    sizes = np.bincount(np.asarray(cut(jax.random.split(jax.random.key(0), 4000))), minlength=count + 1)
    want = np.log(np.arange(2, count + 2) / np.arange(1, count + 1)) / np.log(count + 1)
    np.testing.assert_allclose(sizes[:count] / 4000, want, atol=0.03)
    assert sizes[count] <= 2


@pytest.mark.parametrize("ways", [0, 3])
def test_gradients_are_central_differences(ways: int) -> None:
    with jax.enable_x64(True):
        rule, y = _rule(ways), _targets(ways)
        params = _params(ways)
        rows, new = TaskRows(X, y, MASK), TaskRows(X_NEW, y[:4], np.ones(4, bool))
        both = jax.jit(jax.value_and_grad(lambda p: rule.outer_loss(p, *jax.tree.map(jnp.asarray, (rows, new)), KEY)))
        gradient = {name: np.asarray(array) for name, array in both(params)[1].items()}
        for number, (name, array) in enumerate(params.items()):
            direction = np.random.default_rng(number).normal(size=array.shape)
            above, below = (both(params | {name: array + sign * 1e-5 * direction})[0] for sign in (1.0, -1.0))
            expected = float(above - below) / 2e-5
            assert float((gradient[name] * direction).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-8), name
            none = name == "net/blocks.0.key.bias" or (not ways and name.endswith("alike"))
            assert none or abs(expected) > 1e-7, name  # what is added to all keys alike changes no weight


def test_attention_by_hand() -> None:
    """Two places with scores 0 and log 3, and a third one that is hidden."""
    query, key = jnp.ones((1, 1, 1)), jnp.array([[[0.0], [np.log(3.0)], [9.0]]])
    value = jnp.array([[[4.0], [8.0], [100.0]]])
    assert float(attend(query, key, value, jnp.array([0.0, 0.0, -1e30]))[0, 0, 0]) == pytest.approx(7.0)


def test_classes_are_exchangeable_at_the_start() -> None:
    """Before training another numbering of the classes gives the same predictions, renumbered."""
    rule, y = _rule(3), _targets(3)
    params = {name: array.astype(np.float32) for name, array in _start(3).items()}
    x, new = X.astype(np.float32), X_NEW.astype(np.float32)
    want, turn = _said(rule, params, x, y, MASK, new), np.array([2, 0, 1])
    assert abs(want - want.mean(axis=1, keepdims=True)).max() > 0.1
    np.testing.assert_allclose(_said(rule, params, x, turn[y], MASK, new)[:, turn], want, rtol=1e-4, atol=1e-5)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="layers must be at least 1, but is 0"):
        InContext(layers=0)
    with pytest.raises(ValueError, match=r"recut must be a probability from 0 to 1, but is 1\.5"):
        InContext(recut=1.5)
    with pytest.raises(TaskError, match=r"shots must be \(low, high\)"):
        GaussianProcessDraw(shots=(0, 4))
    with pytest.raises(TaskError, match="noise must be positive"):
        GaussianProcessDraw(noise=0.0)
    rows = TaskRows(jnp.zeros((1, 1)), jnp.zeros(1), jnp.ones(1, bool))
    with pytest.raises(TaskError, match="needs a known length scale"):
        GaussianProcessDraw(length=(0.5, 1.0)).posterior(rows, jnp.zeros((1, 1)))


def test_the_gaussian_process_is_what_it_says() -> None:
    """Moments of many tasks, log-uniform sizes, and the exact posterior by hand for one row."""
    draw = GaussianProcessDraw(batch=3000, shots=(1, 7), queries=1, noise=0.5)
    _, support, query = jax.jit(lambda step: draw({}, 3, step))(0)
    x, y, mask = (np.asarray(entry, np.float64) for entry in support)
    assert y.mean() == pytest.approx(0.0, abs=0.02)
    assert y.var() == pytest.approx(1.25, abs=0.03)
    kernel = np.exp(-0.5 * (x[:, 0, 0] - x[:, 1, 0]) ** 2 / 0.25)
    assert np.mean(y[:, 0] * y[:, 1] - kernel) == pytest.approx(0.0, abs=0.06)
    sizes = np.bincount(mask.sum(axis=1).astype(int), minlength=8)[1:] / 3000
    np.testing.assert_allclose(sizes, np.log(np.arange(2, 9) / np.arange(1, 8)) / np.log(8), atol=0.03)
    one = TaskRows(jnp.array([[0.0], [1.0]]), jnp.array([2.0, 7.0]), jnp.array([True, False]))
    found = draw.posterior(one, jnp.array([[0.5]]))
    kernel = np.exp(-0.5)
    assert float(found.mean[0]) == pytest.approx(kernel * 2.0 / 1.25, rel=1e-5)
    assert float(found.variance[0]) == pytest.approx(1.25 - kernel**2 / 1.25, rel=1e-5)
    assert query.mask.all()
