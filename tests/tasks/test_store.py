"""The store of tasks: what comes back is what was put in, whatever happens in between."""

import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import upstairs as up
from upstairs.errors import StorageError, TaskError
from upstairs.tasks import duplicates, store_write, write_store
from upstairs.tasks.store_folder import StoreFolder


def tables(number=12, rows=15, seed=0, prefix="t"):
    rng = np.random.default_rng(seed)

    def task(n):
        frame = pd.DataFrame({"size": rng.normal(size=rows), "place": rng.choice(["a", "b", None], size=rows)})
        frame.loc[0, "size"] = np.nan
        return up.Task(frame, rng.normal(size=rows), name=f"{prefix}{n:03d}", group=f"g{n // 4}" if n % 3 else None)

    return up.TaskSet([task(n) for n in range(number)])


def same(one, other):
    assert (one.name, one.group, one.kind, one.columns) == (other.name, other.group, other.kind, other.columns)
    assert one.y.dtype == other.y.dtype
    np.testing.assert_array_equal(one.y, other.y)
    if isinstance(one.X, up.tasks.Table):
        for mine, theirs in zip(one.X.columns, other.X.columns, strict=True):
            assert mine.dtype == theirs.dtype
            assert mine.tolist() == theirs.tolist() or np.array_equal(mine, theirs, equal_nan=True)
    else:
        np.testing.assert_array_equal(one.X, other.X)


def all_same(one, other):
    assert len(one) == len(other)
    assert (one.names, one.groups, one.kind, one.labels) == (other.names, other.groups, other.kind, other.labels)
    np.testing.assert_array_equal(one.rows, other.rows)
    assert one.classes == other.classes
    for mine, theirs in zip(one, other, strict=True):
        same(mine, theirs)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["array", "table", "words", "numbers", "mixed"]))
def test_what_comes_back_is_what_was_put_in(tmp_path_factory, seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "table":
        tasks = tables(seed=seed)
    else:
        targets = {"words": lambda n: rng.choice(["yes", "no"], n), "numbers": lambda n: rng.integers(0, 3, n)}
        draw = targets.get(kind, lambda n: rng.normal(size=n))
        sizes = rng.integers(3, 30, 10).tolist()
        width = (lambda n: 1 + n % 3) if kind == "mixed" else (lambda n: 4)
        made = "regression" if kind in ("array", "mixed") else "classification"
        tasks = up.TaskSet(
            [up.Task(rng.normal(size=(n, width(n))), draw(n), name=f"t{k}", kind=made) for k, n in enumerate(sizes)],
            labels=None if made == "regression" else "shared",
        )
    path = tmp_path_factory.mktemp("store")
    tasks.to_store(path)
    again = up.TaskSet.from_store(path)
    assert sorted(again.names) == sorted(tasks.names)
    if kind != "mixed":  # tasks with the same columns stand in one file, one after another
        all_same(again, tasks)
    all_same(again.canonical(), tasks.canonical())
    assert again.describe() == tasks.describe()
    for mine, theirs in zip(
        again.canonical().split(random_state=1), tasks.canonical().split(random_state=1), strict=True
    ):
        all_same(mine, theirs)
    all_same(again[2:5], again[[2, 3, 4]])
    all_same(again.filter(min_rows=10), again[again.rows >= 10])
    same(again.named(tasks.names[3]), tasks[3])
    same(pickle.loads(pickle.dumps(again[4])), again[4])


def test_a_generator_is_written_in_small_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(store_write, "GROUP_ROWS", 100)
    monkeypatch.setattr(store_write, "PART_ROWS", 1000)

    def made():
        for n in range(300):
            yield up.Task(np.full((20, 2), n), np.arange(20.0) + n, name=f"t{n}")

    write_store(tmp_path / "s", made())
    tasks = up.TaskSet.from_store(tmp_path / "s")
    assert len(tasks) == 300
    assert len(json.loads((tmp_path / "s" / "store.json").read_text())["parts"]) == 6
    assert [task.X[0, 0] for task in tasks] == list(range(300))
    assert tasks[::-1][0].X[0, 0] == 299


def test_single_precision_is_half_the_size_and_rounds(tmp_path):
    tasks = up.tasks.synthetic.SharedSubspace().sample(50, 40, random_state=0)
    tasks.to_store(tmp_path / "d")
    tasks.to_store(tmp_path / "s", precision="float32")
    sizes = [sum(f.stat().st_size for f in (tmp_path / name).glob("part-*")) for name in "ds"]
    assert sizes[1] < 0.6 * sizes[0]
    again = up.TaskSet.from_store(tmp_path / "s")
    np.testing.assert_array_equal(again[3].X, tasks[3].X.astype(np.float32).astype(float))
    with pytest.raises(TaskError, match="precision must be"):
        tasks.to_store(tmp_path / "x", precision="half")


def test_the_same_prior_from_memory_and_from_a_store(tmp_path):
    tasks = tables(20)
    tasks.to_store(tmp_path / "s")
    metas = [
        up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear").meta_fit(some)
        for some in (tasks, up.TaskSet.from_store(tmp_path / "s"))
    ]
    assert metas[0].prior_.hash == metas[1].prior_.hash


def test_appending_and_duplicates(tmp_path):
    tasks, more = tables(6), tables(4, seed=1, prefix="u")
    tasks.to_store(tmp_path / "s")
    more.to_store(tmp_path / "s", append=True)
    again = up.TaskSet.from_store(tmp_path / "s")
    assert again.names == tasks.names + more.names
    assert duplicates(again) == []
    twin = more[1]
    turned = up.Task(twin.X.take(np.arange(len(twin))[::-1]), twin.y[::-1], name="twin")
    up.TaskSet([turned]).to_store(tmp_path / "s", append=True)
    again = up.TaskSet.from_store(tmp_path / "s")
    assert duplicates(again) == [("u001", "twin")]
    assert duplicates(again[:8]) == []
    before = sorted(os.listdir(tmp_path / "s"))
    with pytest.raises(TaskError, match="'t002' stands 2 times in the store"):
        tasks[2:3].to_store(tmp_path / "s", append=True)
    with pytest.raises(TaskError, match="must be of one kind"):
        up.TaskSet([up.Task(np.ones((2, 1)), ["a", "b"], name="z")]).to_store(tmp_path / "s", append=True)
    with pytest.raises(StorageError, match="a store already"):
        tasks.to_store(tmp_path / "s")
    assert sorted(os.listdir(tmp_path / "s")) == before
    with pytest.raises(TaskError, match="looks at the index of a store"):
        duplicates(tasks)


def test_odd_requests_are_refused(tmp_path):
    with pytest.raises(TaskError, match="no task to store"):
        write_store(tmp_path / "s", [])
    assert os.listdir(tmp_path) in ([], ["s"])
    with pytest.raises(TaskError, match="A store takes tasks"):
        write_store(tmp_path / "s", [3])
    frame = {"place": np.array([1, "a"], dtype=object)}
    odd = up.Task(up.tasks.Table(list(frame), list(frame.values())), np.arange(2.0) * 0.3, name="a", kind="regression")
    with pytest.raises(TaskError, match="Categories in a store must be text"):
        write_store(tmp_path / "s", [odd])
    with pytest.raises(StorageError, match=r"store\.json cannot be read"):
        up.TaskSet.from_store(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("x")
    with pytest.raises(StorageError, match="holds other files"):
        write_store(tmp_path / "other", tables(2))
    (tmp_path / "other" / "store.json").write_text("{}")
    with pytest.raises(StorageError, match="something else"):
        up.TaskSet.from_store(tmp_path / "other")


def test_any_address_of_fsspec():
    pytest.importorskip("fsspec")
    tasks = tables(5)
    tasks.to_store("memory://tasks/one")
    more = tables(3, seed=1, prefix="u")
    more.to_store("memory://tasks/one", append=True)
    all_same(up.TaskSet.from_store("memory://tasks/one"), up.TaskSet([*tasks, *more]))


def test_a_file_address_is_a_path(tmp_path):
    pytest.importorskip("fsspec")
    tables(5).to_store(f"file://{tmp_path}/s")
    all_same(up.TaskSet.from_store(tmp_path / "s"), tables(5))


@pytest.mark.parametrize("what", ["part", "index"])
def test_a_damaged_file_is_named_and_can_be_left_out(tmp_path, what):
    tasks, more = tables(6), tables(4, seed=1, prefix="u")
    tasks.to_store(tmp_path)
    first = next(tmp_path.glob(f"{what}-*.parquet"))
    more.to_store(tmp_path, append=True)
    content = bytearray(first.read_bytes())
    content[len(content) // 4] ^= 0xFF
    first.write_bytes(bytes(content))
    if what == "index":
        with pytest.raises(StorageError, match="is damaged or gone"):
            up.TaskSet.from_store(tmp_path)
    else:  # the length is right: it is noticed when the task is read
        with pytest.raises(StorageError, match=r"Task 't00.': part-.* is damaged or gone"):
            up.TaskSet.from_store(tmp_path)[0]
    with pytest.warns(UserWarning, match="6 tasks in damaged files are left out"):
        left = up.TaskSet.from_store(tmp_path, damaged="skip")
    all_same(left, more)
    first.unlink()
    with pytest.raises(StorageError, match="is damaged or gone"):
        up.TaskSet.from_store(tmp_path)


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    tasks, more = tables(6), tables(4, seed=1, prefix="u")
    tasks.to_store(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    real = os.fsync
    for limit in range(3):  # the rows, the index, the description
        left = iter(range(limit))

        def full(descriptor, left=left):
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            real(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr("upstairs.tasks.store_folder.os.fsync", full)
            with pytest.raises(StorageError, match=r"No space left.*free disk space"):
                more.to_store(tmp_path, append=True)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    more.to_store(tmp_path, append=True)
    assert len(up.TaskSet.from_store(tmp_path)) == 10


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_writer_leaves_the_store_as_it_was(tmp_path, number):
    tables(6).to_store(tmp_path)
    code = (
        "import os, numpy as np, upstairs as up\n"
        "from upstairs.tasks import store_write\n"
        "store_write.GROUP_ROWS, store_write.PART_ROWS = 50, 500\n"
        "def made():\n"
        "    for n in range(100):\n"
        f"        if n == 70: os.kill(os.getpid(), {number:d})\n"
        "        yield up.Task(np.full((20, 2), n), np.arange(20.0), name=f'new{n}')\n"
        f"store_write.write_store({str(tmp_path)!r}, made(), append=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -number
    assert any(name.startswith(".writing-") for name in os.listdir(tmp_path))
    all_same(up.TaskSet.from_store(tmp_path), tables(6))
    tables(2, seed=2, prefix="v").to_store(tmp_path, append=True)
    assert not any(name.startswith(".writing-") for name in os.listdir(tmp_path))
    assert len(up.TaskSet.from_store(tmp_path)) == 8


def test_a_folder_sweeps_what_killed_writers_left(tmp_path):
    folder = StoreFolder(tmp_path)

    def half() -> None:
        with folder.writing("a") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert os.listdir(tmp_path) == []
    (tmp_path / ".writing-x").write_text("")
    assert folder.names() == []
    folder.sweep()
    assert os.listdir(tmp_path) == []
