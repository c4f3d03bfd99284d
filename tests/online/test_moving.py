"""Drift within a world under a prior that is a start for steps: a follower steps on from where it stands."""

from dataclasses import replace

import numpy as np
import pytest

import upstairs as up
from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.gradient import Maml
from upstairs.inner.ridge import RidgeHead
from upstairs.inner.traced import Spec, Traced
from upstairs.learners.adaptation import Situation, adapt_all, steps_on
from upstairs.nets import NetSpec
from upstairs.online.drift import incremental
from upstairs.online.following import forgetful_worlds
from upstairs.online.learner import OnlineMetaLearner
from upstairs.online.prior_worlds import PriorWorlds
from upstairs.online.stream import prequential

FAMILY = up.tasks.synthetic.SharedSubspace()


@pytest.fixture(scope="module")
def descent():
    meta = up.MetaGradientDescent(training=up.Training(steps=60), shots=10, random_state=0)
    return meta.meta_fit(FAMILY.sample(20, 30, random_state=0)).learner()


def test_a_drift_is_followed_by_steps(descent, tmp_path):
    """Better than without, also after a stop in mid-stream, and the loss of the newest rows never rises by a chunk's steps."""
    stream = incremental(FAMILY, worlds=2, length=200, width=200, random_state=1)
    still = prequential(OnlineMetaLearner(descent, forgetting=None, hazard=0.0), stream.chunks(20)).total
    model = OnlineMetaLearner(descent, hazard=0.0)
    assert prequential(model, stream.chunks(20)).total < 0.9 * still
    assert model.drift_ > 0.5
    up.save(model, tmp_path / "stream")
    again = up.load(tmp_path / "stream")
    for each in (model, again):
        each.partial_fit(stream.X[:40], stream.y[:40])
    np.testing.assert_array_equal(again.predict(stream.X), model.predict(stream.X))


def test_steps_go_on_from_where_a_task_stands(descent):
    """From the start they are those of a new task; from elsewhere they are not, and lead further down."""
    situation = descent._situation_of_prior()
    task = FAMILY.sample(1, 20, random_state=3)[0]
    x, y = situation.encoder.encode(task.X), (task.y - situation.center) / situation.scale
    first = adapt_all(situation, [x[:0]], [y[:0]])[0]
    once, anew = steps_on(first, x, y), adapt_all(situation, [x], [y])[0]
    for name, array in anew.state.items():
        np.testing.assert_allclose(once.state[name], array, rtol=1e-5, atol=1e-6)
    twice = steps_on(once, x, y)
    assert any(np.abs(twice.state[name] - once.state[name]).max() > 1e-4 for name in once.state)


def test_steps_that_lead_uphill_are_not_made(descent):
    """A learned rate may be too large to be used again and again: such a world starts anew."""
    situation = descent._situation_of_prior()
    wild = {name: array + 5.0 * name.startswith("descent/rate") for name, array in situation.params.items()}
    (worlds,) = forgetful_worlds(replace(situation, params=wild), 100, (0.95,))
    assert isinstance(worlds, PriorWorlds)
    assert worlds.moves
    task = FAMILY.sample(1, 200, random_state=3)[0]
    x, y = situation.encoder.encode(task.X), (task.y - situation.center) / situation.scale
    world = worlds.blank()
    for start in range(0, 200, 20):
        part = slice(start, start + 20)
        before = worlds.log_density(world, x[part], y[part]).mean()
        world = worlds.learn(world, x[part], y[part])
        after = worlds.log_density(world, x[part], y[part]).mean()
        assert after >= before or np.isclose(after, worlds.log_density(worlds.again(world), x[part], y[part]).mean())


def test_a_rule_that_starts_from_rows_does_not_move():
    ridge = Traced(RidgeHead(NetSpec("mlp", (3,), (4,), 4)), Spec((3,)))
    assert not ridge.moves
    assert ridge.onward({}, {}) is None
    assert not BayesianLinear().moves
    assert Traced(Maml(NetSpec("mlp", (3,), (4,), 1)), Spec((3,))).moves
    images = Traced(Maml(NetSpec("conv4", (28, 28, 1), (4,), 2), 2), Spec((28, 28, 1), 2))
    assert images.moves
    assert forgetful_worlds(Situation(images, BayesianLinear(), {}, None, 2), 100, "auto") == ()
    assert not Traced(Maml(NetSpec("mlp", (3,), (4,), 2), 2), Spec((3,), 2), own=True).moves
