"""A file becomes a store, and a store a prior."""

from __future__ import annotations

from pathlib import Path

import pytest

import upstairs as up
from upstairs.cli import main


def test_a_file_becomes_a_store_and_grows(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--task", "shop", "--target", "revenue", "--out", str(tmp_path / "tasks")]
    assert main(["store", str(folder / "train.csv"), *how]) == 0
    shown = capsys.readouterr()
    assert "TaskSet(18 tasks, 216 rows, regression)" in shown.out
    assert "upstairs fit" in shown.err
    table = up.TaskSet.from_frame(up.tasks.readers.read_table(folder / "train.csv"), task="shop", target="revenue")
    store = up.TaskSet.from_store(tmp_path / "tasks")
    assert {task.name: task.y.tolist() for task in store} == {task.name: task.y.tolist() for task in table}
    assert main(["store", str(folder / "new.csv"), *how]) != 0  # it is not asked to add
    assert main(["store", str(folder / "new.csv"), *how, "--append"]) == 0
    assert len(up.TaskSet.from_store(tmp_path / "tasks")) == 20
    assert main(["fit", str(tmp_path / "tasks"), "--prior-mean", "linear", "--out", str(tmp_path / "prior")]) == 0


def test_what_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", str(folder / "train.csv"), "--task", "shop", "--out", str(tmp_path / "s")]) != 0
    assert "--target missing: name the columns" in capsys.readouterr().err
    words = ["store", str(folder / "train.csv"), "--task", "shp", "--target", "revenue", "--out", str(tmp_path / "s")]
    assert main(words) != 0
    assert "'shp'" in capsys.readouterr().err
    assert not (tmp_path / "s").exists() or not any((tmp_path / "s").iterdir())
