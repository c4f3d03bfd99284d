"""Storage: full disks, writers at once, kills at every step and at random moments."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import ARRAYS, DOCUMENT, OTHER, assert_same, snapshot

from upstairs import storage
from upstairs.errors import StorageError
from upstairs.storage import read_folder, write_folder

# --- a disk that refuses

STEPS = ("open", "write", "fsync", "replace")


class Disk:
    """The `os` calls that write, counted; the one with the given number fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: int, error: int = errno.ENOSPC) -> None:
        self.calls: list[str] = []
        for step in STEPS:
            monkeypatch.setattr(storage.os, step, self.wrap(step, getattr(os, step), failing, error))

    def wrap(self, step: str, real: Callable[..., Any], failing: int, error: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(step)
            if len(self.calls) - 1 == failing:
                if step == "write":
                    real(args[0], args[1][: len(args[1]) // 2])  # half of it still fitted
                raise OSError(error, os.strerror(error))
            return real(*args, **kwargs)

        return call


def steps_of(monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
    with monkeypatch.context() as patch:
        disk = Disk(patch, failing=-1)
        write_folder(path, {"type": "new"}, OTHER, "new")
    return disk.calls


def test_a_full_disk_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "count", DOCUMENT, ARRAYS, "old")
    calls = steps_of(monkeypatch, tmp_path / "count")
    assert [calls.count(step) for step in ("write", "fsync", "replace")] == [3, 5, 3]
    turn = [index for index, step in enumerate(calls) if step == "replace"][1]  # prior.json into place
    for failing in range(len(calls)):
        for known in (True, False):
            path = tmp_path / f"{failing}-{known}"
            if known:
                write_folder(path, DOCUMENT, ARRAYS, "old")
            before = snapshot(path) if known else None
            with monkeypatch.context() as patch:
                Disk(patch, failing)
                with pytest.raises(StorageError) as caught:
                    write_folder(path, {"type": "new"}, OTHER, "new")
            message = str(caught.value)
            assert f"path '{path}' must be writable" in message
            assert "No space left" in message
            assert "free disk" in message
            assert ("is unchanged" in message) == (failing <= turn)
            if failing <= turn:
                assert (snapshot(path) if path.exists() else None) == before
            else:
                assert read_folder(path)[0]["type"] == "new"
                assert not list(path.glob(".*"))
            write_folder(path, {"type": "new"}, OTHER, "new")  # and once there is space, all is well
            assert_same(read_folder(path)[1], OTHER)
            assert len(os.listdir(path)) == 3


def test_a_disk_that_takes_few_bytes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "write", lambda descriptor, content: real(descriptor, content[:17]))
        write_folder(tmp_path, DOCUMENT, ARRAYS, "long " * 20)
    assert_same(read_folder(tmp_path)[1], ARRAYS)


def test_a_disk_that_cannot_sync_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "no")
        real(descriptor)

    monkeypatch.setattr(storage.os, "fsync", fsync)
    write_folder(folder, DOCUMENT, OTHER, "")
    assert_same(read_folder(folder)[1], OTHER)


def test_ctrl_c_leaves_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(folder)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, DOCUMENT, OTHER, "")
    assert snapshot(folder) == before


def test_errors_while_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"must be readable, and fails with .*Permission denied"):
        read_folder(folder)


def test_an_orphan_that_cannot_go_does_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "unlink", refuse)
        write_folder(folder, DOCUMENT, OTHER, "")
    assert_same(read_folder(folder)[1], OTHER)
    assert len(os.listdir(folder)) == 4


def test_permissions_follow_the_umask(folder: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_writers_and_readers_at_once(tmp_path: Path) -> None:
    contents = [np.full(2000, index, dtype=np.float64) for index in range(3)]
    write_folder(tmp_path, {"index": 0}, {"x": contents[0]}, "")
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(15):
                write_folder(tmp_path, {"index": index}, {"x": contents[index]}, "")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        document, arrays = read_folder(tmp_path)
        assert_same(arrays, {"x": contents[document["index"]]})
    for thread in threads:
        thread.join()
    assert not failures
    assert len(os.listdir(tmp_path)) == 3


# --- kills

HARNESS = """
import json, os, random, signal, sys, time
from pathlib import Path
import numpy as np
from upstairs import storage
from upstairs.errors import StorageError

root = Path(sys.argv[1])
SIZE = 400_000  # floats: 3.2 MB
CONTENTS = [({"tag": tag}, {"x": np.full(SIZE, tag, dtype=np.float64)}, f"tag {tag}") for tag in (0, 1)]

def write(path, tag):
    storage.write_folder(path, *CONTENTS[tag])

def read(path):
    document, arrays = storage.read_folder(path)
    tag = document["tag"]
    assert arrays["x"].shape == (SIZE,) and (arrays["x"] == tag).all()
    return tag

def in_child(act):
    child = os.fork()
    if child == 0:
        try:
            act()
        finally:
            os._exit(0)
    return child

def random_moments(path, kills):
    rng = random.Random(0)
    write(path, 0)
    start = time.perf_counter()
    write(path, 1)
    cycle = max(time.perf_counter() - start, 0.005)
    tags, leftovers = [], 0
    def forever():
        while True:
            write(path, 0)
            write(path, 1)
    for _ in range(kills):
        child = in_child(forever)
        time.sleep(rng.uniform(0, 4 * cycle))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        tags.append(read(path))
        leftovers += len(os.listdir(path)) > 3
    write(path, 0)
    return {"tags": tags, "leftovers": leftovers, "files": len(os.listdir(path))}

def every_step(base, fresh):
    # the child kills itself just before its n-th call of one of these
    outcomes = []
    for number in range(1000):
        path = base / f"{fresh}-{number}"
        if not fresh:
            write(path, 0)
        def die_at(number=number, path=path):
            left = [number]
            for step in ("mkdir", "open", "write", "fsync", "close", "replace", "unlink", "listdir"):
                def call(*args, real=getattr(os, step), **kwargs):
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                    return real(*args, **kwargs)
                setattr(os, step, call)
            write(path, 1)
        status = os.waitpid(in_child(die_at), 0)[1]
        try:
            outcomes.append(read(path))
        except StorageError as error:
            assert "holds no prior.json" in str(error) or "does not exist" in str(error), error
            outcomes.append(None)
        write(path, 1)
        assert read(path) == 1 and len(os.listdir(path)) == 3
        if not os.WIFSIGNALED(status):
            return outcomes
    raise AssertionError("never finished")

result = {"update": every_step(root, False), "fresh": every_step(root, True)}
print(json.dumps({**result, "random": random_moments(root / "random", 50)}))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kills_leave_the_old_or_the_new(tmp_path: Path) -> None:
    source = Path(storage.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HARNESS, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    random = result["random"]
    assert len(random["tags"]) == 50
    assert set(random["tags"]) == {0, 1}
    assert random["leftovers"] >= 10  # the kills did land inside a write
    assert random["files"] == 3  # and the next write cleared what they left
    for kind, before in (("update", 0), ("fresh", None)):
        outcomes = result[kind]
        turn = outcomes.index(1)
        assert turn >= 15
        assert len(outcomes) - turn >= 5
        assert outcomes == [before] * turn + [1] * (len(outcomes) - turn)
