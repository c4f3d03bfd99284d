"""MAML++: hand-worked case, MAML where only the last step counts, the schedule over a training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_cases import (
    agrees_with_central_differences,
    double_params,
    hand_worked,
    masked_rows_count_for_nothing,
    problem,
    slope_net,
)

from upstairs.inner.descent import SGD, PerStepSGD
from upstairs.inner.gradient import Maml
from upstairs.inner.maml_plus import MamlPlusPlus, step_weights
from upstairs.inner.traced import Spec
from upstairs.nets import NetSpec
from upstairs.outer import scan
from upstairs.outer.draws import TaskDraw, flat_data
from upstairs.outer.outer_gradient import outer_gradient
from upstairs.outer.scan import ScanStepper
from upstairs.tasks.batches import FlatRows

KEY = jax.random.key(0)


def test_hand_worked_case() -> None:
    """Two steps of rate .1, even weights: per task (1 - .1 h) g(phi_1) / 2 + (1 - .1 h)^2 g(phi_2) / 2."""
    with jax.enable_x64(True):
        rule = MamlPlusPlus(slope_net(), steps=2, rate=0.1, first_order=0.5)
        early = hand_worked(rule, progress=0.0)
        assert float(early["net/t"]) == pytest.approx((1.1115 - 1.344) / 2, abs=1e-12)
        second = hand_worked(MamlPlusPlus(slope_net(), steps=2, rate=0.1, first_order=0.0), progress=0.0)
        assert float(second["net/t"]) == pytest.approx((0.952965 - 0.68544) / 2, abs=1e-12)
        late = hand_worked(MamlPlusPlus(slope_net(), steps=2, rate=0.1, floor=0.0), progress=0.9)
        assert float(late["net/t"]) == pytest.approx((0.85293 - 0.36288) / 2, abs=1e-12)


def test_step_weights() -> None:
    """Hand-worked: K = 4, halfway (1 - .5) / 4; at the end .03 / 4 and 1 - 3 * .03 / 4."""
    np.testing.assert_allclose(step_weights(4, jnp.array(0.5)), [0.125, 0.125, 0.125, 0.625], rtol=1e-6)
    np.testing.assert_allclose(step_weights(4, jnp.array(2.0)), [0.0075] * 3 + [0.9775], rtol=1e-6)
    np.testing.assert_allclose(step_weights(1, jnp.array(0.3)), [1.0])


@pytest.mark.parametrize(("ways", "steps"), [(0, 2), (3, 7)])
def test_weight_on_the_last_step_only_is_maml(ways: int, steps: int) -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(ways)
        rule = MamlPlusPlus(net, ways, steps, 0.2, floor=0.0)
        maml, maml_own = Maml(net, ways, steps, SGD(0.2)), Maml(net, ways, steps, PerStepSGD(0.2, steps))
        params = double_params(rule, spec)
        equal = {name: jnp.full_like(v, 0.2) if name.startswith("descent/") else v for name, v in params.items()}

        def slope(rule: Any) -> Any:
            return jax.jit(jax.grad(lambda p: rule.outer_loss(p, support, query, KEY)))

        own = slope(rule)
        for mine, theirs in (
            (own(params), slope(maml_own)(params)),
            (own(equal), slope(maml)({k: v for k, v in equal.items() if not k.startswith("descent/")})),
        ):
            for name, array in theirs.items():
                np.testing.assert_allclose(mine[name], array, rtol=1e-9, atol=1e-13)


def test_gradients_are_central_differences() -> None:
    with jax.enable_x64(True):
        spec, net, support, query = problem(3)
        rule = MamlPlusPlus(net, 3, 2, 0.2, first_order=0.05)
        params = double_params(rule, spec)
        agrees_with_central_differences(lambda p: rule.outer_loss(p, support, query, KEY, 0.1), params)


def test_masked_rows_and_bad_settings() -> None:
    spec, net, support, _ = problem(0)
    masked_rows_count_for_nothing(MamlPlusPlus(net, 0, 2), spec, support)
    with pytest.raises(ValueError, match="steps must be at least 1, but is 0"):
        MamlPlusPlus(net, 0, 0)
    with pytest.raises(ValueError, match=r"anneal is a share and must lie in \[0, 1\], but is 2"):
        MamlPlusPlus(net, anneal=2.0)


def test_a_training_tells_how_far_it_is() -> None:
    rng = np.random.default_rng(0)
    rows = FlatRows(rng.normal(size=(40, 3)), rng.normal(size=40), np.arange(0, 41, 8))
    net, spec, draw = NetSpec("mlp", (3,), (4,), 1, "tanh"), Spec((3,)), TaskDraw(2, (3, 3), 3)
    rule, data = MamlPlusPlus(net, 0, 2), flat_data(rows)

    def stepper(rule: Any = rule, steps: int | None = 8) -> ScanStepper:
        return ScanStepper(rule, spec, draw, data, steps=steps)

    whole, cut = stepper(), stepper()
    _, metrics = whole.advance(whole.start(), 0, 6)
    size = scan._advance._cache_size()
    state, losses = cut.start(), []
    for start, count in ((0, 1), (1, 5)):
        state, part = cut.advance(state, start, count)
        losses.append(part.losses)
    other, changed = stepper(steps=100), stepper(steps=100).start()
    changed, slower = other.advance(changed, 0, 6)
    assert scan._advance._cache_size() == size
    np.testing.assert_array_equal(np.concatenate(losses), metrics.losses)
    assert slower.losses[0] == metrics.losses[0]
    assert slower.losses[1] != metrics.losses[1]
    assert len({stepper(steps=steps).fingerprint() for steps in (8, 100, None)}) == 3
    assert len({stepper(Maml(net), steps).fingerprint() for steps in (8, 100)}) == 1

    params = whole.start()[0]

    @jax.jit
    def losses_at(params: Any, step: Any, progress: Any) -> Any:
        _, support, query = draw(data, np.uint32(0), step)
        return outer_gradient(rule, params, support, query, jax.random.split(KEY, 2), None, progress)[0]

    each = losses_at(params, np.uint32(3), np.float32(3 / 8))
    resumed = cut.advance(whole.start(), 3, 1)[1]
    assert float(each.mean()) == pytest.approx(float(resumed.losses[0]), rel=1e-6)
