from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from upstairs.cli import main
from upstairs.cli.evaluate import _baselines, _states, partly
from upstairs.evaluate import EvaluationResult

FAST = ["--baselines", "no-meta,pooled"]


def test_held_out_tasks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "evaluate",
        "--train",
        str(folder / "train.csv"),
        "--task",
        "shop",
        "--target",
        "revenue",
        "--shots",
        "2,5",
    ]
    words += ["--splits", "2", "--draws", "2", "--guard", *FAST]
    assert main([*words, "--json", str(tmp_path / "r.json"), "--csv", str(tmp_path / "r.csv")]) == 0
    shown = capsys.readouterr()
    assert "18 tasks, 216 rows, regression; 2 splits, 25% of the tasks held out each time" in shown.out
    for said in (
        "2 support rows, every split",
        "5 support rows, every split",
        "in 90 % interval",
        "neural-network / it, mse",
    ):
        assert said in shown.out
    lines = shown.out.splitlines()
    assert sum(line.startswith("no-meta ") for line in lines) == 2
    assert sum(line.startswith("neural-network, guard ") for line in lines) == 2
    assert sum(line.startswith(("0 ", "1 ")) for line in lines) == 4
    assert "\x1b" not in shown.out
    document = json.loads((tmp_path / "r.json").read_text())
    result = EvaluationResult.from_dict(document)
    assert document["random_states"] == [0, 1]
    assert result.learners == ("neural-network", "neural-network, guard", "no-meta", "pooled")
    with (tmp_path / "r.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == len(result.columns["task"])
    assert {record["split"] for record in records} == {"0", "1"}


def test_a_prior_on_new_tasks(folder: Path, prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(prior), str(folder / "new.csv"), "--task", "shop", "--target", "revenue", "--shots", "3"]
    assert main([*words, "--train", str(folder / "train.csv"), *FAST]) == 0
    shown = capsys.readouterr().out
    assert "on 2 tasks of new.csv" in shown
    assert "3 support rows, 2 test tasks" in shown
    assert "pooled" in shown
    assert main([*words, "--baselines", "no-meta"]) == 0
    assert "every split" not in capsys.readouterr().out


def test_rows_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--train", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--splits", "1"]
    assert main([*words, "--order", "ads", "--draws", "1", "--baselines", "no-meta"]) == 0
    assert "1 split," in capsys.readouterr().out


def test_prior_mistakes(folder: Path, prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(prior)]) == 2
    assert "needs a FILE" in capsys.readouterr().err
    words = ["evaluate", str(prior), str(folder / "new.csv"), "--task", "shop", "--target", "revenue"]
    assert main([*words, "--splits", "3"]) == 2
    assert "use --draws" in capsys.readouterr().err
    assert main([*words, "--metric", "auc"]) == 2
    assert "--metric" in capsys.readouterr().err


def test_small_words() -> None:
    assert _baselines("tuned, logistic, pooled Gaussian prior,no-meta") == [
        "tuned",
        "logistic, pooled Gaussian prior",
        "no-meta",
    ]
    assert (_states(None), _states("2"), _states("3:5"), _states("0,7")) == ([0, 1, 2], [0, 1], [3, 4, 5], [0, 7])
    seen: list[tuple[int, int]] = []
    partly(lambda done, total: seen.append((done, total)), 1, 4)(5, 10)
    assert seen == [(1000, 4000), (1500, 4000)]
