"""MetaGradientDescent, on losses and on tasks of rows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.preconditioner import Kronecker
from upstairs.learners.descents import gradient_for
from upstairs.optim import Objective, Problems
from upstairs.outer.estimators import EvolutionStrategies, Forward
from upstairs.outer.windows import Windows

SHORT = up.Training(steps=30, rate=0.1, batch=4)


def bowls(count=10):
    data = np.random.default_rng(0).uniform(0.5, 2.0, size=(count, 3)).astype(np.float32)
    return Problems(lambda w, d: (d * jnp.square(w - 1.0)).sum(), data, start=jnp.zeros(3))


@pytest.fixture(scope="module")
def rows():
    family = up.tasks.synthetic.SharedSubspace()
    meta = up.MetaGradientDescent(steps=5, training=up.Training(steps=200))
    return family, meta.meta_fit(family.sample(30, 25, random_state=0))


@pytest.mark.parametrize("gradient", ["reverse", "forward", "es", "truncated", "nres", "pes"])
def test_every_gradient_makes_runs_better(gradient):
    loss = lambda w: jnp.square(w - 1.0).sum()  # noqa: E731
    meta = up.MetaGradientDescent(
        "sgd", steps=6, options={"rate": 0.02, "momentum": None}, gradient=gradient, training=SHORT
    )
    meta.meta_fit(bowls())
    assert meta.prior_.settings["gradient"].startswith(gradient)
    _, losses = meta.descend(loss, jnp.zeros(3))
    usual = 3.0 * (1.0 - 0.04) ** 12
    assert float(losses[-1]) < 0.8 * usual


def test_the_way_to_the_gradient_is_chosen_by_numbers_and_steps():
    assert isinstance(gradient_for("auto", 2, 500, windows=True)[0], Forward)
    assert gradient_for("auto", 900, 200, windows=True)[0] is None
    assert gradient_for("auto", 900, 1000, windows=True)[0] == Windows("nres", 20)
    assert isinstance(gradient_for("auto", 900, 1000, windows=False)[0], EvolutionStrategies)
    assert "900 numbers over 1000 steps" in gradient_for("auto", 900, 1000, windows=True)[1]


def test_penalties_are_learned_through_the_solution():
    """Ten rows, three columns that mean something and nine that do not: the penalty that helps new rows is found."""
    rng = np.random.default_rng(0)
    count, columns = 24, 12
    true = np.where(np.arange(columns) < 3, rng.normal(size=(count, columns)), 0.0)
    x, new = rng.normal(size=(2, count, 30, columns))
    noise = rng.normal(size=(2, count, 30))
    told = [np.einsum("trc,tc->tr", rows, true) + noise[n] for n, rows in enumerate((x, new))]
    data = {"x": x[:, :14], "y": told[0][:, :14], "new": new, "told": told[1]}

    def loss(w, d, x="x", y="y"):
        return 0.5 * jnp.square(d[x] @ w["real"] + d[x] @ w["noise"] - d[y]).mean()

    def split(w):
        mask = jnp.arange(columns) < 3
        return {"real": jnp.where(mask, w["real"], 0.0), "noise": jnp.where(mask, 0.0, w["noise"])}

    problems = Problems(
        lambda w, d: loss(split(w), d),
        {name: array.astype(np.float32) for name, array in data.items()},
        start={"real": jnp.zeros(columns), "noise": jnp.zeros(columns)},
        judge=lambda w, d: loss(split(w), d, "new", "told"),
    )
    meta = up.MetaGradientDescent(
        up.optim.SGD(0.2),
        steps=200,
        gradient="implicit",
        penalty=0.1,
        objective=Objective("last"),
        training=up.Training(steps=80, rate=0.1, batch=8),
    )
    learned = meta.meta_fit(problems).prior_.group("params")
    assert learned["penalty/noise"] > learned["penalty/real"] + 1.0
    assert sorted(learned) == ["penalty/noise", "penalty/real"]


def test_a_resumed_training_is_the_same(tmp_path):
    problems = bowls()

    def fit(steps, folder):
        training = up.Training(steps=steps, rate=0.1, batch=4, checkpoint=folder, checkpoint_seconds=0)
        return (
            up.MetaGradientDescent("network", steps=4, options={"width": 3, "bend": 0}, training=training)
            .meta_fit(problems)
            .prior_
        )

    assert fit(12, tmp_path / "one") == fit(12, tmp_path / "one") == fit(12, tmp_path / "two")


def test_a_learned_start_begins_where_problems_start():
    data = np.linspace(0.5, 1.5, 6).astype(np.float32)
    problems = Problems(lambda w, d: (d * jnp.square(w - 3.0)).sum(), data, start=jnp.full(2, 7.0))
    meta = up.MetaGradientDescent("sgd", steps=2, learn_start=True, training=up.Training(steps=1, rate=1e-9))
    np.testing.assert_allclose(meta.meta_fit(problems).prior_.arrays["params/start/weights"], 7.0, rtol=1e-6)


def test_priors_on_losses_survive_a_folder(tmp_path):
    meta = up.MetaGradientDescent("adam", steps=4, training=SHORT).meta_fit(bowls())
    up.save(meta, tmp_path / "prior")
    again = up.load(tmp_path / "prior")
    assert again.prior_ == meta.prior_
    loss = lambda w: jnp.square(w - 1.0).sum()  # noqa: E731
    np.testing.assert_array_equal(again.descend(loss, jnp.zeros(3))[1], meta.descend(loss, jnp.zeros(3))[1])
    for refused in (meta.learner, meta.adapt_zero):
        with pytest.raises(up.PriorMismatchError, match="learned on losses"):
            refused()
    tasks = up.tasks.synthetic.SharedSubspace().sample(5, 10, random_state=0)
    with pytest.raises(up.PriorMismatchError, match="meta_fit on all losses again"):
        meta.meta_partial_fit(tasks)
    with pytest.raises(up.TaskError, match="tasks are losses, but validation is a TaskSet"):
        meta.meta_fit(bowls(), validation=tasks)
    with pytest.raises(up.TaskError, match="start is for a list of functions"):
        meta.meta_fit(tasks, start=jnp.zeros(3))


def test_rows_are_learned_stored_and_read(rows, tmp_path):
    family, meta = rows
    task = family.sample(1, 30, random_state=5)[0]
    model = meta.adapt(task.X[:5], task.y[:5])
    plain = meta.plain_learner("regression").fit(task.X[:5], task.y[:5])
    assert model.score(task.X[5:], task.y[5:]) > plain.score(task.X[5:], task.y[5:])
    for thing, folder in ((meta, "prior"), (model, "model")):
        up.save(thing, tmp_path / folder)
    again = up.load(tmp_path / "prior").adapt(task.X[:5], task.y[:5])
    np.testing.assert_array_equal(again.predict(task.X), model.predict(task.X))
    np.testing.assert_array_equal(up.load(tmp_path / "model").predict(task.X), model.predict(task.X))


def test_steps_of_a_user_win(rows):
    family, meta = rows
    task = family.sample(1, 30, random_state=5)[0]
    far, near, usual = (meta.learner(steps=steps).fit(task.X[:5], task.y[:5]) for steps in (5, 1, None))
    np.testing.assert_array_equal(far.predict(task.X), usual.predict(task.X))
    assert np.abs(near.predict(task.X) - usual.predict(task.X)).max() > 1e-3
    with pytest.raises(ValueError, match="steps must be a whole number"):
        meta.learner(steps=0).fit(task.X[:5], task.y[:5])


def test_pairs_take_the_place_of_the_usual_momentum():
    usual, asked = (up.MetaGradientDescent(steps=3, options=given)._rows_plan() for given in ({}, {"pairs": 2}))
    assert usual.options["descent"] == Kronecker(momentum=0.5, steps=3)
    assert asked.options["descent"] == Kronecker(pairs=2, steps=3)
    with pytest.raises(ValueError, match="give one of the two"):
        up.MetaGradientDescent(steps=3, options={"pairs": 2, "momentum": 0.9})._rows_plan()


def test_a_given_start_stays(rows):
    family, _ = rows
    meta = up.MetaGradientDescent(steps=3, learn_start=False, goal="support", training=up.Training(steps=20))
    params = meta.meta_fit(family.sample(20, 25, random_state=0)).prior_.group("params")
    assert not any(np.any(array) for name, array in params.items() if name.startswith("net/"))
    assert any(np.abs(array - 0.1).max() > 1e-3 for name, array in params.items() if "rate" in name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rule": "newton"}, "rule must be 'auto'"),
        ({"options": {"depth": 3}, "rule": "adam"}, "has no option 'depth'"),
        ({"gradient": "central"}, "gradient must be 'auto'"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"goal": "support"}, "for tasks of rows"),
        ({"objective": "last"}, "objective must be an"),
        ({"learn_start": "yes"}, "learn_start must be"),
        ({"training": 3}, "training must be an upstairs.Training"),
    ],
)
def test_what_means_nothing_on_losses_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        up.MetaGradientDescent(**settings).meta_fit(bowls())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shortest": 2}, "for losses"),
        ({"gradient": "pes"}, "cuts runs into windows"),
        ({"gradient": "implicit"}, "for losses with a penalty"),
        ({"goal": "rows"}, "goal must be"),
    ],
)
def test_what_means_nothing_on_rows_is_refused(rows, settings, said):
    family, _ = rows
    with pytest.raises(ValueError, match=said):
        up.MetaGradientDescent(**settings).meta_fit(family.sample(5, 10, random_state=0))
