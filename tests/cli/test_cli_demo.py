from __future__ import annotations

import pytest

from upstairs.cli import main


def test_the_demo_shows_three_sets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import upstairs.cli.demo as demo

    learned, measured = demo._learned, demo._measured

    def quick(train, valid=None, **settings):  # type: ignore[no-untyped-def]
        return learned(train, valid, **settings, **({} if "ways" in settings else {"prior_mean": "linear"}))

    def fewer(meta, test, train, shots, queries, draws, progress, **settings):  # type: ignore[no-untyped-def]
        return measured(
            meta, test, train, shots[:1], queries, min(draws, 3), progress, baselines=["no-meta"], **settings
        )

    monkeypatch.setattr(demo, "_TRAINING", demo._TRAINING | {"steps": 20})
    monkeypatch.setattr(demo, "_NETWORK", demo._NETWORK | {"net": {"name": "mlp", "sizes": (8,)}})
    monkeypatch.setattr(demo, "_learned", quick)
    monkeypatch.setattr(demo, "_measured", fewer)
    assert main(["demo"]) == 0
    shown = capsys.readouterr()
    for said in (
        "Chicks: real",
        "Digits: real",
        "Synthetic: made-up",
        "no-meta",
        "The last one:",
        "upstairs doctor FILE",
    ):
        assert said in shown.out
    assert shown.out.count("won-tied-lost") == 3
