"""Examples run, and show what they say they show."""

from __future__ import annotations

import os
import pathlib
import re
import runpy
from typing import Any

import jax
import numpy as np
import pytest

import upstairs as up

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="a source distribution has no examples")


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def test_settings_from_experience(capsys):
    example("settings_from_experience")
    said = capsys.readouterr().out
    default, recommended = (float(value) for value in re.findall(r"tree, .*: ([\d.]+)", said))
    assert recommended < 0.5 * default
    assert "Experience(9 tasks in 9 groups, 7 settings" in said


def test_classic(capsys):
    classic = example("classic")
    assert classic["one_task"]() >= 0.85
    found = classic["family"](
        tasks=64, steps=20, test_tasks=3, seeds=1, lengths=(10,), plain_rows=(10, 200), our_rows=(10,)
    )
    assert {name: values.shape for name, values in found.items()}["upstairs, 10 rows"] == (1, 3)
    assert found["network, 10 epochs, 200 rows"].mean() > found["network, 10 epochs, 10 rows"].mean()
    assert "One task, 800 rows: test accuracy" in capsys.readouterr().out


def test_vision(capsys):
    vision = example("vision")
    means = vision["some_digits"](splits=1, draws=20)
    assert means["closed form, 6 digits", 1] > 50  # chance: 25
    assert means["closed form, 6 digits", 1] > means[vision["RAW"], 1] - 3
    pool = vision["made_up_characters"](4, 3)
    assert pool.X.shape == (12, 12, 12)
    apart = np.linalg.norm(pool.X[:, None] - pool.X[None], axis=(2, 3))
    same = pool.y[:, None] == pool.y[None]
    assert 1.2 * apart[same].sum() / (12 * 2) < apart[~same].mean()
    assert "with one drawing a class" in capsys.readouterr().out


def test_language(capsys):
    language = example("language")
    texts, labels = language["sentences"]()
    assert len(set(texts)) == len(texts) == len(labels) == 240

    def fewer_columns(training_texts):
        return language["hashed"](training_texts, columns=64)

    means = language["run"](fewer_columns, splits=1, draws=20)
    assert means[language["LEARNED"], 1] > means[language["CENTROID"], 1] + 5
    assert "An assistant that learned 5 intents" in capsys.readouterr().out


def test_bioinformatics(capsys):
    chemistry = example("bioinformatics")
    smiles, parts = chemistry["molecules"]()
    assert len(set(smiles)) == len(smiles) == len(parts) == 693
    means = chemistry["made_up"](number=14, new=4, seeds=1, draws=1, columns=12, measured=50)
    assert means["learned"] > means["pooled logistic regressions"]
    assert "MADE UP" in chemistry["__doc__"]
    assert "made-up molecules" in capsys.readouterr().out


def test_tables(capsys):
    settings = {"net": None, "prior_mean": "linear"}
    means = example("tables")["chicks"](splits=1, shots=(2,), baselines=["no-meta"], **settings)
    assert means["learned", 2] < 0.5 * means["no-meta", 2]
    assert "in its 90 % interval" in capsys.readouterr().out


def test_streams(capsys):
    streams = example("streams")
    errors = streams["products"](seeds=1, worlds=2, returns=2, length=60, prior_tasks=12)
    later = {name: values[:, :, 20:].mean() for name, values in errors.items()}
    assert later[streams["ONLINE"]] < 0.8 * later["one learner for ever"]
    x, y = streams["of_river"](streams["Phishing"]())
    accuracy = streams["real"]({"Phishing": (x[:150], y[:150])}, names=("logistic regression",))
    assert accuracy[streams["ONLINE"], "Phishing"] > accuracy["the label of the row before", "Phishing"] + 0.1
    assert "changes noticed within 50 rows" in capsys.readouterr().out


@pytest.mark.skipif(
    not os.environ.get("UPSTAIRS_LONG"), reason="a learned rule is trained in tests/optim as well; UPSTAIRS_LONG"
)
def test_optimisation(capsys):
    tasks = example("optimisation")
    loss = tasks["network_loss"]
    problems = up.optim.Problems(loss, sample=tasks["curve"], start=tasks["network_start"])
    rule = tasks["learned"](problems, 5, 20, batch=8, rule="sgd").transformation()
    keys = jax.random.split(jax.random.key(0), 20)
    data, starts = jax.vmap(tasks["curve"])(keys), jax.vmap(tasks["network_start"])(keys)
    rules = {tasks["LEARNED"]: rule} | tasks["tuned"](loss, data, starts, 5, (0.001, 0.1))
    assert any("rate 0.1" in name for name in rules)
    found = tasks["race"](rules, loss, data, starts, 5, (0, 5))
    learned = tasks["geometric"](found[tasks["LEARNED"]])
    assert learned[5] < 0.7 * learned[0]
    assert tasks["verdict"](found, 5) > 0.0
    assert "the better tuned one" in capsys.readouterr().out


def test_all_examples_are_run_and_a_failure_is_told(tmp_path, capsys):
    runner = example("run_all")
    there = {path.stem for path in EXAMPLES.glob("*.py")} - {"run_all"}
    assert set(runner["EXAMPLES"]) == there
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("print('fine')")
    bad.write_text("raise SystemExit('broken')")
    assert runner["run_all"]([good]) == 0
    assert runner["run_all"]([good, bad, good]) == 1
    said = capsys.readouterr().out
    assert "broken" in said
    assert said.count("good") == 2


@pytest.mark.parametrize("name", ["vision", "language", "bioinformatics", "tables", "streams", "optimisation"])
def test_the_full_version_says_what_is_missing(name, tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTAIRS_DATA", str(tmp_path))
    full = {
        "vision": "omniglot",
        "language": "clinc",
        "bioinformatics": "tox21",
        "tables": "families",
        "streams": "elec2",
        "optimisation": "landmine",
    }[name]
    with pytest.raises(SystemExit, match="does not exist; set UPSTAIRS_DATA"):
        example(name)[full]()
