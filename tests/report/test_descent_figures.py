"""Pictures of learned descent."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.errors import PriorMismatchError
from upstairs.report import plot_curves, plot_rates, plot_schedule

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def prior_of(rule, **options):
    data = np.linspace(0.5, 2.0, 6).astype(np.float32)
    problems = up.optim.Problems(
        lambda w, d: d * (w["a"] ** 2).sum() + w["b"] ** 2, data, start={"a": jnp.ones(2), "b": jnp.ones(())}
    )
    training = up.Training(steps=3, rate=0.1)
    return up.MetaGradientDescent(rule, steps=4, options=options, training=training).meta_fit(problems).prior_


def test_a_schedule_is_drawn_as_it_was_learned():
    prior = prior_of("sgd", per="array", schedule=True)
    ax = plot_schedule(prior)
    assert [line.get_label() for line in ax.get_lines()] == ["a", "b"]
    for line in ax.get_lines():
        np.testing.assert_allclose(
            line.get_ydata(), np.exp(prior.group("params")[f"descent/rate/{line.get_label()}"]), rtol=1e-6
        )
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "step size")
    assert [text.get_text() for text in plot_rates(prior, "momentum").get_yticklabels()] == ["a", "b"]


def test_one_number_is_one_box_and_no_schedule():
    prior = prior_of("adam")
    assert [text.get_text() for text in plot_rates(prior).get_yticklabels()] == ["all weights"]
    with pytest.raises(PriorMismatchError, match="no 'rate' of its own for every step"):
        plot_schedule(prior)
    with pytest.raises(PriorMismatchError, match="no 'momentum'"):
        plot_rates(prior, "momentum")


def test_curves_have_a_median_and_a_band():
    runs = np.arange(1.0, 12.0)[:, None] * np.array([[1.0, 0.5, 0.1]])
    ax = plot_curves({"rule": runs}, band=0.8, log=False)
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), runs[5])
    edges = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (pytest.approx(0.2), 10.0)
    assert plot_curves({"again": runs}, ax=ax) is ax
    with pytest.raises(ValueError, match="must have the shape"):
        plot_curves({"one run": runs[0]})
    with pytest.raises(ValueError, match="band must lie between"):
        plot_curves({"rule": runs}, band=1.5)
