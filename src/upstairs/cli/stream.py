"""``upstairs stream``: follow a stream of rows, predict each before it is learned, and tell how it went."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from upstairs.cli.options import Drop, KindOption

__all__ = ["stream"]

SAVE_EVERY = 60.0
"""Seconds after which the state is saved on the way."""


def stream(
    prior: Annotated[
        str,
        typer.Argument(
            metavar="PRIOR",
            help="Folder of upstairs fit, or of --save, which then goes on; or the word none: learn from nothing.",
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="CSV, TSV or Parquet file in the order of time; - reads CSV from standard input."
        ),
    ],
    target: Annotated[
        str, typer.Option("--target", metavar="COL", help="Column to predict; empty cells are not learned.")
    ],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a page (HTML) that tells how it went.")
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Write a line a row as soon as it is predicted (CSV); - is standard output.",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FOLDER", help="Keep everything that is known; give it as PRIOR to go on."),
    ] = None,
    chunk: Annotated[int, typer.Option("--chunk", min=1, help="Rows that are predicted together, then learned.")] = 10,
    delay: Annotated[int, typer.Option("--delay", min=0, help="Chunks by which labels come late.")] = 0,
    grow: Annotated[
        bool, typer.Option("--grow", help="Let the prior learn from every world that ends (upstairs fit --resume).")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Stop after so many rows.")] = None,
    kind: KindOption = None,
    drop: Drop = None,
) -> None:
    """Predict every row of a stream, then learn it; worlds may change and come back without being announced.

    Ctrl-C stops after the rows at hand; what was predicted, learned and asked for is then complete.

    \b
    Example:
      upstairs stream prior/ events.csv --target y --report stream.html
      tail -n +1 -f events.csv | upstairs stream none - --target y --chunk 1 --predictions -
    """  # noqa: D301
    from upstairs.cli.common import check_out, say, show, split_names
    from upstairs.cli.stream_rows import opened
    from upstairs.cli.stream_run import saved
    from upstairs.errors import TaskError, UpstairsError

    if save is not None:
        check_out(save, "--save")
    for option, path in (
        ("--report", report),
        ("--predictions", None if predictions in (None, "-") else Path(predictions or "")),
    ):
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"{option} '{path}' lies in a folder that does not exist; make it first.")
    model, run = _begun(prior, grow)
    if save is not None and run is None and Path(prior).is_dir() and save.resolve() == Path(prior).resolve():
        raise ValueError(f"--save '{save}' is the folder of PRIOR, which would be lost; name another one.")
    trouble: BaseException | None = None
    with opened(source) as table:
        run = _ready(run, model, table, source, target, kind and kind.value, split_names(drop, table.columns))
        first = run.rows
        with _written(predictions, run) as write, _stops() as stop:
            stop.last = run
            try:
                _follow(table, write, stop, chunk, delay, limit, save)
            except (KeyboardInterrupt, UpstairsError, OSError) as error:
                trouble = error
            run = stop.last
    if stop.torn:
        say("Stopped in the middle of learning, so that nothing more is saved.")
        raise KeyboardInterrupt
    if run.summary is None and trouble is None and not stop.asked:
        raise TaskError(f"{table.name} has a header and no rows; there is nothing to follow.")
    talk = say if predictions == "-" else show
    if run.summary is not None:
        from upstairs.report.stream_page import verdict

        talk("\n".join(verdict(run.summary, run.changes)))
        waiting = sum(len(cells[target]) for _, cells in run.late)
        if waiting:
            talk(f"Labels of the last {waiting} rows have not come (--delay).")
    if save is not None:
        talk(
            f"The state after {run.rows:,} rows is in {save}"
            if saved(run, save)
            else f"Nothing was learned, so {save} was not written."
        )
    if report is not None and run.summary is not None:
        settings = {
            "chunk": chunk,
            "delay": delay,
            "grow": grow,
            "limit": limit,
            "kind": kind,
            "drop": drop,
            "save": save,
        }
        ended = trouble is not None or stop.asked
        _write_report(report, run, prior, source, target, settings, first, ended)
        talk(f"The page is in {report}")
    if trouble is not None:
        raise trouble
    if stop.asked:
        raise KeyboardInterrupt


@dataclass(slots=True)
class _Stop:
    """Whether a user has asked to stop, whether rows are being waited for, whether learning was cut; the last complete state."""

    asked: bool = False
    waiting: bool = False
    torn: bool = False
    last: Any = None


@contextlib.contextmanager
def _stops() -> Iterator[_Stop]:
    """Let Ctrl-C end the waiting for rows at once, but not what is done with them; a second one ends all."""
    stop = _Stop()

    def asked(*_: Any) -> None:
        again, stop.asked = stop.asked, True
        stop.torn = again and not stop.waiting
        if stop.waiting or again:
            raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGINT, asked)
    except ValueError:  # not the main thread: nobody can press Ctrl-C
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _begun(prior: str, grow: bool) -> tuple[Any, Any]:
    """Load a learner, and the stream that it was on (None: a new one); no learner for ``none``."""
    from upstairs.cli.stream_run import restored
    from upstairs.errors import StorageError
    from upstairs.learners.meta import MetaLearner
    from upstairs.learners.registry import load
    from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
    from upstairs.online.learner import OnlineMetaLearner

    if prior == "none":
        if grow:
            raise ValueError(
                "--grow needs a prior that can grow, but PRIOR is none; make one with upstairs fit --resume."
            )
        return None, None
    found = load(prior)
    if isinstance(found, MetaLearner):
        if grow and found._needs_rows and getattr(found, "seen_", None) is None:
            raise StorageError(
                f"--grow needs the rows that '{prior}' was learned on; learn it with upstairs fit --resume, or leave --grow out."
            )
        return OnlineMetaLearner(found if grow else found.learner()), None
    if not isinstance(found, OnlineMetaLearner | ForgetfulClassifier | ForgetfulRegressor):
        raise StorageError(
            f"'{prior}' holds an adapted model ({type(found).__name__}), but a stream needs a prior; name the folder that upstairs "
            "fit wrote, or that of --save."
        )
    if grow and not isinstance(getattr(found, "learner", None), MetaLearner):
        raise StorageError(
            f"--grow: '{prior}' is in the middle of a stream whose prior stays; begin with the prior itself."
        )
    return found, restored(Path(prior), found)


def _ready(run: Any, model: Any, table: Any, source: str, target: str, kind: str | None, drop: Sequence[str]) -> Any:
    """Know columns and target, and go on after the rows that were read already."""
    from upstairs.cli.common import say
    from upstairs.cli.stream_cells import Features
    from upstairs.cli.stream_run import Run
    from upstairs.errors import TaskError
    from upstairs.tasks.readers_common import check_columns, raise_together

    raise_together(table.name, check_columns(table.columns, target=target, drop=drop))
    where = "-" if source == "-" else str(Path(source).resolve())
    if run is not None:
        if run.labels.target != target:
            raise TaskError(
                f"--target is {target!r}, but this stream predicts {run.labels.target!r}; name the same column."
            )
        raise_together(table.name, check_columns(table.columns, prior=run.features.names))
        if where == "-" or where != run.source:
            return replace(run, source=where, read=0)
        there = table.pass_over(run.read)
        if there < run.read:
            raise TaskError(
                f"{table.name} has {there} rows, but {run.read} of it were followed before; name the file with new rows."
            )
        say(f"Going on after row {run.read:,} of {table.name}.")
        return run
    prior = getattr(model, "prior_", None)
    encoder = None if prior is None else prior.settings.get("encoder")
    if encoder is not None:
        features = Features.of_encoder(encoder, table.columns, target, drop)
    else:
        features = Features.of_model(model, table.columns, target, drop)
    extra = [name for name in table.columns if name not in (*features.names, target, *drop)]
    if extra:
        say(f"Not used, as the prior does not know them: {', '.join(extra)}.")
    return Run(model, features, _labels(model, prior, target, kind), source=where)


def _labels(model: Any, prior: Any, target: str, kind: str | None) -> Any:
    """What a target must be for a model."""
    from upstairs.cli.stream_cells import Labels

    if model is None:
        return Labels(target, kind)
    its = "classification" if hasattr(model, "predict_proba") else "regression"
    if kind not in (None, its):
        raise ValueError(f"--kind {kind} does not fit: the prior is for {its}; leave --kind out.")
    if its == "regression":
        return Labels(target, its)
    if prior is not None and "experience" not in prior.settings:
        return Labels(target, its, known=tuple(prior.settings["classes"]))
    numbers = model.classes_.dtype.kind in "iuf" if hasattr(model, "classes_") else None
    return Labels(target, its, numbers)


def _follow(table: Any, write: Any, stop: _Stop, chunk: int, delay: int, limit: int | None, save: Path | None) -> None:
    """Follow the stream; every complete state is kept in ``stop.last``."""
    import time

    from upstairs.cli.common import working
    from upstairs.cli.stream_run import follow, saved
    from upstairs.outer.threads import threads_for

    last, first = time.monotonic(), stop.last.rows
    with threads_for(chunk), working(f"Following {table.name}") as progress, _said_once():
        while not stop.asked:
            left = chunk if limit is None else min(chunk, limit - stop.last.rows + first)
            stop.waiting = True
            cells = table.piece(left)
            stop.waiting = False
            if not cells:
                return
            run, lines = follow(stop.last, cells, delay)
            write(run, lines)
            stop.last = run
            done, whole = table.position()
            if whole:
                progress(done, whole)
            if save is not None and time.monotonic() - last > SAVE_EVERY:
                saved(run, save)
                last = time.monotonic()


@contextlib.contextmanager
def _said_once() -> Iterator[None]:
    """Let a note of the library be said once, and not with every piece."""
    import warnings

    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def first(message: Any, *given: Any, **named: Any) -> None:
            if str(message) not in said:
                said.add(str(message))
                show(message, *given, **named)

        warnings.showwarning = first
        yield


@contextlib.contextmanager
def _written(predictions: str | None, run: Any) -> Iterator[Any]:
    """Write lines of predictions as they come; a stream that goes on continues its file."""
    import csv
    import sys

    if predictions is None:
        yield lambda run, lines: None
        return
    path = None if predictions == "-" else Path(predictions)
    headed = bool(path is not None and run.rows and path.is_file() and _cut(path, run))
    with (
        contextlib.nullcontext(sys.stdout)
        if path is None
        else path.open("a" if headed else "w", newline="", encoding="utf-8") as file
    ):
        writer = csv.writer(file, lineterminator="\n")
        begun = [headed]

        def write(run: Any, lines: list[list[Any]]) -> None:
            if not begun[0]:
                writer.writerow(run.columns)
                begun[0] = True
            writer.writerows(lines)
            file.flush()

        yield write


def _cut(path: Path, run: Any) -> bool:
    """Keep the lines of rows before the one that comes next; False for an empty file.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    with path.open("r+b") as file:
        header = file.readline().decode("utf-8", "replace").strip()
        if not header:
            return False
        if header != ",".join(run.columns):
            raise ValueError(
                f"--predictions '{path}' holds something else than predictions of this stream; name a new file."
            )
        end = file.tell()
        while line := file.readline():
            number = line.split(b",", 1)[0]
            if not line.endswith(b"\n") or not number.isdigit() or int(number) >= run.rows:
                break
            end = file.tell()
        file.truncate(end)
    return True


def _write_report(
    path: Path, run: Any, prior: str, source: str, target: str, settings: dict[str, Any], first: int, ended: bool
) -> None:
    import shlex
    from importlib.metadata import version

    from upstairs.report.page import write_page
    from upstairs.report.stream_page import stream_report

    words = ["upstairs", "stream", prior, source, "--target", target]
    for name, value in settings.items():
        if name in ("chunk", "delay") or value:
            given = value if isinstance(value, list) else [value]
            words += [f"--{name}"] if value is True else [word for entry in given for word in (f"--{name}", str(entry))]
    remarks = ["Each row was predicted before it was learned."]
    if first:
        remarks.append(
            f"The stream went on after row {first:,}, from a saved state; the figures are of the whole stream."
        )
    if ended:
        remarks.append(f"It was stopped after {run.rows:,} rows.")
    about = [
        ("learner", type(run.model).__name__),
        ("columns", f"{len(run.features.names)}"),
        ("rows a chunk", settings["chunk"]),
    ]
    if settings["delay"]:
        about.append(("chunks until labels come", settings["delay"]))
    known = getattr(run.model, "prior_", None)
    about += [] if known is None else [("prior", known.hash[:8])]
    name = "standard input" if source == "-" else Path(source).name
    text = stream_report(
        run.summary,
        title=f"{target} in {name}",
        changes=run.changes,
        seconds=run.seconds,
        about=about,
        reproduce=shlex.join([*words, "--report", str(path)]),
        remarks=[" ".join(remarks)],
        made=f"upstairs {version('upstairs')}",
    )
    write_page(path, text)
