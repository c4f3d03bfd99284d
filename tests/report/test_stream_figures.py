"""Pictures of streams."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from upstairs.errors import MissingExtraError, TaskError
from upstairs.online.stream import StreamResult
from upstairs.report import plot_stream, plot_worlds, stream_figure

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

FOUND = [{"at": 30, "kind": "new", "world": 1}, {"at": 60, "kind": "recall", "world": 0}]


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def result(loss: np.ndarray, classifies: bool = True) -> StreamResult:
    return StreamResult(loss, loss, loss, np.arange(len(loss)), classifies, 1.0)


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_curves_are_rolling_accuracies() -> None:
    loss = np.arange(100) % 3 == 0
    ax = plot_stream({"mine": result(loss.astype(float)), "_other$": result(1.0 - loss)}, rows=10)
    mine, other = ax.get_lines()
    np.testing.assert_allclose(mine.get_ydata()[3:], result(loss.astype(float)).rolling(10)[3:])
    assert np.isnan(mine.get_ydata()[:3]).all()
    assert mine.get_linestyle() != other.get_linestyle()
    assert texts(ax) == ["mine", " _other$"]
    assert ax.get_ylabel() == "accuracy\n(newest 10 rows)"
    assert plot_stream({"mine": result(loss.astype(float))}, ax=ax) is ax


def test_changes_are_told_apart_by_their_marks() -> None:
    ax = plot_stream({"mine": result(np.zeros(100))}, found=[*FOUND, {"at": 900, "kind": "new", "world": 2}], true=[25])
    assert texts(ax) == ["mine", "true change", "declared: new", "declared: back"]
    new, back = ax.get_lines()[1:]
    assert (new.get_xdata().tolist(), back.get_xdata().tolist()) == ([30], [60])
    assert (new.get_fillstyle(), back.get_fillstyle()) == ("full", "none")
    assert texts(plot_stream({"mine": result(np.zeros(100))}, found=[3, 9]))[-1] == "declared"


def test_errors_far_apart_stand_on_a_logarithmic_scale() -> None:
    one, other = result(np.ones(200), classifies=False), result(np.full(200, 100.0), classifies=False)
    assert plot_stream({"a": one, "b": other}).get_yscale() == "log"
    assert plot_stream({"a": one}).get_yscale() == "linear"
    assert "mean squared error" in plot_stream({"a": one}).get_ylabel()


def test_every_world_has_its_own_line() -> None:
    ax = plot_worlds(np.repeat([4, 7, 4], [10, 20, 30]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["4", "7"]
    boxes = [path.get_extents().bounds for path in ax.collections[0].get_paths()]
    assert [(left, width, low + height / 2) for left, low, width, height in boxes] == [
        (0, 10, 0),
        (10, 20, 1),
        (30, 30, 0),
    ]
    many = plot_worlds(np.repeat(np.arange(100), 3))
    assert len(many.get_yticks()) <= 12
    assert len(many.collections[0].get_paths()) == 100


def test_two_pictures_on_one_scale() -> None:
    loss = np.zeros(100)
    figure = stream_figure({"mine": result(loss)}, found=FOUND, true=[25, 55], world=np.repeat([0, 1], 50))
    above, below = figure.axes
    assert above.get_xlim() == below.get_xlim() == (0, 100)
    assert len(stream_figure({"mine": result(loss)}).axes) == 1
    figure.savefig(sys.modules["io"].BytesIO(), format="png")


def test_errors_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="rows=0"):
        plot_stream({"mine": result(np.zeros(3))}, rows=0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (plot_stream, stream_figure):
        with pytest.raises(MissingExtraError, match=r"upstairs\[plot\]"):
            draw({"mine": result(np.zeros(3))})
