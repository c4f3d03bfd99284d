from __future__ import annotations

import io
from types import MappingProxyType

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from upstairs.evaluate import EvaluationResult
from upstairs.report import candidate_table, plain_table, result_tables, split_table


def shown(*tables: Table, width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False)
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def result() -> EvaluationResult:
    rng = np.random.default_rng(0)
    columns: dict[str, list] = {name: [] for name in ("split", "task", "group", "shots", "draw", "learner", "queries")}
    columns |= {"adapt_seconds": [], "predict_seconds": [], "mse": [], "coverage": []}
    for task in range(8):
        base = rng.uniform(1.0, 2.0)
        for learner, factor in (("mine", 0.5), ("pooled", 1.0)):
            values = (0, f"t{task}", f"t{task}", 5, 0, learner, 10, 0.001, 0.001, factor * base, 0.9)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
    arrays = {name: np.array(values) for name, values in columns.items()}
    return EvaluationResult(
        MappingProxyType(arrays), "regression", None, "mse", ("mine", "pooled"), ("pooled",), {"mine": 1.0}, (), (), "x"
    )


def test_learner_stands_beside_the_baseline(result: EvaluationResult) -> None:
    text = shown(*result_tables(result, 5))
    mine = next(line for line in text.splitlines() if line.startswith("mine"))
    other = next(line for line in text.splitlines() if line.startswith("pooled"))
    assert "8-0-0" in mine
    assert "0.500 (0.500 to 0.500)" in other
    assert "less pooled" in text
    assert "0.900" in mine


def test_a_narrow_line_gets_two_tables(result: EvaluationResult) -> None:
    tables = result_tables(result, 5, width=80)
    assert [len(table.columns) for table in tables] == [5, 5]
    assert len(result_tables(result, 5, width=300)) == 1


def test_every_split_has_a_line(result: EvaluationResult) -> None:
    text = shown(split_table([result, result], [0, 7], 5))
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["0", "7", "mean", "sd"]


def test_candidates_come_best_first_and_sizes_in_order() -> None:
    report = [
        {"name": "b", "loss": 0.9, "sizes": {"1": 1.0, "10": 0.5, "2": 0.7}},
        {"name": "a", "loss": 0.2, "sizes": {"1": 0.9, "10": 0.1, "2": 0.3}},
    ]
    table = candidate_table(report)
    assert [str(column.header) for column in table.columns] == [
        "name",
        "loss",
        "loss, rows 1",
        "loss, rows 2",
        "loss, rows 10",
    ]
    assert shown(table).splitlines()[2].startswith("a")


def test_cells_are_never_read_as_markup() -> None:
    assert "[bold]x[/bold]" in shown(plain_table(["[red]"], [["[bold]x[/bold]"]]))
