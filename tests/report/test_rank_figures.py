"""Critical-difference diagrams."""

from __future__ import annotations

import numpy as np
import pytest

from upstairs.evaluate.ranks import rank_analysis
from upstairs.report.rank_figures import plot_ranks

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def ranks():
    rng = np.random.default_rng(0)
    return rank_analysis(
        np.array([0.0, 0.01, 1.0, 1.01, 2.0]) + 0.1 * rng.normal(size=(20, 5)), ["a", "b", "c", "d", "far"]
    )


def bars(ax):
    return {line.get_label(): line.get_xdata() for line in ax.get_lines() if line.get_linewidth() == 4}


def test_bars_span_what_is_not_told_apart():
    found = ranks()
    ax = plot_ranks(found)
    drawn = bars(ax)
    assert [tuple(label.split(", ")) for label in drawn] == list(found.cliques())
    at = dict(zip(found.learners, found.mean_ranks.tolist(), strict=True))
    for label, ends in drawn.items():
        names = label.split(", ")
        np.testing.assert_allclose(ends, [at[names[0]] - 0.03, at[names[-1]] + 0.03])
    assert "20 tasks" in ax.get_title()
    assert "Wilcoxon, Holm" in ax.get_title()


def test_every_learner_is_named_with_its_rank():
    found = ranks()
    said = " ".join(text.get_text() for text in plot_ranks(found).texts)
    for name, rank in zip(found.learners, found.mean_ranks.tolist(), strict=True):
        assert f"{name}  {rank:.2f}" in said or f"{rank:.2f}  {name}" in said


def test_names_do_not_lie_on_each_other():
    ax = plot_ranks(ranks())
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])


def test_nemenyi_shows_its_critical_difference():
    found = ranks()
    ax = plot_ranks(found, by="nemenyi")
    assert [tuple(label.split(", ")) for label in bars(ax)] == list(found.cliques("nemenyi"))
    assert f"CD = {found.critical_difference:.2f}" in [text.get_text() for text in ax.texts]
    assert plot_ranks(found, ax=ax) is ax
