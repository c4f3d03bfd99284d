"""The code on the pages runs: every Python and shell block, in the order of the page, in an empty folder.

A page is written for readers who have a `sales.csv` of their own and an hour for training. `GIVEN` has small stand-ins for what a
page presupposes, by the page's name, and training is cut to two steps on few tasks. What a block prints or predicts is not looked at.

Nothing on a page can be excepted: what cannot run is written as ``text``.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import upstairs as up

os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)  # compile quickly

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
COMMAND = Path(sys.executable).with_name("upstairs")
STEPS = 2
BLOCK = re.compile(r"^```(python|sh|bash)\n(.*?)^```", re.M | re.S)
NOT_RUN = ("make", "pip", "cd", "git")  # these belong to the machine of the reader

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("methods/*.md"))]
WITH_SHELL = ("README.md", "README.zh-CN.md", "start.md")


# --- what pages presuppose ----------------------------------------------------------------------------------------
def sales(shops: int = 8, rows: int = 8) -> pd.DataFrame:
    """Shops whose revenue follows footfall and weekday, each in its own way."""
    rng = np.random.default_rng(0)
    parts = []
    for shop in range(shops):
        frame = pd.DataFrame(
            {"footfall": rng.uniform(10, 99, rows), "weekday": rng.choice(["Mon", "Fri", "Sun"], rows)}
        )
        level, slope = rng.normal([50.0, 3.0], [20.0, 0.7])
        frame["revenue"] = level + slope * frame["footfall"] + 8.0 * rng.normal(size=rows)
        parts.append(frame.assign(shop=f"shop {shop:02d}"))
    return pd.concat(parts, ignore_index=True)


def shop_files() -> dict[str, Any]:
    """The files and names of the first page."""
    frame = sales()
    last = frame["shop"] == frame["shop"].iloc[-1]
    new = frame[last].drop(columns="shop")
    frame[~last].to_csv("sales.csv", index=False)
    new.head(5).to_csv("new_shop.csv", index=False)
    new.tail(5).drop(columns="revenue").to_csv("next_week.csv", index=False)
    frame.drop(columns="shop").rename(columns={"revenue": "y"}).to_csv("events.csv", index=False)
    X, y = new.drop(columns="revenue"), new["revenue"]
    return {"X_few": X.head(5), "y_few": y.head(5), "X_new": X.tail(5), **one_table()}


def one_table() -> dict[str, Any]:
    """A table without tasks."""
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True, as_frame=True)
    return {"X": X, "y": y}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": shop_files,
    "README.zh-CN.md": shop_files,
    "index.md": shop_files,
}


# --- running ------------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder; train for two steps, on families of at most twenty tasks, and look at few of those held out."""
    import matplotlib

    from upstairs.outer import calibrate

    matplotlib.use("agg")
    monkeypatch.setattr(calibrate, "SIZES", (2,))
    monkeypatch.setattr(calibrate, "COMPARED", 10)
    monkeypatch.setitem(calibrate.tables_from.__kwdefaults__, "draws", 8)
    monkeypatch.chdir(tmp_path)
    check = up.Training.__post_init__

    def short(self: up.Training) -> None:
        check(self)
        if self.steps is None or self.steps > STEPS:
            object.__setattr__(self, "steps", STEPS)

    monkeypatch.setattr(up.Training, "__post_init__", short)
    for family in (up.tasks.synthetic.Sinusoids, up.tasks.synthetic.SharedSubspace):
        sample = family.sample

        def few(self: Any, tasks: int, *args: Any, sample: Any = sample, **settings: Any) -> up.TaskSet:
            return sample(self, min(tasks, 20), *args, **settings)

        monkeypatch.setattr(family, "sample", few)


def blocks(page: Path) -> list[tuple[str, int, str]]:
    """Language, line and code of the blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [(found[1], text[: found.start()].count("\n") + 1, found[2]) for found in BLOCK.finditer(text)]


def run_python(code: str, line: int, page: Path, names: dict[str, Any]) -> None:
    """Run a block so that an error points to the line of the page."""
    exec(compile("\n" * line + code, str(page), "exec"), names)


def commands(code: str) -> list[list[str]]:
    """The lines of a shell block as words, comments left out."""
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


def run_shell(code: str, page: Path) -> None:
    """Run the lines of a block that are ours, through the command that is installed."""
    for words in commands(code):
        if words[0] in NOT_RUN:
            continue
        said = f"{page.name}: {shlex.join(words)}"
        assert words[0] == "upstairs", f"{said} is neither ours nor one of {NOT_RUN}"
        done = subprocess.run([COMMAND, *words[1:]], capture_output=True, text=True, env=os.environ, check=False)
        assert done.returncode == 0, f"{said}\n{done.stdout}\n{done.stderr}"


def told_already(code: str, page: Path) -> bool:
    """Whether the block of a translation has the commands of the page that it translates, which are run there."""
    if page.name == "README.md" or not page.name.startswith("README"):
        return False
    return commands(code) in [commands(other) for _, _, other in blocks(ROOT / "README.md")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists() and blocks(page)], ids=lambda page: page.name)
def test_blocks_run(page: Path) -> None:
    """Every block of a page, in one namespace and one folder."""
    names: dict[str, Any] = {"__name__": "__main__", **GIVEN.get(page.name, dict)()}
    for language, line, code in blocks(page):
        if language == "python":
            names.setdefault("up", up)
            run_python(code, line, page, names)
        elif page.name in WITH_SHELL:
            if not told_already(code, page):
                run_shell(code, page)
        else:
            pytest.fail(f"{page.name}, line {line}: shell blocks are run on {', '.join(WITH_SHELL)} only")


def test_training_is_cut_short() -> None:
    """Otherwise the pages would take hours."""
    assert up.Training(steps=60_000).steps == STEPS
    assert dataclasses.replace(up.Training(), rate=0.1).steps == STEPS
