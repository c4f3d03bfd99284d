"""``upstairs stream``: what is written, when, and what is left after a stop."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import upstairs as up
from upstairs.cli import main, stream_run
from upstairs.online.drift import recurring
from upstairs.tasks.synthetic import SharedSubspace

FAMILY = SharedSubspace(features=3)
STREAM = recurring(FAMILY, worlds=2, stretches=4, length=120)
NAMES = ("a", "b", "c")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_stream(path: Path, rows: int | slice = slice(None), words: bool = False, separator: str = ",") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow([*NAMES, "note", "y"])
        part = rows if isinstance(rows, slice) else slice(rows)
        for number, (x, y) in enumerate(zip(STREAM.X[part], STREAM.y[part], strict=True)):
            target = ("yes" if y > 0 else "no") if words else y
            first = "" if number % 11 == 3 else x[0]
            writer.writerow([first, *x[1:], 7, "" if number % 5 == 4 else target])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of the family by names of columns, one that can grow, and streams."""
    folder = tmp_path_factory.mktemp("stream")
    import pandas as pd

    frames = [
        pd.DataFrame(task.X, columns=list(NAMES)).assign(y=task.y, task=task.name) for task in FAMILY.sample(12, 20)
    ]
    tasks = up.TaskSet.from_frame(pd.concat(frames), task="task", target="y")
    meta = up.MetaNeuralNetwork(method="bayesian-linear", net=None, prior_mean="linear", shots=10).meta_fit(tasks)
    up.save(meta, folder / "prior")
    up.save(meta, folder / "grows", resume=True)
    up.save(meta.adapt(frames[0][list(NAMES)], frames[0]["y"]), folder / "model")
    write_stream(folder / "events.csv")
    write_stream(folder / "words.csv", words=True)
    return folder


def test_a_stream_is_predicted_and_told(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "p.csv", tmp_path / "s.html"
    words = ["stream", str(place / "prior"), str(place / "events.csv"), "--target", "y"]
    assert main([*words, "--predictions", str(out), "--report", str(page)]) == 0
    shown = capsys.readouterr()
    assert "Mean squared error" in shown.out
    assert "The world changed" in shown.out
    assert "better than no change" in shown.out
    assert shown.err == "Not used, as the prior does not know them: note.\n"
    rows = rows_of(out)
    assert list(rows[0]) == ["row", "prediction", "std", "world"]
    assert [int(row["row"]) for row in rows] == list(range(480))
    said = np.array([float(row["prediction"]) for row in rows])
    assert np.square(said - STREAM.y)[60:110].mean() < 2.0 * FAMILY.noise**2
    assert {row["world"] for row in rows} >= {"0", "1"}
    text = page.read_text()
    assert "y in events.csv" in text
    assert "rows a second" in text
    assert (
        f"upstairs stream {place / 'prior'} {place / 'events.csv'} --target y --chunk 10 --delay 0 --report {page}"
        in text
    )
    assert "<dd>384</dd>" in text  # rows with a label


def test_predictions_are_those_of_the_library(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    words = [
        "stream",
        str(place / "prior"),
        str(place / "events.csv"),
        "--target",
        "y",
        "--chunk",
        "30",
        "--limit",
        "100",
    ]
    assert main([*words, "--delay", "1", "--predictions", str(out)]) == 0
    import pandas as pd

    table = pd.read_csv(place / "events.csv", nrows=100)
    model, late, said = up.OnlineMetaLearner(up.load(place / "prior").learner()), [], []
    for start in range(0, 100, 30):
        part = table.iloc[start : start + 30]
        said.append(model.predict(part[list(NAMES)]))
        late.append(part)
        if len(late) > 1:
            old = late.pop(0).dropna(subset="y")
            model.partial_fit(old[list(NAMES)], old["y"].to_numpy())
    np.testing.assert_array_equal([float(row["prediction"]) for row in rows_of(out)], np.concatenate(said))


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("start", ["prior", "none"])
def test_a_stop_changes_nothing(place: Path, tmp_path: Path, delay: int, start: str) -> None:
    """Predictions, state and page are those of a stream that was followed at once."""
    prior = "none" if start == "none" else str(place / start)
    file = str(place / ("words.csv" if start == "none" else "events.csv"))
    tail = ["--target", "y", "--delay", str(delay), "--chunk", "20", "--drop", "note"]
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert (
        main(["stream", prior, file, *tail, "--predictions", f"{once}.csv", "--save", str(once), "--limit", "240"]) == 0
    )
    saved = [*tail, "--predictions", f"{twice}.csv", "--save", str(twice)]
    assert main(["stream", prior, file, *saved, "--limit", "100"]) == 0
    with Path(f"{twice}.csv").open("a") as late:
        late.write("100,1,2,3\n101,half")  # as a kill after the state was saved leaves it
    assert main(["stream", str(twice), file, *saved, "--limit", "140"]) == 0
    assert Path(f"{once}.csv").read_text() == Path(f"{twice}.csv").read_text()
    states = [json.loads((folder / "stream.json").read_text())["states"] for folder in (once, twice)]
    for state in states:
        assert len(state) == 1
        next(iter(state.values())).pop("seconds")
    assert states[0] == states[1]


def test_a_stream_goes_on_in_another_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_stream(tmp_path / "one.csv", slice(0, 200))
    write_stream(tmp_path / "two.csv", slice(200, 480))
    save = ["--target", "y", "--save", str(tmp_path / "s"), "--predictions", str(tmp_path / "p.csv")]
    assert main(["stream", str(place / "prior"), str(tmp_path / "one.csv"), *save]) == 0
    assert (
        main(["stream", str(tmp_path / "s"), str(tmp_path / "two.csv"), *save, "--report", str(tmp_path / "s.html")])
        == 0
    )
    assert "after 480 rows" in capsys.readouterr().out
    assert [int(row["row"]) for row in rows_of(tmp_path / "p.csv")] == list(range(480))
    assert "The stream went on after row 200" in (tmp_path / "s.html").read_text()
    assert main(["stream", str(tmp_path / "s"), str(tmp_path / "two.csv"), *save]) == 0
    assert len(rows_of(tmp_path / "p.csv")) == 480
    write_stream(tmp_path / "two.csv", slice(200, 210))
    assert main(["stream", str(tmp_path / "s"), str(tmp_path / "two.csv"), *save]) == 2
    assert "two.csv has 10 rows, but 280 of it were followed" in capsys.readouterr().err
    assert main(["stream", str(tmp_path / "s"), str(place / "events.csv"), "--target", "a"]) == 2
    assert "this stream predicts 'y'" in capsys.readouterr().err
    (tmp_path / "p.csv").write_text("a,b\n")
    assert main(["stream", str(tmp_path / "s"), str(place / "events.csv"), *save]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_labels_without_a_prior(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.csv"
    words = ["stream", "none", str(place / "words.csv"), "--target", "y", "--drop", "note", "--predictions", str(out)]
    assert main([*words, "--report", str(tmp_path / "s.html")]) == 0
    assert "Right on" in capsys.readouterr().out
    rows = rows_of(out)
    assert list(rows[0]) == ["row", "prediction", "probability", "world"]
    assert rows[0]["prediction"] == ""
    assert {row["prediction"] for row in rows[10:]} == {"yes", "no"}
    assert all(0.5 <= float(row["probability"]) <= 1.0 for row in rows[10:])
    assert "OnlineMetaLearner" in (tmp_path / "s.html").read_text()


@pytest.mark.parametrize(
    ("cells", "kind", "labels"),
    [
        (["1.5", "2", "7"], None, None),
        (["0", "1", "0"], None, {0, 1}),
        (["3", "5", "4"], "classification", {3, 4, 5}),
        (["true", "false", "True"], None, {"true", "false"}),
        (["a", "1", "b"], None, {"a", "1", "b"}),
    ],
)
def test_the_kind_of_a_target_is_found_out(tmp_path: Path, cells: list[str], kind: str | None, labels) -> None:
    (tmp_path / "s.csv").write_text("x,y\n" + "".join(f"{n},{cells[n % 3]}\n" for n in range(30)))
    words = ["stream", "none", str(tmp_path / "s.csv"), "--target", "y", "--save", str(tmp_path / "m")]
    assert main([*words, *(["--kind", kind] if kind else [])]) == 0
    model = up.load(tmp_path / "m")
    assert isinstance(model.learner, up.ForgetfulRegressor if labels is None else up.ForgetfulClassifier)
    if labels is not None:
        assert {str(label).lower() for label in model.classes_.tolist()} == {str(label) for label in labels}


def test_a_prior_of_classes_reads_labels_and_categories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"task": np.repeat(np.arange(12), 20), "x": rng.normal(size=240), "code": rng.integers(3, size=240)}
    )
    frame["y"] = ((frame["x"] + (frame["code"] == 1)) > 0).astype(int)
    tasks = up.TaskSet.from_frame(frame, task="task", target="y", categorical=["code"])
    up.save(
        up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear", shots=10).meta_fit(tasks), tmp_path / "p"
    )
    frame.drop(columns="task").to_csv(tmp_path / "s.csv", index=False)
    words = ["stream", str(tmp_path / "p"), str(tmp_path / "s.csv"), "--target", "y"]
    assert main([*words, "--predictions", str(tmp_path / "o.csv")]) == 0
    rows = rows_of(tmp_path / "o.csv")
    assert np.mean([int(row["prediction"]) == y for row, y in zip(rows, frame["y"], strict=True)]) > 0.85
    frame["y"] = frame["y"].astype(float)
    frame["code"] = frame["code"].astype(float)
    frame.drop(columns="task").to_parquet(tmp_path / "s.parquet")
    assert main([*words[:2], str(tmp_path / "s.parquet"), *words[3:], "--predictions", str(tmp_path / "q.csv")]) == 0
    assert rows_of(tmp_path / "q.csv") == rows
    (tmp_path / "bad.csv").write_text("x,code,y\n1,0,1\n1,0,maybe\n")
    assert main([*words[:2], str(tmp_path / "bad.csv"), *words[3:]]) == 2
    assert "one of the labels that the prior knows (0, 1), but is 'maybe' in row 1" in capsys.readouterr().err


def test_a_growing_prior(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tail = [str(place / "events.csv"), "--target", "y", "--grow", "--limit", "200"]
    assert main(["stream", str(place / "grows"), *tail, "--save", str(tmp_path / "s")]) == 0
    assert isinstance(up.load(tmp_path / "s").learner, up.MetaNeuralNetwork)
    assert main(["stream", str(tmp_path / "s"), *tail]) == 0
    capsys.readouterr()
    assert main(["stream", str(place / "prior"), *tail]) == 2
    assert "--grow needs the rows that" in capsys.readouterr().err
    assert main(["stream", "none", *tail]) == 2
    assert "PRIOR is none" in capsys.readouterr().err


def test_experience_needs_no_columns(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words as labels that come by and by; it may grow without the rows that it was learned on, and goes on where it was."""
    tuner = up.MetaTuner("decision-tree", [{"max_depth": 1}, {"max_depth": 4}], landmarkers=False, max_seconds=None)
    up.save(tuner.meta_fit(up.tasks.synthetic.HiddenRule().sample(3, 30)), tmp_path / "prior")
    tail = [str(place / "words.csv"), "--target", "y", "--grow"]
    assert main(["stream", str(tmp_path / "prior"), *tail, "--limit", "30", "--save", str(tmp_path / "s")]) == 0
    out = tmp_path / "p.csv"
    assert main(["stream", str(tmp_path / "s"), *tail, "--limit", "20", "--predictions", str(out)]) == 0
    assert {row["prediction"] for row in rows_of(out)} <= {"yes", "no"}
    assert "Going on after row 30" in capsys.readouterr().err


@pytest.mark.parametrize("frames", [True, False])
def test_worlds_that_know_no_prior_are_saved_models_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], frames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    X = pd.DataFrame(STREAM.X, columns=list(NAMES))
    few = up.ForgetfulRegressor(frequencies=4, products=0)
    online = up.OnlineMetaLearner(few).partial_fit((X if frames else X.to_numpy())[:50], STREAM.y[:50])
    up.save(online, tmp_path / "m")
    X.assign(y=STREAM.y)[50:150].to_csv(tmp_path / "s.csv", index=False)
    words = ["stream", str(tmp_path / "m"), str(tmp_path / "s.csv"), "--target", "y"]
    monkeypatch.setattr("warnings.filters", [("default", None, Warning, None, 0)])  # as outside of tests
    assert main([*words, "--predictions", str(tmp_path / "p.csv")]) == 0
    said = [float(row["prediction"]) for row in rows_of(tmp_path / "p.csv")]
    np.testing.assert_array_equal(said[:10], online.predict((X if frames else X.to_numpy())[50:60]))
    assert capsys.readouterr().err.count("note:") <= 1


def test_standard_input_in_memory(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO((place / "events.csv").read_text()))
    words = [
        "stream",
        str(place / "prior"),
        "-",
        "--target",
        "y",
        "--predictions",
        "-",
        "--limit",
        "25",
        "--chunk",
        "7",
    ]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 26
    assert "Mean squared error" in shown.err


def test_rows_are_answered_as_they_come_and_a_stop_leaves_all_complete(place: Path, tmp_path: Path) -> None:
    lines = (place / "events.csv").read_text().splitlines(keepends=True)
    start = "import sys; from upstairs.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["stream", str(place / "prior"), "-", "--target", "y", "--predictions", "-", "--chunk", "2"]
    words += ["--save", str(tmp_path / "s"), "--report", str(tmp_path / "s.html")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", start, *words], text=True, env=os.environ, **pipes) as process:
        process.stdin.writelines(lines[:5])
        process.stdin.flush()
        answers = [process.stdout.readline() for _ in range(5)]
        process.stdin.writelines(lines[5:6])  # half of a chunk
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert answers[0] == "row,prediction,std,world\n"
    assert [line.split(",")[0] for line in answers[1:]] == list("0123")
    assert out == ""
    assert process.returncode == 130
    assert "upstairs: stopped." in err
    assert "Traceback" not in err
    assert up.load(tmp_path / "s").rows_seen_ == 4
    assert "It was stopped after 4 rows." in (tmp_path / "s.html").read_text()


def test_a_stop_while_rows_are_learned_waits_for_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learn, calls = up.OnlineMetaLearner.partial_fit, []

    def interrupted(self, X, y, **settings):
        calls.append(len(y))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, X, y, **settings)

    monkeypatch.setattr(up.OnlineMetaLearner, "partial_fit", interrupted)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell ignores it for what runs in the background
    words = ["stream", str(place / "prior"), str(place / "events.csv"), "--target", "y", "--save", str(tmp_path / "s")]
    assert main([*words, "--predictions", str(tmp_path / "p.csv")]) == 130
    assert "after 30 rows" in capsys.readouterr().out
    assert up.load(tmp_path / "s").rows_seen_ == 24
    assert len(rows_of(tmp_path / "p.csv")) == 30
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_a_bad_row_keeps_what_was_before_it(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (place / "events.csv").read_text().splitlines(keepends=True)
    lines[36] = "n.a.,1,2,3,4\n"
    (tmp_path / "bad.csv").write_text("".join(lines))
    words = ["stream", str(place / "prior"), str(tmp_path / "bad.csv"), "--target", "y", "--save", str(tmp_path / "s")]
    assert main([*words, "--predictions", str(tmp_path / "p.csv")]) == 2
    shown = capsys.readouterr()
    assert "upstairs: column 'a' must hold finite numbers, but has 'n.a.' in row 35" in shown.err
    assert "after 30 rows" in shown.out
    assert len(rows_of(tmp_path / "p.csv")) == 30
    (tmp_path / "bad.csv").write_text("".join([*lines[:36], "1,2\n"]))
    assert main(words) == 2
    assert "row 35 (counted from 0): 2 cells, but the header names 5 columns" in capsys.readouterr().err


def test_a_kill_between_two_files_of_the_state(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of model and stream.json is the newer, the folder goes on."""
    words = ["--target", "y", "--save", str(tmp_path / "s"), "--limit", "50"]
    assert main(["stream", str(place / "prior"), str(place / "events.csv"), *words]) == 0

    def killed(*_: object) -> None:
        raise MemoryError

    real, calls = stream_run._put, [0]

    def put_once(*given: object) -> None:
        calls[0] += 1
        return real(*given) if calls[0] == 1 else killed()

    for name, patched, learned, rows in (("save", killed, 40, 50), ("_put", put_once, 80, 100)):
        with monkeypatch.context() as patch:
            patch.setattr(stream_run, name, patched)  # "save": stream.json knows both, and the model is the old one
            assert main(["stream", str(tmp_path / "s"), str(place / "events.csv"), *words]) == 1
        assert len(json.loads((tmp_path / "s" / "stream.json").read_text())["states"]) == 2
        model = up.load(tmp_path / "s")
        run = stream_run.restored(tmp_path / "s", model)
        assert run is not None
        assert (model.rows_seen_, run.rows) == (learned, rows)


MISTAKES = {
    "no such prior": (["{}/nope", "{}/events.csv"], "does not exist"),
    "a model": (
        ["{}/model", "{}/events.csv"],
        "holds an adapted model (PriorNeuralNetworkRegressor), but a stream needs a prior",
    ),
    "no such file": (["{}/prior", "{}/nope.csv"], "there is no such file"),
    "unknown format": (["{}/prior", "{}/prior/README.md"], "cannot tell the format"),
    "no such target": (["{}/prior", "{}/events.csv", "--target", "z"], "there is no column 'z' (--target)"),
    "no such drop": (["none", "{}/events.csv", "--drop", "z"], "there is no column 'z' (--drop)"),
    "wrong kind": (["{}/prior", "{}/events.csv", "--kind", "classification"], "the prior is for regression"),
    "no folder": (["{}/prior", "{}/events.csv", "--report", "{}/no/s.html"], "--report"),
    "save is a file": (["{}/prior", "{}/events.csv", "--save", "{}/events.csv"], "--save"),
    "chunk of none": (["{}/prior", "{}/events.csv", "--chunk", "0"], "--chunk"),
    "text": (["none", "{}/text.csv"], "column 'a' must hold finite numbers, but has 'x' in row 0"),
    "no labels": (["none", "{}/blank.csv"], "say --kind regression or --kind classification"),
    "columns missing": (["{}/prior", "{}/blank.csv"], "there is no column 'b'"),
    "nothing to predict from": (["none", "{}/alone.csv"], "no column beside 'y'"),
    "empty": (["none", "{}/empty.csv"], "there is no header"),
    "no rows": (["none", "{}/head.csv"], "has a header and no rows"),
    "save is the prior": (["{}/prior", "{}/events.csv", "--save", "{}/prior"], "which would be lost"),
    "twice": (["none", "{}/twice.csv"], "'a' more than once"),
    "semicolons": (["none", "{}/semi.csv"], "separated by ';'"),
    "binary": (["none", "{}/binary.csv"], "not UTF-8"),
    "not parquet": (["none", "{}/false.parquet"], "the file is damaged"),
    "labels change": (["none", "{}/mixed.csv", "--chunk", "2"], "holds numbers at first, but 'x' in row 2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "text": "a,y\nx,1\n", "blank": "a,y\n1,\n", "alone": "y\n1\n", "empty": "", "head": "a,y\n", "twice": "a,a,y\n1,2,3\n",
        "semi": "a;y\n1;2\n", "mixed": "a,y\n1,0\n1,1\n1,x\n",
    }  # fmt: skip
    for name, text in files.items():
        (place / f"{name}.csv").write_text(text)
    (place / "binary.csv").write_bytes(b"a,y\n\xff\xfe,1\n")
    (place / "false.parquet").write_bytes(b"no")
    words, said = MISTAKES[mistake]
    given = [word.replace("{}", str(place)) for word in words]
    assert main(["stream", *given, *([] if "--target" in given else ["--target", "y"])]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert sum(line.startswith("upstairs: ") for line in shown.splitlines()) == 1


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "--help"]) == 0
    assert "Example:\n    upstairs stream" in capsys.readouterr().out
