"""The page of a stream: what it says is so, and it stands alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from upstairs.online.stream import StreamResult
from upstairs.online.summary import StreamSummary, summarised
from upstairs.report.stream_page import stream_report, verdict

CHANGES = [{"at": 60, "kind": "new", "world": 1}, {"at": 110, "kind": "recall", "world": 0}]


def result(loss: np.ndarray, classifies: bool) -> StreamResult:
    return StreamResult(loss, loss, loss, np.arange(len(loss)), classifies, 1.0)


def summary(classifies: bool = True) -> StreamSummary:
    mine, other, third = (np.arange(150) % 10 < share for share in (1, 3, 1))
    learners = {"<mine>": mine, "no change": other, "most frequent label": third}
    world = np.repeat([0, 1, 0], [60, 50, 40])
    return summarised({name: result(loss.astype(float), classifies) for name, loss in learners.items()}, world)


def test_the_verdict_comes_in_words() -> None:
    assert verdict(summary(), CHANGES, true=[50, 100, 140]) == [
        "Right on 90.0 % of 150 rows: as good as most frequent label (90.0 %), better than no change (70.0 %).",
        "The world changed twice: to a new one once and back to one that was known once (world 0).",
        "Of 3 true changes 2 were found; half of them within 10 rows. False alarms: 0.",
    ]
    errors = verdict(summary(classifies=False))
    assert errors[0].startswith("Mean squared error 0.1 on 150 rows: as good as most frequent label (0.1), better than")
    assert errors[1] == "No change of the world was declared."
    told = [{"at": n, "kind": "border", "world": n} for n in (1, 2, 3)]
    assert verdict(summary(), told)[1] == "The world changed 3 times: as it was told 3 times."
    assert verdict(summarised({"a": result(np.full(3, np.nan), True)})) == [
        "Nothing can be said: no row had a label and a prediction."
    ]


def test_the_page_has_everything_and_stands_alone() -> None:
    pytest.importorskip("matplotlib")
    text = stream_report(
        summary(),
        title="Events & <more>",
        changes=CHANGES,
        true=[50, 140],
        seconds=0.5,
        about=[("prior", "abc")],
        reproduce="upstairs stream 'a b'/ <x>.csv",
        remarks=["Stopped after 150 rows."],
        made="upstairs 0.1",
    )
    order = [
        "Right on 90.0",
        "Stopped after",
        "<svg",
        ">Changes<",
        ">Worlds<",
        ">How it compares<",
        ">Cost",
        ">How to get",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    for part in (
        "&lt;mine&gt;",
        "Events &amp; &lt;more&gt;",
        "&lt;x&gt;.csv",
        "<dd>300</dd>",
        "false alarm",
        ">a world comes back<",
    ):
        assert part in text
    assert "<mine>" not in text
    assert '<td class="number">10</td>' in text
    assert "2 declared changes and 2 true changes; below, which world held" in text
    row = text[text.index(">0</th>") :]
    assert row.index(">2</td>") < row.index(">100</td>") < row.index(">67 %</td>")


def test_a_long_stream_is_a_small_page() -> None:
    pytest.importorskip("matplotlib")
    loss = np.random.default_rng(0).random(200_000)
    world = np.arange(200_000) // 100
    changes = [{"at": 100 * n, "kind": "new", "world": n} for n in range(1, 2000)]
    found = summarised({"mine": result(loss, False), "other": result(2 * loss, False)}, world)
    text = stream_report(found, title="Long", changes=changes)
    assert len(text) < 3_000_000
    assert "The first 400 of 1,999." in text


def test_without_matplotlib_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = stream_report(summary(), title="Plain")
    assert "There is no picture: Pictures need matplotlib" in text
    assert "<svg" not in text
