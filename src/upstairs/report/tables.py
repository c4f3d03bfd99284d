"""Tables for a terminal: of columns, priors and evaluations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["candidate_table", "column_table", "plain_table", "result_tables", "split_table", "weight_table"]


def plain_table(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = (), title: str | None = None
) -> Table:
    """Make a table of any cells, as text.

    Parameters
    ----------
    headers : sequence of str
    rows : iterable of sequences
        One cell a header.
    numbers : sequence of int
        Columns that are set to the right.
    title : str, optional

    Examples
    --------
    >>> plain_table(("a", "b"), [("x", 1)]).row_count
    1
    """
    table = Table(
        box=box.SIMPLE, title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False
    )
    for number, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if number in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def column_table(facts: Sequence[Any]) -> Table:
    """Columns of a file: type, missing cells, distinct values, and what is in it."""
    rows = []
    for column in facts:
        share = f"{column.missing} ({100 * column.missing / column.rows:.0f} %)" if column.missing else "0"
        rows.append((column.name, column.type, share, column.distinct or "", column.shown))
    return plain_table(("column", "type", "missing", "distinct", "values"), rows, numbers=(2, 3))


def candidate_table(report: Sequence[Mapping[str, Any]]) -> Table:
    """Forms of a prior that were compared, as ``prior_.settings["report"]`` lists them; nested numbers get a column each.

    Examples
    --------
    >>> candidate_table([{"name": "linear", "loss": 0.5, "sizes": {"1": 0.7}}]).columns[2].header.plain
    'loss, rows 1'
    """
    flat = []
    for entry in report:
        line: dict[str, Any] = {}
        for key, value in entry.items():
            if isinstance(value, Mapping):
                line |= {f"{key} {inner}": number for inner, number in value.items()}
            else:
                line[key.replace("_", " ")] = value
        flat.append(line)
    flat.sort(key=lambda line: line.get("loss", line.get("log loss", 0.0)))
    headers = sorted(dict.fromkeys(header for line in flat for header in line), key=_place)
    words = {header for header in headers if any(isinstance(line.get(header), str) for line in flat)}
    rows = [[_cell(line.get(header)) for header in headers] for line in flat]
    shown = [
        "loss, rows " + header.removeprefix("sizes ") if header.startswith("sizes ") else header for header in headers
    ]
    return plain_table(shown, rows, numbers=[place for place, header in enumerate(headers) if header not in words])


def weight_table(weights: Sequence[tuple[str, float, float]]) -> Table:
    """Weights by name: mean over tasks, and standard deviation between tasks."""
    rows = [(name, f"{mean:+.3f}", f"{spread:.3f}") for name, mean, spread in weights]
    return plain_table(("weight", "mean", "sd between tasks"), rows, numbers=(1, 2))


def result_tables(result: Any, shots: int, metric: str | None = None, *, width: int | None = None) -> list[Table]:
    """Learners at one number of shots, best first: mean, difference to the best baseline, ratios, coverage, time.

    The ratio is the first learner that is no baseline divided by the learner of the line (its losses are smaller if
    the ratio is below one): of the metric where less is better, else of the log loss.

    Parameters
    ----------
    result : EvaluationResult
    shots : int
    metric : str, optional
        The primary one by default.
    width : int, optional
        Characters of a line. A table that is wider becomes two. None: no limit.
    """
    rows = result.table(shots, metric)
    main = next((name for name in result.learners if name not in result.baselines), "")
    loss = metric or result.metric
    loss = loss if loss in ("mse", "mae", "nlpd", "log_loss") else "log_loss" if "log_loss" in result.metrics else ""
    coverage = (
        {row.learner: row.mean for row in result.table(shots, "coverage")} if "coverage" in result.metrics else {}
    )
    measured = {row.learner for row in result.table(shots, loss)} if loss else set()
    against = next((row.learner for row in rows if row.reference), "")
    digits = 3 if min((abs(row.mean) for row in rows), default=1.0) >= 0.1 else 4
    headers = ["learner", metric or result.metric, "95 % interval", f"less {against}", "95 % interval", "won-tied-lost"]
    headers += [f"{main} / it, {loss}"] if main in measured else []
    headers += ["in 90 % interval"] if coverage else []
    headers.append("adapt ms")
    body = []
    for row in rows:
        wins = "" if row.reference or row.wins + row.ties + row.losses == 0 else f"{row.wins}-{row.ties}-{row.losses}"
        line = [row.learner, f"{row.mean:.{digits}f}", _span(row.low, row.high, digits)]
        line += ["" if math.isnan(row.difference) else f"{row.difference:+.{digits}f}"]
        line += [_span(row.difference_low, row.difference_high, digits), wins]
        if main in measured:
            line.append(
                _ratio(result, main, row.learner, shots, loss)
                if row.learner != main and row.learner in measured
                else ""
            )
        if coverage:
            line.append(f"{coverage[row.learner]:.3f}" if row.learner in coverage else "")
        style = "" if row.baseline else "bold"
        body.append([Text(cell, style=style) for cell in [*line, f"{row.milliseconds:.2f}"]])
    natural = sum(max(len(cell) for cell in column) + 3 for column in zip(headers, *body, strict=True))
    parts = [list(range(len(headers)))]
    if width is not None and natural > width:
        parts = [[0, 1, 2, 3, 4], [0, *range(5, len(headers))]]
    return [
        plain_table(
            [headers[n] for n in part], [[line[n].copy() for n in part] for line in body], numbers=range(1, len(part))
        )
        for part in parts
    ]


def split_table(results: Sequence[Any], states: Sequence[int], shots: int, metric: str | None = None) -> Table:
    """Mean of every learner in every split, a line a split, and the mean and standard deviation over splits.

    Parameters
    ----------
    results : sequence of EvaluationResult
    states : sequence of int
        Random state of each split.
    shots : int
    metric : str, optional
    """
    names = results[0].learners
    lines, values = [], []
    for state, result in zip(states, results, strict=True):
        rows = {row.learner: row for row in result.table(shots, metric)} if shots in result.shots else {}
        means = [rows[name].mean if name in rows else math.nan for name in names]
        values.append(means)
        tasks = next((row.tasks for row in rows.values()), 0)
        lines.append([str(state), str(tasks), *(_number(mean) for mean in means)])
    columns = [[value for value in column if not math.isnan(value)] for column in zip(*values, strict=True)]
    if len(results) > 1:
        lines.append(["mean", "", *(_number(statistics.fmean(column)) if column else "" for column in columns)])
        lines.append(["sd", "", *(_number(statistics.stdev(column)) if len(column) > 1 else "" for column in columns)])
    return plain_table(("split", "tasks", *names), lines, numbers=range(1, len(names) + 2))


def _ratio(result: Any, main: str, other: str, shots: int, loss: str) -> str:
    ratio = result.ratio(main, other, shots, loss)
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _place(header: str) -> tuple[int, float, str]:
    order = ("name", "metric", "pull", "weight", "loss", "log loss", "error")
    if header in order:
        return order.index(header), 0.0, ""
    number = header.rpartition(" ")[2]
    return len(order), float(number) if number.isdigit() else 0.0, header


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _span(low: float, high: float, digits: int) -> str:
    return "" if math.isnan(low) else f"{low:.{digits}f} to {high:.{digits}f}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
