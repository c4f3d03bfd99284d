from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from upstairs.cli import main
from upstairs.cli.columns import facts_of, suggest, suspicions


@pytest.fixture(scope="module")
def odd() -> pa.Table:
    rng = np.random.default_rng(0)
    revenue = rng.normal(size=60)
    return pa.table(
        {
            "row": np.arange(60),
            "customer_id": rng.integers(1, 9, 60),
            "weekday": rng.integers(1, 8, 60),
            "empty": pa.nulls(60),
            "same": np.ones(60),
            "often": pa.array([None if n % 3 else float(n) for n in range(60)]),
            "day": pa.array(["2024-01-01"] * 60).cast(pa.date32()),
            "note": [f"text {n}" for n in range(60)],
            "copy": 2 * revenue + 1,
            "x": rng.normal(size=60),
            "shop": [f"s{n // 6}" for n in range(60)],
            "revenue": revenue,
        }
    )


def test_every_odd_column_is_found(odd: pa.Table) -> None:
    found = dict(suspicions(facts_of(odd), target="revenue", aside=["shop"]))
    expected = {
        "row": "row number",
        "customer_id": "identifier",
        "weekday": "only 7 whole numbers",
        "empty": "no value",
        "same": "constant",
        "often": "missing in 67 %",
        "day": "cannot be used",
        "note": "different in every row",
        "copy": "same as the target",
    }
    assert found.keys() == expected.keys()
    assert all(said in found[name] for name, said in expected.items())


def test_known_codes_are_not_odd(odd: pa.Table) -> None:
    found = dict(suspicions(facts_of(odd), target="revenue", aside=["shop"], categorical=["weekday", "customer_id"]))
    assert not {"weekday", "customer_id"} & found.keys()


def test_a_label_under_another_name_is_found() -> None:
    table = pa.table({"state": ["ill", "well"] * 5, "sign": ["+", "-"] * 5, "free": ["a", "a", "b", "b", "b"] * 2})
    assert [name for name, _ in suspicions(facts_of(table), target="state")] == ["sign"]


def test_columns_are_suggested(odd: pa.Table) -> None:
    tasks, targets = suggest(facts_of(odd.select(["x", "shop", "revenue"])))
    assert tasks == ["shop"]
    assert targets[0] == "revenue"


def test_without_columns_it_suggests_some(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(folder / "train.csv")]) == 0
    shown = capsys.readouterr().out
    assert "train.csv: 216 rows, 5 columns" in shown
    assert "--task shop --target revenue" in shown


def test_a_regression(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(folder / "train.csv"), "--task", "shop", "--target", "revenue"]) == 0
    shown = capsys.readouterr().out
    for said in (
        "Tasks: 18 with 12 to 12 rows, median 12",
        "Kind: regression (216 different numbers",
        "bayesian-linear: applies",
        "prototype: does not apply",
        "Estimated on 18 tasks",
        "would be found in 4 of 5 cases",
    ):
        assert said in shown
    assert "\x1b" not in shown


def test_shared_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(folder / "sold.csv"), "--task", "shop", "--target", "revenue"]) == 0
    shown = capsys.readouterr().out
    assert "Kind: classification, shared labels" in shown
    assert "yes (" in shown
    assert "log loss" in shown


def test_own_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["doctor", str(folder / "train.csv"), "--task", "shop", "--target", "kind", "--labels", "own"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "prototype: applies" in shown
    assert "Assumed:" in shown


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(folder / "each")]) == 0
    assert "Every file of the folder is a task." in capsys.readouterr().out
    assert main(["doctor", str(folder / "each"), "--target", "revenue"]) == 0
    assert "6 files, 72 rows, 3 feature columns" in capsys.readouterr().out


def test_different_columns_are_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, column in (("a", "x"), ("b", "x"), ("c", "z")):
        lines = [f"{column},y", *(f"{n},{n * n}" for n in range(5))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    assert main(["doctor", str(tmp_path), "--target", "y"]) == 0
    shown = capsys.readouterr().out
    assert "none applies yet" in shown
    assert "same columns" in shown
