"""``upstairs report``: one command from a file of tasks to a page."""

from __future__ import annotations

from pathlib import Path

import pytest

import upstairs as up
from upstairs.cli import main
from upstairs.evaluate import EvaluationResult


def test_a_page_from_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    words = ["report", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--out", str(out)]
    words += ["--shots", "2,5", "--draws", "1", "--json", str(tmp_path / "r.json"), "--record", str(tmp_path / "run")]
    assert main([*words, "--no-forecast"]) == 0
    shown = capsys.readouterr()
    assert "with 5 rows the mse of neural-network is" in shown.out.splitlines()[0]
    assert "The page is" in shown.err
    text = out.read_text()
    for said in (
        "Does meta-learning help on train.csv?",
        "neural-network, guard",
        "no-meta",
        "Largest weights",
        "Familiarity",
        "Where the prior hurts",
        "--shots 2,5",
        "14 to learn from, 4 held out",
    ):
        assert said in text, said
    first = EvaluationResult.load(tmp_path / "r.json")
    assert first.episodes_hash[:12] in text
    assert first.meta_seconds["neural-network"] > 0
    assert "Would more tasks help?" not in text
    with monkeypatch.context() as patched:
        patched.setattr(up.MetaNeuralNetwork, "meta_fit", None)
        assert main([*words, "--no-forecast"]) == 0
    assert EvaluationResult.load(tmp_path / "r.json").same_numbers(first)


def test_several_families(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which family is learned is one thing, how several stand on a page another: all are the quickest one here."""
    from upstairs.cli import report as command

    names = {"neural-network": up.MetaNeuralNetwork, "svm": up.MetaSVM, "tree": up.MetaDecisionTree}
    assert {family.value for family in command.Family} == set(names)
    for family in command.Family:
        meta = command._made(family, ("size",), 3)
        assert type(meta) is names[family.value]
        assert (meta.categorical, meta.random_state) == (("size",), 3)
    monkeypatch.setattr(command, "_made", lambda *_: up.MetaNeuralNetwork(net=None, prior_mean="linear", shots=5))
    out = tmp_path / "report.html"
    words = ["report", str(folder / "sold.csv"), "--task", "shop", "--target", "revenue", "--labels", "shared"]
    words += ["--shots", "5", "--draws", "1", "--learner", "tree", "--learner", "neural-network", "--out", str(out)]
    words.append("--no-forecast")
    assert main(words) == 0
    text = out.read_text()
    assert "tree, guard" in text
    assert "--learner tree --learner neural-network" in text
    assert "neural-network, guard" not in text


def test_a_forecast_that_takes_long_is_quick_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from upstairs.cli import report as command

    asked = []
    monkeypatch.setattr("upstairs.evaluate.curves.task_curve", lambda meta, *_, **more: asked.append((meta, more)))
    protocol = {"shots": [1, 5], "ways": None, "queries": None, "draws": 1, "metric": None, "n_jobs": 1}
    _, remarks = command._curve(up.MetaNeuralNetwork(), None, None, 100.0, None, protocol, 0)
    assert "plain linear prior; with all that was tried here it takes about 16 minutes: add --forecast." in remarks[0]
    assert (asked[-1][0].net, asked[-1][1]["orders"], asked[-1][1]["shots"]) == (None, 3, 5)
    assert command._curve(up.MetaSVM(), None, None, 100.0, None, protocol, 0)[1][0].startswith("Whether more tasks")
    assert command._curve(up.MetaSVM(), None, None, 100.0, True, protocol, 0) == (None, [])
    assert command._curve(up.MetaSVM(), None, None, 0.1, False, protocol, 0) == (None, [])
    assert [more["orders"] for _, more in asked] == [3, 5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "."], "must be a file in a folder that there is"),
        (["--out", "nowhere/r.html"], "must be a file in a folder that there is"),
        (["--out", "r.html", "--shots", "none"], "--shots takes whole numbers"),
        (["--out", "r.html", "--drop", "nothing"], "nothing"),
    ],
)
def test_what_does_not_fit_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["report", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", *words]) != 0
    assert said in capsys.readouterr().err
