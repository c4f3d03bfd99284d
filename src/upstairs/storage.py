"""A folder on disk from a JSON document and named arrays, and back, without code and without half-written states.

A stored folder holds ``prior.json`` (what the caller wrote, the schema number, versions, and the name and hash of
the arrays file), ``arrays-<hash>.safetensors``, and ``README.md``. The arrays file carries its own hash in its name,
so a new one never lies over an old one; the single step that turns the old content into the new is the replacement
of ``prior.json``. A process killed at any moment leaves a folder that reads as the old or as the new.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from upstairs.errors import StorageError

SCHEMA = 1
RESERVED = frozenset({"schema", "arrays", "versions"})
DTYPES = frozenset(["bool", "float32", "float64", *(f"{kind}{n}" for kind in ("int", "uint") for n in (8, 16, 32, 64))])

_PRIOR = "prior.json"
_README = "README.md"
_OWN_NAME = re.compile(r"arrays-[0-9a-f]{16}\.safetensors|\.upstairs-[0-9a-f]{16}\.tmp")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_READ_ATTEMPTS = 20


def write_folder(
    path: str | os.PathLike[str], document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], readme: str
) -> None:
    """Write a document and arrays into a folder, so that a kill at any moment leaves the old content or the new.

    Equal content gives equal files. Every file is first written in full under a temporary name; then the arrays
    file, ``prior.json`` and ``README.md`` are renamed into place, in this order, and files that an earlier write
    left behind are removed. Files that this module did not name stay. Writers in several processes wait for each
    other (not on Windows).

    Parameters
    ----------
    path : str or os.PathLike
        The folder; made, with its parents, if it is missing.
    document : mapping
        What goes into ``prior.json``: dicts with text keys, lists, text, numbers, booleans and None. Tuples come
        back as lists. The keys ``schema``, ``arrays`` and ``versions`` are set here, whatever the caller put there.
    arrays : mapping of str to numpy.ndarray
        Arrays of any shape, boolean, integer (8 to 64 bits) or floating (32 or 64 bits).
    readme : str
        The text of ``README.md``.

    Raises
    ------
    StorageError
        The folder belongs to something else, the content cannot be stored, or the disk refuses. In the last case
        the folder holds what it held before, unless the message says otherwise.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_folder(root + "/prior", {"type": "ridge"}, {"mean": np.zeros(3)}, "A prior.")
    ...     document, arrays = read_folder(root + "/prior")
    >>> document["type"], arrays["mean"]
    ('ridge', array([0., 0., 0.]))
    """
    from safetensors.numpy import save

    folder = Path(path)
    packed = save(_checked_arrays(arrays))
    digest = hashlib.sha256(packed).hexdigest()
    arrays_name = f"arrays-{digest[:16]}.safetensors"
    full = {
        **_own_keys(document),
        "schema": SCHEMA,
        "arrays": {"file": arrays_name, "sha256": digest},
        "versions": {"upstairs": _own_version(), "numpy": np.__version__},
    }
    contents = {
        arrays_name: packed,
        _PRIOR: (_dump(full, indent=1) + "\n").encode("ascii"),
        _README: readme.encode("utf-8", "backslashreplace"),
    }
    made = False
    try:
        if folder.exists() and not folder.is_dir():
            raise StorageError(f"path must be a folder, and '{folder}' is a file; give another path.")
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _refuse_foreign(folder)
            _put(folder, contents)
            _remove_leftovers(folder, keep=arrays_name)
    except OSError as error:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        state = "new, but may be lost in a power cut" if _is_new(folder, contents) else "unchanged"
        raise StorageError(
            f"path '{folder}' must be writable, and writing failed with '{error}' (the content there is {state}); "
            "free disk space, correct the permissions or give another path, then save again."
        ) from error


def read_folder(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_folder` wrote; nothing in the folder is executed.

    Parameters
    ----------
    path : str or os.PathLike
        The folder.

    Returns
    -------
    document : dict
        The content of ``prior.json``, with the keys ``schema``, ``arrays`` and ``versions``.
    arrays : dict of str to numpy.ndarray
        The arrays, read-only, as they were written.

    Raises
    ------
    StorageError
        The folder is missing, foreign, damaged, or of another schema; the message says which and what to do.
    """
    folder = Path(path)
    try:
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "does not exist"
            raise StorageError(f"path must be a stored folder, and '{folder}' {found}; give the folder that was saved.")
        for _ in range(_READ_ATTEMPTS):
            document = _read_prior(folder)
            file = folder / document["arrays"]["file"]
            # Between the two reads a writer may have put newer content in place and removed these arrays.
            if file.is_file():
                with contextlib.suppress(FileNotFoundError):
                    return document, _unpack(file, file.read_bytes(), document["arrays"]["sha256"])
            time.sleep(0.001)
    except OSError as error:
        raise StorageError(f"path '{folder}' must be readable, and fails with '{error}'; check permissions.") from error
    raise StorageError(f"'{folder}' must hold '{file.name}', and that arrays file is missing; copy the folder again.")


def content_hash(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Give a name to content: SHA-256 over the document and the arrays' names, dtypes, shapes and bytes.

    The order of keys does not matter, and the keys that :func:`write_folder` sets (``schema``, ``arrays``,
    ``versions``) do not count, so that the hash is the same before writing and after reading.

    Parameters
    ----------
    document, arrays : mapping
        As in :func:`write_folder`.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    StorageError
        The content could not be stored.

    Examples
    --------
    >>> one = content_hash({"a": 1, "b": 2}, {"mean": np.zeros(3)})
    >>> one == content_hash({"b": 2, "a": 1}, {"mean": np.zeros(3)})
    True
    >>> one == content_hash({"a": 1, "b": 2}, {"mean": np.zeros((3, 1))})
    False
    """
    checked = _checked_arrays(arrays)
    table = [[name, array.dtype.name, list(array.shape)] for name, array in checked.items()]
    digest = hashlib.sha256(_dump([_own_keys(document), table]).encode("ascii"))
    for array in checked.values():  # the table says where one ends and the next begins
        digest.update(array.tobytes())
    return digest.hexdigest()


def _own_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give the caller's part of a document as plain JSON."""
    if not isinstance(document, Mapping):
        raise StorageError(f"document must be a mapping, and it is a {type(document).__name__}; pass a dict.")
    try:
        return {key: value for key, value in _plain(document, "document").items() if key not in RESERVED}
    except RecursionError:
        raise StorageError("document must be a finite tree, and it nests too deep or holds itself.") from None


def _plain(value: Any, where: str) -> Any:
    """Turn a value into what JSON can hold, or say where it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StorageError(f"{where} must be finite, and it is {value}; use None, or store it among the arrays.")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StorageError(f"{where} must have text keys, and one key is {key!r}; use a str.")
        return {str.__str__(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    kind = type(value).__name__
    raise StorageError(f"{where} must be JSON, and it is a {kind}; convert it, or pass an array through arrays.")


def _dump(value: Any, indent: int | None = None) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, indent=indent)
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; a very deep tree
        raise StorageError(f"document must be JSON, and encoding failed with '{error}'; simplify it.") from error


def _read_prior(folder: Path) -> dict[str, Any]:
    """Read ``prior.json`` and check everything that this module relies on."""
    file = folder / _PRIOR
    if not file.is_file():
        raise StorageError(f"path must be a stored folder, and '{folder}' holds no {_PRIOR}; give the saved folder.")
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StorageError(f"'{file}' must be JSON, and is cut short or damaged ({error}); copy it again.") from error
    if not isinstance(document, dict) or "schema" not in document:
        raise StorageError(f"'{file}' must hold the key 'schema', and does not: upstairs did not write it.")
    schema, versions = document["schema"], document.get("versions")
    if type(schema) is not int or schema != SCHEMA:
        writer = versions.get("upstairs", "(unknown)") if isinstance(versions, dict) else "(unknown)"
        raise StorageError(
            f"'{file}' has schema {schema!r}, written by upstairs {writer}, and upstairs {_own_version()} reads "
            f"schema {SCHEMA}; upgrade upstairs, or save it again with a version that writes schema {SCHEMA}."
        )
    for key in sorted(RESERVED - document.keys()):
        raise StorageError(f"'{file}' must hold the key '{key}', and does not; copy the folder again.")
    named = document["arrays"]
    name, digest = (named.get("file"), named.get("sha256")) if isinstance(named, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise StorageError(f"'{file}': the key 'arrays' must hold 'file' and 'sha256'; copy the folder again.")
    if name != f"arrays-{digest[:16]}.safetensors":  # also keeps the reader inside the folder
        raise StorageError(f"'{file}' must name the arrays by their hash, and names {name!r}; copy the folder again.")
    return document


def _checked_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays in the order of their names, each contiguous and little-endian."""
    for name in arrays:
        if not isinstance(name, str) or name == "__metadata__" or _SURROGATE.search(name):
            raise StorageError(f"arrays must have text names, not '__metadata__', and one is {name!r}; rename it.")
    checked = {}
    for name in sorted(arrays):
        array = arrays[name]
        if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
            raise StorageError(f"arrays[{name!r}] must be a NumPy array, and is a {type(array).__name__}; convert it.")
        if array.dtype.name not in DTYPES:
            raise StorageError(
                f"arrays[{name!r}] must be boolean, integer (8 to 64 bits), float32 or float64, and its dtype is "
                f"{array.dtype}; convert it, or put text into the document."
            )
        checked[name] = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return checked


def _unpack(file: Path, content: bytes, digest: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    if hashlib.sha256(content).hexdigest() != digest:
        found = f"it has {len(content)} bytes and is cut short or damaged"
        raise StorageError(f"'{file}' must have the hash in {_PRIOR}, and {found}; copy the folder again.")
    try:
        arrays = load(content)
    except Exception as error:  # the reader's own error, or a dtype that it does not know
        raise StorageError(f"'{file}' must be a safetensors file, and reading failed with '{error}'.") from error
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise StorageError(f"'{file}' must hold no {array.dtype} array, and arrays[{name!r}] is one.")
        array.flags.writeable = False
    return {name: arrays[name] for name in sorted(arrays)}


def _refuse_foreign(folder: Path) -> None:
    """Let pass what is empty, ours, or holds only what a killed first write left."""
    names = os.listdir(folder)
    if _PRIOR in names:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads((folder / _PRIOR).read_bytes())
            if isinstance(found, dict) and found.keys() >= RESERVED:
                return
    elif all(_OWN_NAME.fullmatch(name) for name in names):
        return
    rule = "path must be new, empty, or a folder saved by upstairs"
    raise StorageError(f"{rule}, and '{folder}' holds something else; give another path or empty the folder.")


def _put(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write every file under a temporary name, then rename all in order; a failure before ``prior.json`` undoes it."""
    temporary = {name: folder / f".upstairs-{secrets.token_hex(8)}.tmp" for name in contents}
    added = [folder / name for name in contents if _OWN_NAME.fullmatch(name) and not (folder / name).exists()]
    try:
        for name, content in contents.items():
            _write(temporary[name], content)
        for name in contents:
            if name == _PRIOR:
                _sync(folder)  # the arrays must be on the disk under their name before prior.json names them
            os.replace(temporary[name], folder / name)
        _sync(folder)
    except BaseException:
        for file in [*temporary.values(), *([] if _is_new(folder, contents) else added)]:
            with contextlib.suppress(OSError):
                file.unlink()
        raise


def write_file(path: Path, content: bytes) -> None:
    """Write one file of a folder that there is, so that a kill leaves the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        _write(temporary, content)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _is_new(folder: Path, contents: Mapping[str, bytes]) -> bool:
    """Whether ``prior.json`` on the disk is the one to be written, after a failure."""
    try:
        return (folder / _PRIOR).read_bytes() == contents[_PRIOR]
    except OSError:
        return False


def _write(file: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with _opened(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)) as descriptor:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows and some network disks have no such call."""
    if os.name != "nt":
        with _opened(folder, os.O_RDONLY) as descriptor:
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time into a folder; the lock ends with the process, so a kill leaves none behind."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with _opened(folder, os.O_RDONLY) as descriptor:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path, keep: str) -> None:
    """Remove arrays and temporary files of earlier writes; one that cannot be removed does no harm."""
    for name in os.listdir(folder):
        if name != keep and _OWN_NAME.fullmatch(name):
            with contextlib.suppress(OSError):
                os.unlink(folder / name)


def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("upstairs")
    except PackageNotFoundError:
        return "0+unknown"
