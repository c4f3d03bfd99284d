"""Tasks scanned out of a large table are those of `from_frame`, and leave nothing behind."""

import gc
import gzip

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import upstairs as up
from upstairs.errors import StorageError, TaskError
from upstairs.tasks import scan_sources, scan_tasks, spill
from upstairs.tasks.readers_files import read_table

ROWS, TASKS = 2400, 120


@pytest.fixture(params=["at once", "one round", "several rounds"])
def size(request, monkeypatch):
    """How often rows are dealt."""
    if request.param != "at once":
        rounds = request.param == "several rounds"
        monkeypatch.setattr(spill, "PART_BYTES", 2_000 if rounds else 20_000)
        monkeypatch.setattr(spill, "CHUNK_BYTES", 8_000)
        monkeypatch.setattr(spill, "FILES", 4 if rounds else 16)
        monkeypatch.setattr(scan_sources, "BLOCK_ROWS", 280)
        monkeypatch.setattr(scan_sources, "BLOCK_BYTES", 12_000)
    return request.param


@pytest.fixture
def spot(tmp_path):
    """A place for temporary files that must be empty in the end."""
    folder = tmp_path / "spot"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(spill, "PART_BYTES", 2_000)
    monkeypatch.setattr(spill, "CHUNK_BYTES", 8_000)


def events(seed=0, rows=ROWS):
    """Scattered rows of shops, one of them with a third of all."""
    rng = np.random.default_rng(seed)
    shop = np.where(rng.random(rows) < 0.3, 7, rng.integers(0, TASKS, rows))
    place = rng.choice(["north", "south", "1", None], rows)
    area = rng.normal(size=rows)
    area[rng.random(rows) < 0.1] = np.nan
    frame = pd.DataFrame(
        {
            "when": rng.permutation(rows),
            "shop": [f"{number:03d}" for number in shop],
            "chain": [f"{number // 10:02d}" for number in shop],
            "area": area,
            "place": place,
            "code": rng.integers(0, 5, rows),
            "note": rng.choice(["x", "y"], rows),
            "revenue": rng.normal(size=rows),
        }
    )
    frame["sold"] = np.where(frame.groupby("shop").cumcount() % 3, "no", "yes")
    return frame


def same(scanned, tasks):
    scanned = sorted(scanned, key=lambda task: task.name)
    assert [task.name for task in scanned] == sorted(tasks.names)
    for mine, theirs in zip(scanned, tasks.canonical(), strict=True):
        assert (mine.name, mine.group, mine.kind, mine.columns) == (
            theirs.name,
            theirs.group,
            theirs.kind,
            theirs.columns,
        )
        assert mine.y.dtype.kind == theirs.y.dtype.kind
        np.testing.assert_array_equal(mine.y, theirs.y)
        for one, other in zip(mine.X.columns, theirs.X.columns, strict=True):
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist() or np.array_equal(one, other, equal_nan=True)


ARGUMENTS = {
    "regression": {"target": "revenue", "group": "chain", "drop": ["note", "sold"]},
    "shared": {"target": "sold", "categorical": ["code"], "drop": ["chain"]},
    "ordered": {"target": "revenue", "order": "when", "drop": ["when", "chain"]},
    "wide": {"target": ["revenue", "area"], "drop": ["chain"]},
    "own": {"target": "sold", "labels": "own", "group": "chain"},
    "code": {"target": "code", "kind": "classification"},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_tasks_are_those_of_from_frame(name, size, spot, tmp_path):
    frame, arguments = events(), {"task": "shop", **ARGUMENTS[name]}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, tmp_path / "events.parquet", row_group_size=400)
    scan = scan_tasks(tmp_path / "events.parquet", **arguments, temporary=spot)
    tasks = up.TaskSet.from_frame(table, **arguments)
    same(scan, tasks)
    assert scan.labels == (tasks.labels or "shared")
    assert list(scan) == []


def as_parquet(table, folder):
    pq.write_table(table, folder / "events.parquet", row_group_size=360)
    return str(folder / "events.parquet")


def as_folder(table, folder):
    (folder / "deep").mkdir()
    for number in range(12):
        part = table.slice(number * 200, 200)
        where = folder / ("deep" if number > 9 else "") / f"part-{number}.parquet"
        if number % 2:  # whole numbers in one file, others in the next; columns in another order
            part = part.set_column(part.schema.get_field_index("code"), "code", part["code"].cast(pa.float64()))
            part = part.select(part.column_names[::-1])
        pq.write_table(part, where)
    (folder / "notes.txt").write_text("not a table")
    for file in (folder / "deep").iterdir():
        file.rename(folder / file.name)
    return folder


def as_csv(table, folder):
    pc.write_csv(table, folder / "events.csv")
    return folder / "events.csv"


def as_zipped(table, folder):
    sink = pa.BufferOutputStream()
    pc.write_csv(table, sink, pc.WriteOptions(delimiter="\t"))
    (folder / "events.tsv.gz").write_bytes(gzip.compress(sink.getvalue().to_pybytes()))
    return folder / "events.tsv.gz"


SOURCES = {
    "parquet": as_parquet,
    "folder": as_folder,
    "csv": as_csv,
    "tsv.gz": as_zipped,
    "dataset": lambda table, folder: ds.dataset(as_parquet(table, folder)),
    "memory": lambda table, folder: ds.dataset(table),
    "reader": lambda table, folder: pa.RecordBatchReader.from_batches(table.schema, table.to_batches(333)),
    "table": lambda table, folder: table,
    "frame": lambda table, folder: pl.from_arrow(table),
    "lazy": lambda table, folder: pl.from_arrow(table).lazy(),
    "lazy file": lambda table, folder: pl.scan_parquet(as_parquet(table, folder)).filter(pl.col("code") >= 0),
    "narwhals": lambda table, folder: nw.from_native(pl.from_arrow(table).lazy()),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name, size, spot, tmp_path):
    arguments = {"task": "shop", "target": "revenue", "group": "chain", "categorical": ["code"]}
    table = pa.Table.from_pandas(events(), preserve_index=False)
    (tmp_path / "source").mkdir()
    source = SOURCES[name](table, tmp_path / "source")
    tasks = up.TaskSet.from_frame(table, **arguments)
    same(scan_tasks(source, **arguments, temporary=spot), tasks)


def test_categories_of_polars_and_pandas(small, spot):
    frame = events().astype({"place": "category", "code": "category", "shop": "category"})
    arguments = {"task": "shop", "target": "code", "kind": "classification", "drop": ["chain"]}
    tasks = up.TaskSet.from_frame(frame, **arguments)
    same(scan_tasks(frame, **arguments, temporary=spot), tasks)
    kept = pl.from_pandas(frame.astype({"code": int})).with_columns(pl.col("note").cast(pl.Categorical))
    tasks = up.TaskSet.from_frame(kept, task="shop", target="sold")
    same(scan_tasks(kept.lazy(), task="shop", target="sold", temporary=spot), tasks)


@pytest.mark.parametrize("column", ["shop", "number", "float", "date"])
def test_names_of_any_type(column, small, spot):
    frame = events().assign(number=lambda f: f["shop"].astype(int))
    frame["float"] = frame["number"] - 60.0
    frame["date"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame["number"], unit="D")
    frame = frame[[column, "area", "revenue"]]
    tasks = up.TaskSet.from_frame(pa.Table.from_pandas(frame), task=column, target="revenue")
    same(scan_tasks(frame, task=column, target="revenue", temporary=spot), tasks)


@pytest.mark.parametrize("late", ["0.5", "word", "", "true"])
def test_a_column_of_csv_has_the_type_of_all_its_cells(late, monkeypatch, small, spot, tmp_path):
    monkeypatch.setattr(scan_sources, "BLOCK_BYTES", 4000)
    rng = np.random.default_rng(0)
    cells = [*map(str, rng.integers(0, 9, 1000)), *[late, "3"] * 500]
    empty = [""] * 1500 + [*map(str, rng.integers(0, 9, 500))]
    quoted = ['"a,\n""b"""', "c"] * 1000
    lines = [f"{n % 20:03d},{a},{b},{c},{n / 7}" for n, (a, b, c) in enumerate(zip(cells, empty, quoted, strict=True))]
    (tmp_path / "a.csv").write_text("shop,cells,empty,quoted,y\n" + "\n".join(lines) + "\n")
    table = read_table(tmp_path / "a.csv", text=["shop"])
    tasks = up.TaskSet.from_frame(table, task="shop", target="y")
    assert "007" in tasks.names
    same(scan_tasks(tmp_path / "a.csv", task="shop", target="y", temporary=spot), tasks)


def test_kind_is_that_of_the_whole_column(small, spot):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": rng.integers(0, 200, 5000), "x": rng.normal(size=5000), "y": rng.integers(0, 2, 5000)})
    scan = list(scan_tasks(frame, task="t", target="y", temporary=spot))
    assert {task.kind for task in scan} == {"classification"}
    frame.loc[4321, "y"] = 2
    scan = list(scan_tasks(frame, task="t", target="y", temporary=spot))
    assert {task.kind for task in scan} == {"regression"}


def test_stray_text_is_looked_for_in_the_whole_column(small, spot):
    frame = events()
    frame["odd"] = np.where(np.arange(ROWS) % 10 < 8, "5", "A")  # a fifth: categories, though not in every part
    arguments = {"task": "shop", "target": "revenue", "drop": ["chain"]}
    same(scan_tasks(frame, **arguments, temporary=spot), up.TaskSet.from_frame(frame, **arguments))
    frame["odd"] = np.where(np.arange(ROWS) == 1600, "A", "5")
    shop = frame["shop"][1600]
    where = f"column 'odd' holds numbers but for 1 of 2400 cells \\(first: 'A' in row 1600, counted from 0, of task '{shop}'"
    with pytest.raises(TaskError, match=where):
        list(scan_tasks(frame, **arguments, temporary=spot))
    frame["odd"] = np.where(np.arange(ROWS) % 300 == 1, None, frame["odd"])
    with pytest.raises(TaskError, match="target 'odd' holds numbers but for 1 of 2392 cells"):
        list(scan_tasks(frame, task="shop", target="odd", temporary=spot))


def test_into_a_store(small, spot, tmp_path):
    frame = events()
    arguments = {"task": "shop", "target": "sold", "group": "chain"}
    up.tasks.write_store(tmp_path / "tasks", scan_tasks(frame, **arguments, labels="shared", temporary=spot))
    store = up.TaskSet.from_store(tmp_path / "tasks")
    same(store, up.TaskSet.from_frame(frame, **arguments))
    assert store.labels == "shared"
    up.tasks.write_store(tmp_path / "own", scan_tasks(frame, **arguments, labels="own", temporary=spot))
    assert up.TaskSet.from_store(tmp_path / "own").labels == "own"


def test_absent_columns_and_sources_are_told_at_once(spot, tmp_path):
    table = pa.Table.from_pandas(events(), preserve_index=False)
    source = as_parquet(table, tmp_path)
    with pytest.raises(TaskError, match="no column 'Shop' \\(task=\\); did you mean 'shop'"):
        scan_tasks(source, task="Shop", target="revenue", temporary=spot)
    with pytest.raises(TaskError, match=r"scan_tasks:\n.*'nothing' \(target=\)[^\n]*\n.*'none' \(drop=\)"):
        scan_tasks(source, task="shop", target="nothing", drop=["none"], temporary=spot)
    with pytest.raises(TaskError, match="one part to play"):
        scan_tasks(source, task="shop", target="shop", temporary=spot)
    for bad, message in {
        tmp_path / "gone.parquet": "no file or folder",
        tmp_path / "spot": "no file that ends in",
        __file__: "cannot tell the format",
        7: "source must be a path",
    }.items():
        with pytest.raises(TaskError, match=message):
            scan_tasks(bad, task="shop", target="revenue", temporary=spot)
    twice = pa.table([pa.array([1.0])] * 3, names=["x", "x", "y"])
    with pytest.raises(TaskError, match="'x' stand more than once"):
        scan_tasks(twice, task="x", target="y", temporary=spot)
    with pytest.raises(StorageError, match="temporary="):
        scan_tasks(source, task="shop", target="revenue", temporary=tmp_path / "absent")


def test_bad_files(spot, tmp_path):
    def scan(name, content):
        (tmp_path / name).write_bytes(content)
        return list(scan_tasks(tmp_path / name, task="t", target="y", temporary=spot))

    with pytest.raises(TaskError, match=r"a.parquet: cannot be read"):
        scan("a.parquet", b"PAR1 and no more")
    with pytest.raises(TaskError, match=r"a.csv: cannot be read"):
        scan("a.csv", b"")
    with pytest.raises(TaskError, match="separated by ';'"):
        scan("a.csv", b"t;x;y\na;1;2\n")
    with pytest.raises(TaskError, match=r"a.csv: cannot be read .*Expected 3 columns, got 2"):
        scan("a.csv", b"t,x,y\na,1,2\nb,3\n")
    with pytest.raises(TaskError, match=r"a.csv has no rows"):
        scan("a.csv", b"t,x,y\n")
    with pytest.raises(TaskError, match=r"a.csv.gz: cannot be read"):
        scan("a.csv.gz", gzip.compress(b"t,x,y\na,1,2\n" * 9)[:-12])
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(pa.table({"t": ["a"], "x": [1.0], "y": [2.0]}), folder / "1.parquet")
    pq.write_table(pa.table({"t": ["a"], "z": [1.0], "y": [2.0]}), folder / "2.parquet")
    with pytest.raises(TaskError, match=r"2.parquet: has other columns than 1.parquet \('x', 'z'\)"):
        scan_tasks(folder, task="t", target="y", temporary=spot)


def test_bad_tasks_are_named(small, spot):
    def scan(**change):
        frame = events()
        for column, value in change.items():
            frame.loc[1234, column] = value
        return list(scan_tasks(frame, task="shop", target="revenue", group="chain", temporary=spot)), frame

    shop = events()["shop"][1234]
    with pytest.raises(TaskError, match=f"scan_tasks: target 'revenue' is missing in 1 rows of 1 tasks: task '{shop}'"):
        scan(revenue=np.nan)
    with pytest.raises(TaskError, match=f"group 'chain' must be constant inside a task, but is not in task '{shop}'"):
        scan(chain="99")
    with pytest.raises(TaskError, match="task column 'shop' is missing in row 1234"):
        scan(shop=None)
    with pytest.raises(TaskError, match=f"column 'area' must be finite or missing, but row 1234 \\(task '{shop}'\\)"):
        scan(area=np.inf)
    frame = events().assign(day=pd.Timestamp("2020-01-01"))
    with pytest.raises(TaskError, match="column 'day' has type Datetime"):
        list(scan_tasks(frame, task="shop", target="revenue", temporary=spot))


def test_wide_targets_that_most_tasks_lack(small, spot):
    frame = events()
    frame["rare"] = np.where(frame["shop"] == "011", 1.5, np.nan)
    arguments = {"task": "shop", "target": ["rare"], "kind": "regression"}
    same(scan_tasks(frame, **arguments, temporary=spot), up.TaskSet.from_frame(frame, **arguments))
    with pytest.raises(TaskError, match="'rare' are missing in every row"):
        list(scan_tasks(frame.assign(rare=np.nan), **arguments, temporary=spot))
    with pytest.raises(TaskError, match="some targets are text and some numbers"):
        list(scan_tasks(frame, task="shop", target=["sold", "code"], kind="classification", temporary=spot))


@pytest.mark.parametrize("how", ["close", "forget", "not begun", "error", "full disk"])
def test_nothing_is_left(how, small, spot, monkeypatch):
    frame = events()
    scan = scan_tasks(frame, task="shop", target="revenue", temporary=spot)
    if how == "not begun":
        assert len(list(spot.iterdir())) == 1
        scan.close()
        return
    if how == "full disk":

        def full(*anything, **more):
            raise OSError("no space left")

        monkeypatch.setattr(pa.ipc, "new_stream", full)
        with pytest.raises(StorageError, match="no space left"):
            next(scan)
        return
    next(scan)
    assert len(list(next(spot.iterdir()).iterdir())) > 1
    if how == "close":
        scan.close()
        with pytest.raises(StopIteration):
            next(scan)
    elif how == "forget":
        del scan
        gc.collect()
    else:
        frame.loc[1234, "revenue"] = np.nan
        scan.close()
        scan = scan_tasks(frame, task="shop", target="revenue", temporary=spot)
        with pytest.raises(TaskError):
            list(scan)
    assert list(spot.iterdir()) == []


def test_files_of_parts_are_removed_as_they_are_read(small, spot):
    scan = scan_tasks(events(), task="shop", target="revenue", temporary=spot)
    next(scan)
    before = sum(file.stat().st_size for file in spot.rglob("*.arrow"))
    for _ in range(100):
        next(scan)
    assert sum(file.stat().st_size for file in spot.rglob("*.arrow")) < before / 2
    scan.close()
