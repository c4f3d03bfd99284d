"""Bundled tasks have the sizes that their documentation states, and need no network."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from upstairs.errors import MissingExtraError
from upstairs.tasks import bundled
from upstairs.tasks.table import Table


def test_digits_are_a_pool_of_ten_classes() -> None:
    pool = bundled.digits()
    assert pool.classes.tolist() == list(range(10))
    assert pool.X.shape == (1797, 8, 8)
    assert pool.X.min() == 0
    assert pool.X.max() == 1
    assert pool.counts.min() == 174
    assert len(set(pool.groups)) == 10
    assert pool.episodes(2, ways=5, shots=1, queries=5, random_state=0).labels == "own"


def test_chicks_are_fifty_growth_curves() -> None:
    chicks = bundled.chick_weights()
    assert len(chicks) == 50
    assert chicks.rows.sum() == 578
    assert (chicks.rows.min(), chicks.rows.max()) == (2, 12)
    assert chicks.kind == "regression"
    assert chicks.names == chicks.canonical().names
    assert len(set(chicks.groups)) == 50
    for chick in chicks:
        table = chick.X
        assert isinstance(table, Table)
        assert table.categorical == ("diet",)
        assert len(set(table.column("diet"))) == 1
        assert np.all(np.diff(table.column("time")) > 0)
    assert {str(chick.X.column("diet")[0]) for chick in chicks} == {"1", "2", "3", "4"}


def test_chicks_equal_the_stream_of_river() -> None:
    from river.datasets import ChickWeights

    stream = {(row["chick"], row["time"]): (weight, row["diet"]) for row, weight in ChickWeights()}
    ours = {
        (int(chick.name[-2:]), int(time)): (int(weight), int(diet))
        for chick in bundled.chick_weights()
        for time, diet, weight in zip(chick.X.column("time"), chick.X.column("diet"), chick.y, strict=True)
    }
    assert ours == stream


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install river"):
        bundled.chick_weights()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match="pip install scikit-learn"):
        bundled.digits()
    assert importlib.util.find_spec("river") is not None
