"""A folder of files on this machine, or at any address that fsspec knows, in which a file appears whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from upstairs.errors import MissingExtraError

__all__ = ["StoreFolder"]

_TEMPORARY = ".writing-"


@final
class StoreFolder:
    """Where the files of a store lie.

    Parameters
    ----------
    address : path-like
        A path, or an address such as ``s3://bucket/tasks`` or ``memory://tasks``.

    Raises
    ------
    MissingExtraError
        For an address without fsspec.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder = StoreFolder(path)
    ...     with folder.writing("a.txt") as file:
    ...         _ = file.write(b"whole")
    ...     folder.names(), folder.read("a.txt")
    (['a.txt'], b'whole')
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        self.address = os.fspath(address)
        self._remote: Any = None
        if "://" in self.address:
            try:
                from fsspec.core import url_to_fs
            except ImportError as error:
                raise MissingExtraError(
                    f"path {self.address!r} is an address, which needs fsspec; install it: pip install fsspec."
                ) from error
            self._remote, self.root = url_to_fs(self.address)
        else:
            self.root = self.address.rstrip("/") or "/"

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreFolder, (self.address,)

    def path(self, name: str) -> str:
        """Full path of a file."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """Names of the files that are whole, sorted; none where there is no folder."""
        if self._remote is None:
            found = os.listdir(self.root) if Path(self.root).is_dir() else []
        else:
            found = []
            with suppress(FileNotFoundError):
                found = [entry.rstrip("/").rsplit("/", 1)[-1] for entry in self._remote.ls(self.root, detail=False)]
        return sorted(name for name in found if not name.startswith(_TEMPORARY))

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return int(self._remote.size(self.path(name)) if self._remote else os.path.getsize(self.path(name)))

    def open(self, name: str) -> Any:
        """Open a file to read; on this machine what Arrow takes is its path."""
        return self._remote.open(self.path(name), "rb") if self._remote else self.path(name)

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        return bytes(self._remote.cat_file(self.path(name))) if self._remote else Path(self.path(name)).read_bytes()

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Open a file to write, which takes its name when it is whole and on the disk; after an error there is none."""
        temporary = self.path(f"{_TEMPORARY}{uuid.uuid4().hex}")
        if self._remote is None:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        else:
            self._remote.makedirs(self.root, exist_ok=True)
        try:
            with self._remote.open(temporary, "wb") if self._remote else open(temporary, "wb") as file:
                yield file
                file.flush()
                if self._remote is None:
                    os.fsync(file.fileno())
            if self._remote is None:
                os.replace(temporary, self.path(name))
            else:
                self._remote.mv(temporary, self.path(name))
        except BaseException:
            with suppress(OSError):
                self._unlink(temporary)
            raise

    def remove(self, name: str) -> None:
        """Remove a file, if that can be done."""
        with suppress(OSError):
            self._unlink(self.path(name))

    def sweep(self) -> None:
        """Remove what killed writers left."""
        if self._remote is None and Path(self.root).is_dir():
            for name in os.listdir(self.root):
                if name.startswith(_TEMPORARY):
                    self.remove(name)

    def _unlink(self, path: str) -> None:
        if self._remote is None:
            os.unlink(path)
        else:
            self._remote.rm(path)
