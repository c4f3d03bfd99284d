"""What commands share: reading tasks, numbers from words, and two consoles, data on one and talk on the other."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "check_out",
    "in_options",
    "line_width",
    "load_any",
    "read_columns",
    "read_tasks",
    "say",
    "show",
    "split_names",
    "whole_numbers",
    "working",
]

_PIPE_WIDTH = 10_000
"""Characters of a line that is not written to a terminal: nothing is cut or wrapped."""

_OPTIONS = (
    "task|target|group|kind|labels|categorical|drop|order|method|net|steps|checkpoint|prior_mean|shots|ways|queries|draws"
    "|baselines|metric|train"
)


def say(message: str) -> None:
    """Write a line of talk to standard error, away from the data."""
    sys.stderr.write(f"{message}\n")


def show(*renderables: Any) -> None:
    """Write tables and text to standard output: in colour and fitted to a terminal, plain and at full width elsewhere."""
    from rich.console import Console

    terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout,
        width=None if terminal else _PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        no_color=None if terminal else True,
        force_terminal=None if terminal else False,
    )
    for renderable in renderables:
        if terminal:
            console.print(renderable)
            continue
        with console.capture() as text:
            console.print(renderable)
        sys.stdout.writelines(f"{line.rstrip()}\n" for line in text.get().splitlines() or [""])


def line_width() -> int | None:
    """Characters that fit into a line of the terminal; None where there is no terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextlib.contextmanager
def working(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error, if it is a terminal, that work goes on; what is yielded takes (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        number = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(number, completed=done, total=total)


def in_options(message: str) -> str:
    """Say a message of the library in the words of the command line.

    Examples
    --------
    >>> in_options("from_frame: there is no column 'shp' (task=); say kind='regression'")
    "there is no column 'shp' (--task); say --kind regression"
    """
    message = re.sub(rf"\b({_OPTIONS})='([\w-]+)'", lambda found: f"--{found[1].replace('_', '-')} {found[2]}", message)
    message = re.sub(rf"\b({_OPTIONS})=(?=\w|\[)", lambda found: f"--{found[1].replace('_', '-')} ", message)
    message = re.sub(rf"\b({_OPTIONS})=", lambda found: f"--{found[1].replace('_', '-')}", message)
    if message.startswith("from_frame:\n"):
        return f"{message.count(chr(10) + '- ')} things to correct:{message.removeprefix('from_frame:')}"
    return message.removeprefix("from_frame: ")


def split_names(given: Sequence[str] | str | None, columns: Sequence[str] = ()) -> list[str]:
    """Column names from words with commas; a word that is itself a column stays whole.

    Examples
    --------
    >>> split_names(["a,b", "size, cm"], ["a", "b", "size, cm"])
    ['a', 'b', 'size, cm']
    """
    words = [given] if isinstance(given, str) else list(given or ())
    names: list[str] = []
    for word in words:
        names += [word] if word in columns else [part.strip() for part in word.split(",") if part.strip()]
    return names


def whole_numbers(text: str, option: str, *, least: int = 1) -> list[int]:
    """Whole numbers from words such as ``5``, ``1,5,10`` and ``0:7``, both ends included.

    Raises
    ------
    ValueError
        For anything else, or a number below ``least``.

    Examples
    --------
    >>> whole_numbers("0:3,8", "--splits", least=0)
    [0, 1, 2, 3, 8]
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            low, _, high = part.partition(":")
            found += range(int(low), int(high or low) + 1)
    except ValueError:
        found = []
    if not found or min(found) < least:
        raise ValueError(
            f"{option} takes whole numbers of at least {least} such as 5, 1,5,10 or {least}:7, but got {text!r}."
        )
    return list(dict.fromkeys(found))


def read_tasks(
    source: Path,
    *,
    task: str | None,
    target: str | None,
    group: str | None = None,
    kind: Any = None,
    labels: Any = None,
    categorical: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    order: str | None = None,
) -> Any:
    """Read a task set from one file, from a folder with one file a task, or from a store.

    Raises
    ------
    TaskError
        If ``--task`` or ``--target`` is missing, or the file breaks a rule.
    """
    from upstairs.errors import TaskError
    from upstairs.tasks.readers import from_folder, from_frame, read_table
    from upstairs.tasks.store import from_store
    from upstairs.tasks.store_write import DESCRIPTION

    if (source / DESCRIPTION).is_file():
        given = {
            "--task": task,
            "--target": target,
            "--group": group,
            "--kind": kind,
            "--labels": labels,
            "--drop": drop,
        }
        if needless := [name for name, value in given.items() if value]:
            raise TaskError(f"'{source}' is a store, which knows its tasks and their target; leave {needless[0]} out.")
        return from_store(source)
    settings: dict[str, Any] = {"kind": kind and kind.value, "labels": labels and labels.value, "group": group}
    if source.is_dir():
        if task is not None:
            raise TaskError(f"'{source}' is a folder, in which every file is a task; leave --task {task} out.")
        if target is None:
            raise TaskError(
                f"--target is missing: name the column to predict; upstairs doctor {source} lists the columns."
            )
        return from_folder(
            source, target=target, categorical=split_names(categorical), drop=split_names(drop), **settings
        )
    table = read_table(source, text=[name for name in (task, group) if name is not None])
    columns = table.schema.names
    targets = split_names(target, columns)
    absent = ["--task"] if task is None and len(targets) < 2 else []
    absent += [] if targets else ["--target"]
    if absent:
        raise TaskError(f"{' and '.join(absent)} missing: name the columns; upstairs doctor {source} lists them.")
    return from_frame(
        table,
        task=task,
        target=targets if len(targets) > 1 else targets[0],
        categorical=split_names(categorical, columns),
        drop=split_names(drop, columns),
        order=order,
        **settings,
    )


def read_columns(source: Path, found: Any, *, beside: Sequence[str] = (), text: Sequence[str] = ()) -> tuple[Any, Any]:
    """Read a file for a prior or a model: its feature columns in their order, and the whole file.

    Columns that are not known are left out, which is said on standard error.

    Parameters
    ----------
    source : path
    found : meta-learner or adapted model
        One that fixes no columns takes all but those beside.
    beside : sequence of str
        Columns that are used for something else.
    text : sequence of str
        Columns that stay text whatever their cells look like.

    Returns
    -------
    features, whole : pyarrow tables

    Raises
    ------
    TaskError
        For a column that is absent.
    """
    from upstairs.tasks.readers import read_table
    from upstairs.tasks.readers_common import check_columns, raise_together

    table = read_table(source, text=text)
    there = table.schema.names
    raise_together(source.name, check_columns(there, column=[name for name in beside]))
    encoder = _encoder_of(found)
    if not encoder.get("named"):
        names = [name for name in there if name not in beside]
        return table.select(names), table
    names = [column["name"] for column in encoder["columns"]]
    raise_together(source.name, check_columns(there, prior=names))
    extra = [name for name in there if name not in names and name not in beside]
    if extra:
        say(f"Not used, as the prior does not know them: {', '.join(extra)}.")
    return table.select(names), table


def _encoder_of(found: Any) -> Any:
    """Return the stored encoder whose columns a prior or a model goes by; empty if there is none."""
    if hasattr(found, "encoder_"):
        return found.encoder_.spec()
    prior = found.prior_ if hasattr(found, "prior_") else found.prior
    return {} if prior is None else prior.settings.get("encoder", {})


def load_any(path: Path, *, meta: bool | None = None) -> Any:
    """Load a prior or an adapted model.

    Parameters
    ----------
    path : path
    meta : bool, optional
        Whether it must be a prior (True) or an adapted model (False).

    Raises
    ------
    StorageError
        If the folder is missing, foreign, or holds the other thing.
    """
    from upstairs.errors import StorageError
    from upstairs.learners.meta import MetaLearner
    from upstairs.learners.registry import load

    found = load(path)
    if meta is True and not isinstance(found, MetaLearner):
        raise StorageError(
            f"'{path}' holds an adapted model, but a prior is needed; name the folder that upstairs fit wrote."
        )
    if meta is False and isinstance(found, MetaLearner):
        raise StorageError(f"'{path}' holds a prior, but an adapted model is needed; make one with upstairs adapt.")
    return found


def check_out(path: Path, option: str = "--out") -> None:
    """Find out before the work starts whether a folder can be written.

    Parameters
    ----------
    path : path
    option : str
        That named it.

    Raises
    ------
    StorageError
        If the path is a file, or a folder with something else in it.
    """
    from upstairs.errors import StorageError

    if path.exists() and not path.is_dir():
        raise StorageError(f"{option} '{path}' is a file; name a folder.")
    if path.is_dir() and any(path.iterdir()) and not (path / "prior.json").is_file():
        raise StorageError(f"{option} '{path}' holds something else; name a new or empty folder.")
