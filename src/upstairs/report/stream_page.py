"""One self-contained page about a stream: how well it was predicted, what changed, which worlds there were, at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from upstairs.errors import MissingExtraError
from upstairs.online.detection import judge_changes
from upstairs.online.summary import StreamSummary
from upstairs.report import page as parts
from upstairs.report.stream_figures import stream_figure

__all__ = ["stream_report", "verdict"]

MOST = 400
"""Lines of a table."""


def stream_report(
    summary: StreamSummary,
    *,
    title: str,
    changes: Sequence[Mapping[str, Any]] = (),
    true: Sequence[int] | Int[np.ndarray, " change"] | None = None,
    seconds: float | None = None,
    about: Sequence[tuple[str, Any]] = (),
    reproduce: str = "",
    remarks: Sequence[str] = (),
    made: str = "",
) -> str:
    """Tell in words, a picture and tables how a stream went, as one HTML file.

    Parameters
    ----------
    summary : StreamSummary
        The learner that the page is about, and those that it is held against.
    title : str
    changes : sequence of dict
        ``at`` (row of the stream), ``kind`` and ``world``, as `upstairs.OnlineMetaLearner.changes_` lists them.
    true : sequence of int, optional
        Rows at which the world truly changed, if that is known.
    seconds : float, optional
        Spent predicting and learning.
    about : sequence of (name, value)
        Further facts: the learner, its prior, settings.
    reproduce : str
        Commands that give the same page.
    remarks : sequence of str
        What the reader should know besides.
    made : str
        At the end of the page.

    Returns
    -------
    str
        `upstairs.report.page.write_page` writes it.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib")
    >>> from upstairs.online.summary import begin_summary, with_rows
    >>> summary = with_rows(begin_summary(["mine", "no change"], True), np.array([[0.0, 0.0], [1.0, 0.0]]), world=0)
    >>> text = stream_report(summary, title="Two rows")
    >>> "Right on 100.0 % of 2 rows: better than no change (50.0 %)." in text, "<svg" in text
    (True, True)
    """
    found: list[parts.Html] = [parts.lead(*verdict(summary, changes, true))]
    found += [parts.note(remark) for remark in remarks]
    found += _picture(summary, changes, () if true is None else true)
    if changes:
        found += [parts.heading("Changes"), *_changes(summary, changes, true)]
    if summary.worlds:
        found += [parts.heading("Worlds"), *_worlds(summary, changes)]
    found += [parts.heading("How it compares"), _learners(summary)]
    found += [parts.heading("Cost and settings"), parts.facts([*_cost(summary, seconds), *about])]
    if reproduce:
        found += [parts.heading("How to get the same"), parts.code(reproduce)]
    return parts.page(title, found, made=made)


def verdict(
    summary: StreamSummary,
    changes: Sequence[Mapping[str, Any]] = (),
    true: Sequence[int] | Int[np.ndarray, " change"] | None = None,
) -> list[str]:
    """Say in sentences how a stream went, the most important first.

    Examples
    --------
    >>> from upstairs.online.summary import begin_summary, with_rows
    >>> summary = with_rows(begin_summary(["mine", "mean so far"], False), np.array([[1.0, 3.0], [1.0, 1.0]]))
    >>> verdict(summary, [{"at": 1, "kind": "recall", "world": 0}], true=[0])[0]
    'Mean squared error 2 on 2 rows: worse than mean so far (1).'
    """
    name, *others = summary.names
    score = summary.total(name)
    if not np.isfinite(score):
        return ["Nothing can be said: no row had a label and a prediction."]
    counted = int(summary.counted[0].sum())
    shown = _score(summary, score)
    what = f"Right on {shown} of" if summary.classifies else f"Mean squared error {shown} on"
    said = [f"{what} {_many(counted, 'row')}{_against(summary, score, others)}."]
    kinds = Counter(change["kind"] for change in changes)
    if summary.worlds or changes:
        said.append(_changed(kinds, [change["world"] for change in changes if change["kind"] == "recall"]))
    if true is not None:
        held = judge_changes(true, sorted(int(change["at"]) for change in changes), summary.rows)
        late = f"; half of them within {np.nanmedian(held.delay):,.0f} rows" if held.found else ""
        said.append(
            f"Of {_many(len(held.delay), 'true change')} {held.found:,} {'was' if held.found == 1 else 'were'} found{late}. "
            f"False alarms: {held.false_alarms:,}."
        )
    return said


def _against(summary: StreamSummary, score: float, others: Sequence[str]) -> str:
    """Tell which of the others were better, and which were not."""
    groups: dict[str, list[str]] = {}
    for other in others:
        value = summary.total(other)
        if np.isfinite(value):
            ahead = score - value if summary.classifies else value - score
            word = "as good as" if ahead == 0 else "better than" if ahead > 0 else "worse than"
            groups.setdefault(word, []).append(f"{other} ({_score(summary, value)})")
    said = [f"{word} {_listed(names)}" for word, names in sorted(groups.items())]
    return ": " + ", ".join(said) if said else ""


def _changed(kinds: Mapping[str, int], back: Sequence[int]) -> str:
    total = sum(kinds.values())
    if not total:
        return "No change of the world was declared."
    said = [f"The world changed {_times(total)}"]
    details = []
    if kinds.get("new"):
        details.append(f"to a new one {_times(kinds['new'])}")
    if kinds.get("recall"):
        worlds = sorted(set(back))
        shown = _listed([str(world) for world in worlds[:10]]) + (" and others" if len(worlds) > 10 else "")
        details.append(f"back to one that was known {_times(kinds['recall'])} (world {shown})")
    if kinds.get("border"):
        details.append(f"as it was told {_times(kinds['border'])}")
    return ": ".join([*said, _listed(details)]) + "."


def _picture(
    summary: StreamSummary, changes: Sequence[Mapping[str, Any]], true: Sequence[int] | Int[np.ndarray, " change"]
) -> list[parts.Html]:
    try:
        drawn = stream_figure(summary, found=changes, true=true)
    except MissingExtraError as error:
        return [parts.note(f"There is no picture: {error}")]
    measure = "Accuracy" if summary.classifies else "Mean squared error"
    alt = f"{measure} along {summary.rows:,} rows of {_listed(list(summary.names))}, with {_many(len(changes), 'declared change')}"
    alt += f" and {_many(len(true), 'true change')}" if len(true) else ""
    alt += "; below, which world held." if summary.worlds else "."
    caption = f"{measure} of the newest rows, predicted before they were learned."
    caption += " Triangles: declared changes, hollow where a known world came back." if changes else ""
    caption += " Grey bars: true changes." if len(true) else ""
    return [parts.figure(drawn, alt, caption)]


def _changes(
    summary: StreamSummary,
    changes: Sequence[Mapping[str, Any]],
    true: Sequence[int] | Int[np.ndarray, " change"] | None,
) -> list[parts.Html]:
    words = {"new": "a new world", "recall": "a world comes back", "border": "as told"}
    ends = [*[int(change["at"]) for change in changes[1:]], summary.rows]
    headers, late = ["row", "what", "world", "rows"], {}
    if true is not None:
        headers.append("rows late")
        held = judge_changes(true, [int(change["at"]) for change in changes], summary.rows)
        late = {
            int(start + delay): f"{delay:.0f}" for start, delay in zip(true, held.delay, strict=True) if delay == delay
        }
    rows = []
    for change, end in list(zip(changes, ends, strict=True))[:MOST]:
        at = int(change["at"])
        row = [f"{at:,}", words.get(change["kind"], change["kind"]), change["world"], f"{end - at:,}"]
        rows.append(row if true is None else [*row, late.get(at, "false alarm")])
    table = parts.table(headers, rows, numbers=[0, 2, 3, *([4] if true is not None else [])])
    return [table, *_cut(len(changes))]


def _worlds(summary: StreamSummary, changes: Sequence[Mapping[str, Any]]) -> list[parts.Html]:
    begun = Counter(int(change["world"]) for change in changes)
    first: dict[int, int] = {}
    for change in changes:
        first.setdefault(int(change["world"]), int(change["at"]))
    earliest = next(iter(summary.worlds))
    rows = []
    for world, (held, _, _) in list(summary.worlds.items())[:MOST]:
        stretches = begun[world] + (world == earliest)
        since = 0 if world == earliest else first.get(world, 0)
        rows.append(
            [
                world,
                f"{since:,}",
                stretches,
                f"{held:,}",
                f"{100.0 * held / summary.rows:.0f} %",
                _shown(summary, world),
            ]
        )
    measure = "accuracy" if summary.classifies else "mean squared error"
    headers = ("world", "first at row", "times", "rows", "share", measure)
    return [parts.table(headers, rows, numbers=range(6)), *_cut(len(summary.worlds))]


def _shown(summary: StreamSummary, world: int) -> str:
    score = summary.total_of_world(world)
    return _score(summary, score) if np.isfinite(score) else ""


def _learners(summary: StreamSummary) -> parts.Html:
    measure = "accuracy" if summary.classifies else "mean squared error"
    rows = []
    for place, name in enumerate(summary.names):
        score = summary.total(name)
        rows.append(
            [name, _score(summary, score) if np.isfinite(score) else "", f"{int(summary.counted[place].sum()):,}"]
        )
    return parts.table(("learner", measure, "rows"), rows, numbers=[1, 2])


def _cost(summary: StreamSummary, seconds: float | None) -> list[tuple[str, str]]:
    found = [("rows", f"{summary.rows:,}"), ("rows with a label", f"{summary.labels:,}")]
    if seconds is not None and seconds > 0:
        found += [("seconds", f"{seconds:,.1f}"), ("rows a second", f"{summary.rows / seconds:,.0f}")]
    return found


def _cut(lines: int) -> list[parts.Html]:
    return [parts.note(f"The first {MOST} of {lines:,}.")] if lines > MOST else []


def _score(summary: StreamSummary, score: float) -> str:
    return f"{100.0 * score:.1f} %" if summary.classifies else f"{score:.4g}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}" if count else f"no {what}s"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)
