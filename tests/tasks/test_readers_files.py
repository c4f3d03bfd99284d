"""Files become the same tasks as frames, are read when looked at, and every bad file is named."""

from __future__ import annotations

import gzip
import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from upstairs.errors import TaskError
from upstairs.tasks import readers_files
from upstairs.tasks.readers import from_folder, from_frame, read_table
from upstairs.tasks.taskset import TaskSet


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz", "a.parquet", "a.CSV"])
def test_formats(tmp_path: Path, name: str) -> None:
    text = 'x,word,flag\n1,NA,true\n,"two\nlines",\n2.5,,false\n'
    if name.endswith("parquet"):
        pa.parquet.write_table(read_table(write(tmp_path, "b.csv", text)), tmp_path / name)
    else:
        write(tmp_path, name, text.replace(",", "\t") if "tsv" in name else text)
    assert read_table(tmp_path / name).to_pydict() == {
        "x": [1, None, 2.5],
        "word": ["NA", "two\nlines", None],
        "flag": [True, None, False],
    }


def test_columns_may_be_kept_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "id,x\n007,1\n07,2\n")
    assert read_table(path)["id"].to_pylist() == [7, 7]
    assert read_table(path, text=["id"])["id"].to_pylist() == ["007", "07"]


def test_a_late_cell_of_another_type_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "x\n" + "1\n" * 700_000 + "oops\n")
    assert read_table(path)["x"][-1].as_py() == "oops"


def bad_file(folder: Path, what: str) -> Path:
    """Write a file that cannot be used."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=3000), "y": rng.normal(size=3000)})
    text, path = frame.to_csv(index=False), folder / f"bad.{what.split()[-1]}"
    parquet = folder / "good.bin"
    frame.to_parquet(parquet)
    contents = {
        "empty csv": b"",
        "blank csv": b"\n \n",
        "header csv": b"x,y\n",
        "bare header csv": b"x,y",
        "duplicate csv": b"x,y,x\n1,2,3\n",
        "ragged csv": b"x,y\n1,2\n3\n",
        "semicolon csv": b"x;y\n1;2\n",
        "comma tsv": b"x,y\n1,2\n",
        "latin csv": "x,y\né,1\n".encode("latin1"),
        "latin header csv": "é,y\n1,1\n".encode("latin1"),
        "garbage csv": rng.bytes(4000),
        "binary csv": b"x,y\n1,\x00\n",
        "truncated csv.gz": gzip.compress(text.encode())[:20_000],
        "stump csv.gz": gzip.compress(text.encode())[:15],
        "plain csv.gz": text.encode(),
        "empty csv.gz": gzip.compress(b""),
        "corrupt csv.gz": gzip.compress(text.encode())[:-8] + b"12345678",
        "truncated parquet": parquet.read_bytes()[:-100],
        "garbage parquet": rng.bytes(4000),
        "empty parquet": b"",
    }
    parquet.unlink()
    path.write_bytes(contents[what])
    return path


BAD = {
    "empty csv": "the file is empty",
    "blank csv": "the file is empty",
    "header csv": "2 columns and no rows",
    "bare header csv": "a header and no rows, or is cut off",
    "duplicate csv": "the header has 'x' more than once",
    "ragged csv": "Expected 2 columns, got 1",
    "semicolon csv": "separated by ';' and not by ','",
    "comma tsv": "separated by ',' and not by '\\\\t'",
    "latin csv": "not UTF-8",
    "latin header csv": "not UTF-8",
    "garbage csv": "binary, not text",
    "binary csv": "binary, not text",
    "truncated csv.gz": "cut off",
    "stump csv.gz": "cut off",
    "plain csv.gz": "damaged or of another format",
    "empty csv.gz": "the file is empty",
    "corrupt csv.gz": "damaged",
    "truncated parquet": "damaged or of another format",
    "garbage parquet": "damaged or of another format",
    "empty parquet": "the file is empty",
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files(tmp_path: Path, what: str) -> None:
    path = bad_file(tmp_path, what)
    with pytest.raises(TaskError, match=rf"^bad\.\S+: .*{BAD[what]}"):
        read_table(path)
    write(tmp_path, "good.csv", "x,y\n1,2\n")
    with pytest.raises(TaskError, match=r"1 of 2 files cannot be used: bad\.") as caught:
        from_folder(tmp_path, target="y")
    assert "good.csv" not in str(caught.value)


def test_files_that_cannot_be_tables(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="there is no such file"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(TaskError, match=r"cannot tell the format; the name must end in \.csv, "):
        read_table(write(tmp_path, "a.xlsx", "x"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "one.csv", "id,x,active,lab\n1,0.5,yes,L1\n2,,no,L1\n")
    write(tmp_path, "two.csv.gz", "id,x,active,lab\n3,1.5,yes,L2\n")
    write(tmp_path, "three.tsv", "id\tx\tactive\tlab\n4\t2.5\tno\tL1\n5\t3.5\tno\tL1\n")
    pd.DataFrame({"id": [6], "x": [4.5], "active": ["yes"], "lab": ["L3"]}).to_parquet(tmp_path / "four.parquet")
    write(tmp_path, "notes.md", "not a task")
    write(tmp_path, ".hidden.csv", "not,a\ntask,1\n")
    return tmp_path


def test_a_folder_of_files(folder: Path) -> None:
    tasks = TaskSet.from_folder(folder, target="active", group="lab", categorical=["id"])
    assert tasks.names == ("four", "one", "three", "two")
    assert (tasks.kind, tasks.labels, tasks.classes) == ("classification", "shared", ("no", "yes"))
    assert tasks.groups == ("L3", "L1", "L1", "L2")
    assert tasks.rows.tolist() == [1, 2, 2, 1]
    one = tasks.named("one")
    assert one.columns == ("id", "x")
    assert one.X.column("id").tolist() == ["1", "2"]
    np.testing.assert_array_equal(one.X.column("x"), [0.5, np.nan])
    assert one.y.tolist() == ["yes", "no"]
    assert from_folder(folder, target="active", drop=["id", "lab"], pattern="t*").names == ("three", "two")
    assert from_folder(folder, target="active", drop="lab")[0].columns == ("id", "x")


def test_a_folder_and_a_frame_give_equal_tasks(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "site": ["b", "a", "b", "c", "a"],
            "age": [30, 40, None, 60, 70],
            "sex": ["f", "m", "f", None, "m"],
            "ward": [1, 2, 1, 3, 2],
            "clinic": ["north", "south", "north", "north", "south"],
            "dose": [1.5, 2.5, 3.5, 4.5, 5.5],
        }
    )
    for name, part in frame.groupby("site"):
        part.drop(columns="site").to_csv(tmp_path / f"{name}.csv", index=False)
    files = from_folder(tmp_path, target="dose", group="clinic", categorical=["ward"])
    rows = from_frame(frame, task="site", target="dose", group="clinic", categorical=["ward"]).canonical()
    assert files.names == rows.names
    for one, other in zip(files, rows, strict=True):
        assert (one.columns, one.kind, one.group) == (other.columns, other.kind, other.group)
        np.testing.assert_array_equal(one.y, other.y)
        for mine, theirs in zip(one.X.columns, other.X.columns, strict=True):
            assert [*map(repr, mine.tolist())] == [*map(repr, theirs.tolist())]


def test_files_are_read_when_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = readers_files.read_table

    def counting(path: Any, **settings_: Any) -> Any:
        reads.append(Path(path).name)
        return original(path, **settings_)

    monkeypatch.setattr(readers_files, "read_table", counting)
    # unwrapped: a check of the returned type would look at a task, and so read it
    tasks = inspect.unwrap(from_folder)(folder, target="active", group="lab")
    assert sorted(reads) == ["four.parquet", "one.csv", "three.tsv", "two.csv.gz"]
    reads.clear()
    assert tasks.filter(min_rows=2).names == ("one", "three")
    assert tasks.describe()["classes"] == 2
    assert tasks.split(random_state=0)[0].kind == "classification"
    assert reads == []
    assert tasks[1] is tasks.named("one")
    assert tasks[[1]][0].name == "one"
    assert reads == ["one.csv"]
    assert tasks[3].name == "two"
    assert tasks[1].name == "one"
    assert reads == ["one.csv", "two.csv.gz", "one.csv"]
    assert len(list(pickle.loads(pickle.dumps(tasks)))) == 4


def test_a_file_that_changes_or_goes_away(folder: Path) -> None:
    tasks = from_folder(folder, target="active")
    assert tasks.named("one").y.tolist() == ["yes", "no"]
    write(folder, "one.csv", "id,x,active,lab\n1,0.5,yes,L1\n")
    with pytest.raises(TaskError, match=r"Task 'one': the file has changed since.*read the folder again"):
        tasks.named("one")
    (folder / "one.csv").unlink()
    with pytest.raises(TaskError, match="Task 'one': the file is gone"):
        tasks.named("one")
    assert len(tasks.named("two")) == 1


def test_every_bad_file_is_reported_at_once(folder: Path) -> None:
    write(folder, "a.csv", "id,x,aktive,lab\n1,2,yes,L1\n")
    write(folder, "b.csv", "id,x,active,lab\n1,2,yes,L1\n2,2,,L2\n")
    write(folder, "c.csv", "id,x,active,lab\n" + "1,2,yes,L1\n" * 19 + "1,n.d.,yes,L1\n")
    write(folder, "d.csv", "")
    with pytest.raises(TaskError) as caught:
        from_folder(folder, target="active", group="lab")
    lines = str(caught.value).splitlines()
    assert "4 of 8 files cannot be used" in lines[0]
    assert lines[1] == "- a.csv: there is no column 'active' (target=); did you mean 'aktive'?"
    assert lines[2].startswith("- b.csv: target 'active' is missing in 1 of 2 rows (first: row 1, counted from 0)")
    assert lines[2].endswith("; group 'lab' must hold one value in the whole file, but holds 'L1', 'L2'")
    assert (
        "- c.csv: column 'x' holds numbers but for 1 of 20 cells (first: 'n.d.' in row 19, counted from 0)" in lines[3]
    )
    assert lines[4] == "- d.csv: the file is empty; repair the file or write it again"


def test_infinite_targets_and_row_numbers(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "x,y\n1,inf\n2,1.5\n")
    write(tmp_path, "b.csv", ",x,y\n0,1,0.5\n")
    write(tmp_path, "c.csv", "y\n0.5\n")
    with pytest.raises(TaskError) as caught:
        from_folder(tmp_path, target="y")
    assert "a.csv: target 'y' is infinite in 1 of 2 rows (first: row 0" in str(caught.value)
    assert "b.csv: column '' looks like the row numbers of a data frame" in str(caught.value)
    assert "c.csv: no feature column is left" in str(caught.value)


def test_kinds_are_decided_over_all_files(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "x,y\n1,0\n2,1\n")
    write(tmp_path, "b.csv", "x,y\n1,2\n2,3\n")
    assert from_folder(tmp_path, target="y").kind == "regression"
    assert from_folder(tmp_path, target="y")[0].y.dtype == np.float64
    tasks = from_folder(tmp_path, target="y", kind="classification", labels="own")
    assert (tasks.labels, tasks.classes) == ("own", (0, 1, 2, 3))
    write(tmp_path, "c.csv", "x,y\n1,low\n")
    with pytest.raises(TaskError, match=r"the target is text in 'c\.csv' and numbers in 'a\.csv', 'b\.csv'"):
        from_folder(tmp_path, target="y")
    with pytest.raises(TaskError, match=r"kind='regression' needs numbers as targets, but 'c\.csv' hold text"):
        from_folder(tmp_path, target="y", kind="regression")
    named = from_folder(tmp_path, target="y", kind="classification")
    assert named.classes == ("0", "1", "2", "3", "low")
    assert named[0].y.tolist() == ["0", "1"]


def test_of_number_targets_only_a_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, np.ndarray]] = []
    decide = readers_files.common_kind
    monkeypatch.setattr(readers_files, "common_kind", lambda shown, kind: kept.append(shown) or decide(shown, kind))
    for name in ("a", "b"):
        write(tmp_path, f"{name}.csv", "x,y\n" + "".join(f"{n},{n % 50}\n" for n in range(200)))
    assert from_folder(tmp_path, target="y").kind == "regression"
    assert max(len(values) for values in kept[-1].values()) == 3
    tasks = from_folder(tmp_path, target="y", kind="classification")
    assert tasks.classes == tuple(range(50))


def test_groups_of_files(tmp_path: Path) -> None:
    for place in ("north/a.csv", "north/deep/b.csv", "south/c.csv.gz"):
        write(tmp_path, place, "x,y\n1,0.5\n2,1.5\n3,2.5\n")
    tasks = from_folder(tmp_path, target="y", group=":folder:")
    assert tasks.names == ("a", "b", "c")
    assert tasks.groups == ("north", "north", "south")
    assert tasks[1].group == "north"
    groups = {"a": "u", "b": "v", "c": "v", "d": "w"}
    assert from_folder(tmp_path, target="y", group=groups, pattern="**/*").groups == ("u", "v", "v")
    with pytest.raises(TaskError, match="no entry for 2 of 3 tasks: 'b', 'c'"):
        from_folder(tmp_path, target="y", group={"a": "u"}, pattern="**/*")
    write(tmp_path, "loose.csv", "x,y\n1,0.5\n")
    with pytest.raises(TaskError, match=r"loose\.csv lie in no subfolder"):
        from_folder(tmp_path, target="y", group=":folder:")


def test_equal_stems(tmp_path: Path) -> None:
    for place in ("north/a.csv", "south/a.csv"):
        write(tmp_path, place, "x,y\n1,0.5\n")
    assert from_folder(tmp_path, target="y", pattern="*/*").names == ("north/a", "south/a")
    write(tmp_path, "south/a.tsv", "x\ty\n1\t0.5\n")
    with pytest.raises(TaskError, match=r"a\.csv, a\.tsv would be one task 'south/a'"):
        from_folder(tmp_path, target="y", pattern="*/*")


def test_folders_without_tasks(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"has no file that pattern='\*' finds"):
        from_folder(tmp_path, target="y")
    write(tmp_path, "a.xlsx", "x")
    with pytest.raises(TaskError, match=r"1 other files, first 'a\.xlsx'"):
        from_folder(tmp_path, target="y")
    with pytest.raises(TaskError, match=r"is not a folder; read it with from_frame\(read_table"):
        from_folder(tmp_path / "a.xlsx", target="y")
    with pytest.raises(TaskError, match="is not a folder; correct the path"):
        from_folder(tmp_path / "nothing", target="y")
    with pytest.raises(TaskError, match=r"target must be one column name, but is \['y', 'z'\]"):
        inspect.unwrap(from_folder)(tmp_path, target=["y", "z"])


def test_files_may_have_different_columns(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "x,y\n1,0.5\n")
    write(tmp_path, "b.csv", "z,w,y\n1,2,0.7\n")
    tasks = from_folder(tmp_path, target="y", kind="regression")
    assert [task.columns for task in tasks] == [("x",), ("z", "w")]
    assert not tasks.describe()["same_columns"]
    some = from_folder(tmp_path, target="y", kind="regression", categorical=["z"], drop=["w"])
    assert some[1].columns == ("z",)
    assert some[1].X.categorical == ("z",)
    with pytest.raises(TaskError) as caught:
        from_folder(tmp_path, target="y", categorical=["q"], drop=["Z"])
    assert "no column 'q' (categorical=)" in str(caught.value)
    assert "no column 'Z' (drop=); did you mean 'z'?" in str(caught.value)
    with pytest.raises(TaskError, match="categorical= names the target 'y'"):
        from_folder(tmp_path, target="y", categorical=["y"])
