"""``upstairs recommend``, and the other commands on what it wrote."""

from __future__ import annotations

import numpy as np
import pytest

import upstairs as up
from upstairs.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")


@pytest.mark.parametrize(("file", "kind"), [("train.csv", "regression"), ("sold.csv", "classification")])
def test_settings_for_a_table_and_a_model(folder, tmp_path, capsys, file, kind):
    model = str(tmp_path / "model")
    words = ["recommend", str(folder / file), "--target", "revenue", "--drop", "shop", "--estimator", "decision-tree"]
    assert main([*words, "--out", model, "--guard"]) == 0
    said = capsys.readouterr().out
    assert f"{file}: 216 rows, 3 columns, {kind}" in said
    assert "Familiarity" in said
    assert "Guard: cross-validated" in said
    assert main(["predict", model, str(folder / file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("prediction" if kind == "regression" else "prediction,p_no,p_yes")
    assert len(lines) == 217
    assert main(["inspect", model]) == 0
    said = capsys.readouterr().out
    assert "PriorTree" in said
    assert "left-out tasks" in said


def test_a_tuner_of_your_own(folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    tasks = [up.Task(rng.normal(size=(30, 3)), rng.normal(size=30), f"t{n}") for n in range(4)]
    tuner = up.MetaTuner("ridge", [{"alpha": 1.0}, {"alpha": 100.0}], cv=2).meta_fit(tasks)
    up.save(tuner, tmp_path / "tuner")
    assert main(["inspect", str(tmp_path / "tuner")]) == 0
    said = capsys.readouterr().out
    assert "4 data sets in 4 groups, 3 settings" in said
    assert "alpha=100.0" in said
    words = ["recommend", str(folder / "train.csv"), "--target", "revenue", "--prior", str(tmp_path / "tuner")]
    assert main(words) == 0
    assert "alpha=" in capsys.readouterr().out


def test_mistakes_are_named(folder, prior, tmp_path, capsys):
    assert main(["recommend", str(folder / "train.csv"), "--target", "profit"]) == 2
    assert "profit" in capsys.readouterr().err
    assert main(["recommend", str(folder / "train.csv"), "--target", "revenue", "--estimator", "oak"]) == 2
    assert "known are decision-tree" in capsys.readouterr().err
    assert main(["recommend", str(folder / "train.csv"), "--target", "revenue", "--prior", str(prior)]) == 2
    assert "settings come from a MetaTuner" in capsys.readouterr().err
    model = str(tmp_path / "m")
    assert (
        main(["recommend", str(folder / "new.csv"), "--target", "revenue", "--estimator", "ridge", "--out", model]) == 0
    )
    assert main(["predict", model, str(folder / "new.csv"), "--interval", "0.9"]) == 2
    assert "--interval needs a model that knows its spread" in capsys.readouterr().err
