"""A training that is told to end: by SIGTERM, by limits; and what joins several."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import upstairs as up
from upstairs.cli import main
from upstairs.tasks.store import from_store
from upstairs.tasks.synthetic import Sinusoids


def words(folder: Path, out: Path, *more: str) -> list[str]:
    return ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--out", str(out), *more]


def test_sigterm_ends_with_the_best_prior_so_far(folder: Path, tmp_path: Path) -> None:
    more = ["--method", "ridge", "--steps", "1000000", "--checkpoint", str(tmp_path / "run")]
    command = [sys.executable, "-m", "upstairs", *words(folder, tmp_path / "prior", *more)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        first = training.stderr.readline()
        assert first.startswith("1000000 steps at most: about ")
        assert "of memory for the steps" in first
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate(timeout=120)
    assert training.returncode == 0, said
    assert "Training stopped after " in said
    assert "It took " in said
    prior = up.load(tmp_path / "prior").prior_
    assert 0 < prior.settings["outer"]["steps"] < 1000000
    assert "the callback asked for it" in prior.settings["outer"]["ended"]
    assert json.loads((tmp_path / "run" / "prior.json").read_text())["step"] == prior.settings["outer"]["steps"]


def test_a_time_limit_and_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Sinusoids().sample(20, 20, random_state=0).to_store(tmp_path / "store")
    assert len(from_store(tmp_path / "store")) == 20
    command = ["fit", str(tmp_path / "store"), "--method", "ridge", "--net", "mlp", "--out", str(tmp_path / "prior")]
    assert main([*command, "--steps", "1000000", "--time-limit", "0.5", "--memory-limit", "4"]) == 0
    assert "the time limit of 0.5 seconds is reached" in capsys.readouterr().err
    assert main([*command, "--target", "y"]) != 0
    assert "is a store, which knows its tasks and their target; leave --target out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--processes", "2"], "need --coordinator HOST:PORT"),
        (["--coordinator", "localhost:1", "--process", "0"], "--coordinator needs --processes"),
        (["--learner", "tree", "--time-limit", "3"], "are not for --learner tree"),
        (["--method", "maml", "--time-limit", "-3"], "time_limit must be a positive number"),
    ],
)
def test_what_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(words(folder, tmp_path / "prior", *more)) != 0
    assert said in capsys.readouterr().err
