from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from upstairs.cli import main

COMMANDS = (
    "demo",
    "doctor",
    "fit",
    "adapt",
    "predict",
    "evaluate",
    "inspect",
    "recommend",
    "report",
    "store",
    "stream",
)
START = "import sys; from upstairs.cli import main; code = main(sys.argv[1:]); "


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    assert main([]) == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example:\n    upstairs {command}" in shown


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    look = (
        "heavy = {'numpy', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'rich.table'} & set(sys.modules); "
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    best = 60.0
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", START + look, "--help"], capture_output=True, text=True, check=False
        )
        best = min(best, time.perf_counter() - start)
        assert (done.returncode, done.stderr) == (0, "")
    assert best < 0.5


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("upstairs ")


MISTAKES = {
    "no such command": (["fot"], "No such command 'fot'"),
    "no such option": (["fit", "{}/train.csv", "--tusk", "shop"], "--tusk"),
    "missing argument": (["fit"], "FILE"),
    "missing file": (
        ["fit", "{}/nope.csv", "--task", "shop", "--target", "revenue", "--out", "{}/x"],
        "there is no such file",
    ),
    "missing column": (
        ["fit", "{}/train.csv", "--task", "shp", "--target", "revenue", "--out", "{}/x"],
        "(--task); did you mean 'shop'?",
    ),
    "missing target": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "revenu", "--out", "{}/x"],
        "did you mean 'revenue'?",
    ),
    "no columns named": (["fit", "{}/train.csv", "--out", "{}/x"], "--task and --target missing"),
    "wrong word": (["fit", "{}/train.csv", "--out", "{}/x", "--prior-mean", "magic"], "'magic' is not one of"),
    "wrong shots": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "revenue", "--out", "{}/x", "--shots", "many"],
        "--shots takes",
    ),
    "wrong method": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "revenue", "--out", "{}/x", "--method", "prototype"],
        "--method",
    ),
    "text target": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "kind", "--out", "{}/x", "--kind", "regression"],
        "hold text",
    ),
    "out is a file": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "revenue", "--out", "{}/train.csv"],
        "is a file",
    ),
    "out is taken": (
        ["fit", "{}/train.csv", "--task", "shop", "--target", "revenue", "--out", "{}/each"],
        "holds something else",
    ),
    "task of a folder": (
        ["fit", "{}/each", "--task", "shop", "--target", "revenue", "--out", "{}/x"],
        "every file is a task",
    ),
    "no prior there": (["adapt", "{}/each", "{}/new.csv", "--target", "revenue", "--out", "{}/x"], "prior.json"),
    "prior is a file": (["inspect", "{}/train.csv"], "is a file"),
    "no folder": (["inspect", "{}/nope"], "does not exist"),
    "nothing to evaluate": (["evaluate"], "--train"),
    "shots of zero": (
        ["evaluate", "--train", "{}/train.csv", "--task", "shop", "--target", "revenue", "--shots", "0"],
        "at least 1",
    ),
    "unknown baseline": (
        ["evaluate", "--train", "{}/train.csv", "--task", "shop", "--target", "revenue", "--baselines", "x"],
        "--baselines holds 'x'",
    ),
    "share too large": (
        ["evaluate", "--train", "{}/train.csv", "--task", "shop", "--target", "revenue", "--test", "2"],
        "--test",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = MISTAKES[mistake]
    assert main([word.replace("{}", str(folder)) for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("upstairs: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_text_in_a_number_column(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "train.csv").read_text().splitlines()
    lines[5] = ",".join(["s00", "n.a.", *lines[5].split(",")[2:]])
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    words = ["fit", str(tmp_path / "bad.csv"), "--task", "shop", "--target", "revenue", "--out", str(tmp_path / "x")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("upstairs: column 'ads' holds numbers but for 1 of 216 cells (first: 'n.a.' in row 4")
    assert "--drop" not in said
    assert "Traceback" not in said


def test_several_mistakes_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(folder / "train.csv"), "--task", "shp", "--target", "x", "--out", str(folder / "x")]) == 2
    assert capsys.readouterr().err.startswith("upstairs: 2 things to correct:\n- there is no column 'shp' (--task)")


def test_debug_shows_where(folder: Path) -> None:
    from upstairs.errors import TaskError

    with pytest.raises(TaskError):
        main(["doctor", str(folder / "nope.csv"), "--debug"])


def test_a_fault_of_the_program_is_said_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import upstairs.cli.common

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("gone wrong")

    monkeypatch.setattr(upstairs.cli.common, "load_any", broken)
    assert main(["inspect", "somewhere"]) == 1
    said = capsys.readouterr().err
    assert "a fault of the program (RuntimeError: gone wrong)" in said
    assert "--debug" in said


def test_stopping_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import upstairs.cli.common

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(upstairs.cli.common, "load_any", stopped)
    assert main(["inspect", "somewhere"]) == 130
    assert capsys.readouterr().err == "upstairs: stopped.\n"


def test_a_closed_pipe_is_no_error(model: Path, folder: Path) -> None:
    words = [sys.executable, "-c", START + "sys.exit(code)", "predict", str(model), str(folder / "train.csv")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
