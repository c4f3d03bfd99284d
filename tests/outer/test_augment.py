"""Further training tasks: what they are made of, that rows of a task change alike, and that held-out tasks never do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.gradient import Maml
from upstairs.inner.traced import Spec
from upstairs.nets import NetSpec
from upstairs.outer.affine import distorted
from upstairs.outer.augment import AugmentedDraw, training_draw
from upstairs.outer.draws import EpisodeDraw, TaskDraw, flat_data, pool_data
from upstairs.outer.scan import judge
from upstairs.outer.training import Training, train
from upstairs.tasks.batches import FlatRows

RNG = np.random.default_rng(0)
ROWS = FlatRows(RNG.normal(size=(60, 3)) + 5.0, RNG.normal(size=60), np.arange(0, 61, 10))
DATA = flat_data(ROWS)
PLAIN = TaskDraw(batch=6, shots=(4, 4), queries=4)
POOL = pool_data(np.repeat(np.arange(8.0), 6)[:, None], np.repeat(np.arange(8), 6))
EPISODES = EpisodeDraw(batch=6, ways=2, shots=(2, 2), queries=3)


def drawn(draw, data=DATA, step=3):  # type: ignore[no-untyped-def]
    return jax.jit(lambda data, step: draw(data, np.uint32(7), step))(data, np.uint32(step))


def test_noise_has_its_size_and_leaves_targets_alone():
    _, support, query = drawn(AugmentedDraw(PLAIN, noise=0.5))
    _, before, asked = drawn(PLAIN)
    moved = np.concatenate([np.ravel(support.x - before.x), np.ravel(query.x - asked.x)])
    assert abs(moved.std() / 0.5 - 1) < 0.2
    assert (support.y == before.y).all()
    again = drawn(AugmentedDraw(PLAIN, noise=0.5))[1]
    other = drawn(AugmentedDraw(PLAIN, noise=0.5), step=4)[1]
    assert (again.x == support.x).all()
    assert not np.isin(np.asarray(other.x), np.asarray(support.x)).any()


def test_every_image_is_distorted_by_a_map_of_its_own():
    images = np.zeros((48, 9, 9))
    images[:, 3:6, 4] = 1.0
    pool = pool_data(images, np.repeat(np.arange(8), 6))
    _, support, query = drawn(AugmentedDraw(EPISODES, affine=0.2, classes=True), pool)
    _, before, _ = drawn(EPISODES, pool)
    assert support.x.shape == before.x.shape
    assert (support.y == before.y).all()
    every = np.concatenate([np.reshape(part.x, (-1, 81)) for part in (support, query)])
    assert len(np.unique(every, axis=0)) == len(every)
    assert every.min() >= 0.0  # between places is interpolated, nothing overshoots
    assert every.max() <= 1.0


def test_an_affine_map_moves_turns_and_stretches_around_the_centre():
    images = jnp.asarray(np.random.default_rng(0).random((3, 7, 5, 2)))
    assert np.allclose(distorted(jax.random.key(0), images, 1e-9), images, atol=1e-5)
    flat = jnp.ones((50, 6, 6, 1)) * 0.3
    assert np.allclose(distorted(jax.random.key(1), flat, 0.5), 0.3, atol=1e-6)  # beyond the border it goes on
    slope = jnp.broadcast_to(jnp.arange(41.0)[:, None, None] - 20.0, (500, 41, 41, 1))
    seen = np.asarray(distorted(jax.random.key(2), slope, 0.05))[..., 0]
    moved, stretched = seen[:, 20, 20], (seen[:, 23, 20] - seen[:, 17, 20]) / 6
    turned = (seen[:, 20, 23] - seen[:, 20, 17]) / 6
    for value, mean, spread in ((moved, 0.0, 0.5 * 0.05 * 41), (stretched, 1.0, 0.05), (turned, 0.0, 0.05)):
        assert value.mean() == pytest.approx(mean, abs=5 * spread / 500**0.5)
        assert value.std() == pytest.approx(spread, rel=0.2)


def test_a_task_does_without_the_same_columns_in_support_and_query():
    _, support, query = drawn(AugmentedDraw(PLAIN, dropout=0.5))
    gone = np.asarray(support.x == 0)
    assert (gone == gone[:, :1]).all()  # every row of a task alike
    assert (np.asarray(query.x == 0) == gone[:, :1]).all()
    assert 0.2 < gone.mean() < 0.8
    assert len(np.unique(gone[:, 0], axis=0)) > 1  # tasks differ


def test_a_mixed_task_lies_between_two_tasks_row_by_row():
    tasks, support, query = drawn(AugmentedDraw(PLAIN, mixing=1.0))
    _, before, asked = drawn(PLAIN)
    for new, old in ((support, before), (query, asked)):
        other = np.roll(old.x, 1, axis=0)
        share = np.asarray((new.x - other) / (old.x - other))
        assert np.allclose(share, share[:, :1, :1], atol=1e-4)  # one share a task
        share = share[:, 0, 0]
        assert np.allclose(new.y, share[:, None] * old.y + (1 - share[:, None]) * np.roll(old.y, 1, axis=0), atol=1e-4)
    assert (share > 0.999).any()
    assert (share < 0.999).any()
    assert sorted(tasks.tolist()) == list(range(6))  # of training tasks


def test_mixed_classes_keep_their_numbers():
    _, support, _ = drawn(AugmentedDraw(EPISODES, mixing=1.0, classes=True), POOL)
    _, before, _ = drawn(EPISODES, POOL)
    assert (support.y == before.y).all()
    values = np.asarray(support.x[..., 0])
    for task, classes in zip(values, np.asarray(support.y), strict=True):
        for number in range(2):
            assert np.ptp(task[classes == number]) < 1e-5  # all rows of a class with the same share
    assert (np.abs(values - np.round(values)) > 1e-3).any()


def test_rows_that_only_one_of_two_tasks_has_do_not_count():
    rows = FlatRows(ROWS.x, ROWS.y, np.array([0, 3, 60]))
    _, _, query = drawn(AugmentedDraw(TaskDraw(2, (2, 2), 5), mixing=1.0), flat_data(rows), step=0)
    plain = drawn(TaskDraw(2, (2, 2), 5), flat_data(rows), step=0)[2]
    assert plain.mask.sum() == 6
    assert query.mask.sum() in (2, 6)  # the long task mixed with the short one has its one query row


def test_held_out_tasks_are_never_changed():
    rule, spec = Maml(NetSpec("mlp", (3,), (4,), 1), steps=1), Spec((3,))
    held = flat_data(FlatRows(ROWS.x[::-1].copy(), ROWS.y, ROWS.offsets))
    training = Training(steps=2, rate=1e-3, validate_every=1, augment={"noise": 1e3, "dropout": 0.5, "mixing": 1.0})
    draw = training_draw(PLAIN, training, "regression")
    outcome = train(rule, spec, draw, DATA, training, validation=(PLAIN, held))
    losses, errors = judge(rule, PLAIN, held, outcome.params, batches=4, seed=0x5EED)
    assert outcome.checks[outcome.best_step - 1].tolist() == pytest.approx([losses.mean(), errors.mean()], rel=1e-6)
    assert outcome.losses[0] > 10 * outcome.checks[0, 0]  # the training tasks were drowned in noise


def test_the_public_learner_judges_on_classes_as_they_are():
    """The prior's report is what its params reach on plain held-out classes, whatever was done to training classes."""
    seen, reports = [], []
    pool = up.ClassPool(RNG.normal(size=(60, 3)), np.repeat(np.arange(12), 5))
    for augment in ((), {"noise": 1e4}):
        training = up.Training(steps=1, rate=1e-12, queries=2, augment=augment, callback=seen.append)
        meta = up.MetaNeuralNetwork("prototype", net={"name": "mlp", "sizes": (4,)}, training=training, shots=1)
        reports.append(meta.meta_fit(pool).prior_.settings["report"][-1]["loss"])
    assert reports[0] == pytest.approx(reports[1], rel=1e-3)
    assert all(event.memory > 0 for event in seen)


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match="augment must be a sequence of 'rotations'"):
        Training(augment=("blur",))
    with pytest.raises(ValueError, match="strength of 'dropout' in augment must be a number between 0 and 1, or None"):
        Training(augment={"dropout": 1.0})
    with pytest.raises(up.TaskError, match="'mixing' needs at least 2 tasks a step"):
        AugmentedDraw(TaskDraw(1, (1, 1), 1), mixing=0.5)
    with pytest.raises(ValueError, match="strength of 'noise' in augment must be a number above 0, or None"):
        Training(augment={"noise": "much"})
    with pytest.raises(ValueError, match=r"augment must be a sequence of 'rotations'.*, but is None"):
        Training(augment=None)
    assert Training(augment={"noise": True}).strengths == {"noise": 0.1}
    with pytest.raises(up.TaskError, match="these tasks share labels"):
        training_draw(PLAIN, Training(augment=("mixing",)), "shared", 2)
    for name in ("rotations", "affine"):
        with pytest.raises(
            up.TaskError, match=f"'{name}' turns the images of a ClassPool, but these tasks have columns"
        ):
            training_draw(PLAIN, Training(augment=(name,)), "regression")
    assert training_draw(PLAIN, Training(), "regression") is PLAIN
    assert training_draw(EPISODES, Training(augment=("rotations",)), "own") is EPISODES
