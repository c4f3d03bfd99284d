"""A table larger than memory, dealt into parts that fit: rows with the same name come into the same part, in their order."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from upstairs.errors import StorageError
from upstairs.tasks.readers_common import name_values
from upstairs.tasks.scan_sources import cost

__all__ = ["parts_by_name"]

PART_BYTES = 16_000_000
"""Size of a part, at most (see `cost`), unless it is one task."""
CHUNK_BYTES = 32_000_000
"""Rows that are dealt in one go."""
FILES = 128
"""Files that a table is dealt to, in each round."""
ROUNDS = 4


def parts_by_name(batches: Iterable[Any], column: str, folder: str, level: int = 0) -> Iterator[Any]:
    """Tables of at most `PART_BYTES`, or one task, that together have all rows.

    A table that fits is not written at all. Otherwise its rows are dealt to files by a hash of the name, and a file that
    is still too large is dealt again by other bits of the hash.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
    column : str
        Holds the names.
    folder : str
        Where the files are; each is removed when it was read.
    level : int
        How often these rows were dealt.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    import pyarrow as pa

    waiting = iter(batches)
    held, size = [], 0
    for batch in waiting:
        held.append(batch)
        size += cost(batch)
        if size > PART_BYTES and level < ROUNDS:
            break
    else:
        if held:
            yield pa.Table.from_batches(held)
        return
    rows = itertools.chain(held, waiting)
    del held
    files = _deal(rows, column, folder, level)
    only_one = len(files) == 1  # as good as certainly one task
    for file in files:
        yield from parts_by_name(_read(file), column, folder, ROUNDS if only_one else level + 1)
        file.unlink(missing_ok=True)


def _deal(batches: Iterable[Any], column: str, folder: str, level: int) -> list[Path]:
    """Write rows to the files of this round, and name those that have some."""
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression="lz4")
    paths = [Path(folder, f"{level}-{number:03d}.arrow") for number in range(FILES)]
    writers: dict[int, Any] = {}
    try:
        with ExitStack() as stack:
            for table, numbers in _chunks(batches, column, level):
                dealt = table.take(pa.array(np.argsort(numbers, kind="stable")))
                edges = np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=FILES))]).tolist()
                for number in np.unique(numbers).tolist():
                    if number not in writers:
                        file = stack.enter_context(paths[number].open("wb"))
                        writers[number] = stack.enter_context(pa.ipc.new_stream(file, table.schema, options=options))
                    writers[number].write_table(dealt.slice(edges[number], edges[number + 1] - edges[number]))
    except OSError as error:
        raise StorageError(
            f"temporary files in '{os.path.dirname(folder)}' must be writable, and writing failed with '{error}'; free disk space, or "
            "give a folder with more in temporary=."
        ) from error
    return [paths[number] for number in sorted(writers)]


def _chunks(batches: Iterable[Any], column: str, level: int) -> Iterator[tuple[Any, Int[np.ndarray, " row"]]]:
    """Larger tables, each in one piece, with the file that each row goes to."""
    import pyarrow as pa

    held: list[Any] = []
    numbers: list[np.ndarray] = []
    size = 0
    for batch in itertools.chain(batches, [None]):
        if batch is not None:
            held.append(batch)
            numbers.append(_numbers(batch[column], level))
            size += cost(batch)
        if held and (batch is None or size >= CHUNK_BYTES):
            table = pa.Table.from_batches(held).combine_chunks()
            held, size, batch = [], 0, None
            yield table, np.concatenate(numbers)
            numbers = []


def _numbers(names: Any, level: int) -> Int[np.ndarray, " row"]:
    """Deal rows to files by 7 bits of a hash of the name, others at each level."""
    import narwhals as nw
    import pyarrow as pa

    coded = names.dictionary_encode()
    words = name_values(nw.from_native(pa.chunked_array([coded.dictionary]), series_only=True))
    hashes = [hashlib.blake2b(str(word).encode("utf-8", "replace"), digest_size=4).digest() for word in words]
    found: np.ndarray = np.frombuffer(b"".join(hashes), dtype="<u4").astype(np.int64) >> (7 * level)
    return (found % FILES)[coded.indices.to_numpy(zero_copy_only=False)]


def _read(file: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as reader:
        yield from reader
