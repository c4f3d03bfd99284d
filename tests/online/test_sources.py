"""River's data sets and readers of frames as chunks."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from upstairs.errors import TaskError
from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
from upstairs.online.sources import frame_chunks, river_chunks
from upstairs.online.stream import prequential

FEW = {"frequencies": 8, "forgetting": (1.0, 0.97)}
FRAME = pd.DataFrame({"x": np.arange(5.0), "kind": list("uvuvu"), "y": [0.0, 1.0, np.nan, 3.0, 4.0]})


def test_river_is_not_imported_with_the_module() -> None:
    import subprocess

    code = "import sys, upstairs.online.sources; sys.exit('river' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_data_sets_of_river() -> None:
    datasets = pytest.importorskip("river.datasets")
    result = prequential(ForgetfulClassifier(**FEW), river_chunks(datasets.Bananas(), 20, limit=200))
    assert len(result.loss) == 200
    assert result.total > 0.5
    trump = prequential(ForgetfulRegressor(**FEW), river_chunks(datasets.TrumpApproval(), 50, limit=300))
    assert trump.total < np.var(trump.actual)
    drifting = list(river_chunks(datasets.synth.FriedmanDrift(seed=0), 10, limit=25))
    assert [X.num_rows for X, _ in drifting] == [10, 10, 5]
    assert drifting[0][0].column_names == [str(number) for number in range(10)]


def test_only_what_is_asked_for_is_read() -> None:
    read = []

    def pairs():
        for number in range(1000):
            read.append(number)
            yield {"a": number}, number

    stream = river_chunks(pairs(), 10)
    next(stream)
    assert read == list(range(10))


def test_missing_keys_and_targets() -> None:
    pairs = [({"a": 1, "b": True}, None), ({"a": None, "c": "u"}, 2), ({"a": 3}, 1)]
    ((X, y),) = river_chunks(pairs, 5)
    assert X.to_pydict() == {"a": [1.0, None, 3.0], "b": [1.0, None, None], "c": [None, "u", None]}
    np.testing.assert_array_equal(y, [np.nan, 2.0, 1.0])
    ((X, y),) = river_chunks([({"a": 1, "z": 2}, "up"), ({"a": 1}, None)], 5, columns=["a"])
    assert (X.column_names, y.tolist()) == (["a"], ["up", None])
    (_, words) = next(river_chunks([({"a": 1}, True), ({"a": 1}, None)], 5))
    assert words.tolist() == [True, None]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([({"a": 1}, 0), ({"a": 1}, 0), ({"b": 1}, 0)], "row 2 has the key 'b', which no row of the first chunk has"),
        ([({"a": 1}, 0), ({"a": 1}, 0), ({"a": "x"}, 0)], "column 'a' must hold numbers or text.*'x'"),
        ([({"a": "x"}, 0), ({"a": 1}, 0)], "the same all along, but has 1"),
        ([({"a": [1]}, 0)], r"but has \[1\]"),
        ([({"a": 1}, {"p": 1, "q": 2})], "several targets"),
    ],
)
def test_pairs_that_are_refused(pairs, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        list(river_chunks(pairs, 2))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.Table.from_pandas, pa.RecordBatch.from_pandas])
def test_frames_of_every_library(make) -> None:
    frames = [make(FRAME.iloc[:3]), make(FRAME.iloc[3:].reset_index(drop=True))]
    found = list(frame_chunks(iter(frames), "y", 2))
    assert [len(y) for _, y in found] == [2, 1, 2]
    np.testing.assert_array_equal(np.concatenate([y.astype(float) for _, y in found]), FRAME["y"])
    assert [len(X) for X, _ in found] == [2, 1, 2]
    whole = list(frame_chunks(frames, "y", drop=["kind"]))
    assert [len(y) for _, y in whole] == [3, 2]
    result = prequential(ForgetfulRegressor(**FEW), whole)
    assert np.isnan(result.loss[:3]).all()


def test_a_reader_of_a_file(tmp_path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    with pd.read_csv(tmp_path / "a.csv", chunksize=2) as reader:
        assert [len(y) for _, y in frame_chunks(reader, "y")] == [2, 2, 1]
    with pytest.raises(TaskError, match=r"frame 0 of the stream: there is no column 'z' \(target=\)"):
        list(frame_chunks([FRAME], "z"))
    with pytest.raises(TaskError, match="rows=0"):
        list(river_chunks([], 0))
