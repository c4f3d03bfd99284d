"""``upstairs store``: tasks of a file that may be larger than memory, as a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from upstairs.cli.options import Categorical, Drop, Group, KindOption, LabelsOption, Target, TaskColumn

__all__ = ["store"]


def store(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="CSV, TSV or Parquet file, or a folder of Parquet files, of any size."),
    ],
    out: Annotated[
        str,
        typer.Option("--out", metavar="FOLDER", help="Where the store goes: a new folder, or an address (s3://...)."),
    ],
    task: TaskColumn = None,
    target: Target = None,
    group: Group = None,
    kind: KindOption = None,
    labels: LabelsOption = None,
    categorical: Categorical = None,
    drop: Drop = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the tasks of a store that is there.")] = False,
    single: Annotated[
        bool, typer.Option("--single", help="Numbers in single precision: half the space, rounded.")
    ] = False,
) -> None:
    """Write the tasks of a file that may be larger than memory into a store, which fit reads as it learns.

    \b
    Example:
      upstairs store events.parquet --task shop --target revenue --out tasks/
      upstairs fit tasks/ --method maml --out prior/
    """  # noqa: D301
    from upstairs.cli.common import say, show, split_names, working
    from upstairs.errors import TaskError
    from upstairs.tasks.scan import scan_tasks
    from upstairs.tasks.store import from_store
    from upstairs.tasks.store_write import write_store

    targets = split_names(target)
    absent = [name for name, value in (("--task", task), ("--target", targets)) if not value]
    if absent or task is None:
        raise TaskError(f"{' and '.join(absent)} missing: name the columns; upstairs doctor {source} lists them.")
    scan = scan_tasks(
        source,
        task=task,
        target=targets if len(targets) > 1 else targets[0],
        group=group,
        kind=kind and kind.value,  # type: ignore[arg-type]
        labels=labels and labels.value,  # type: ignore[arg-type]
        categorical=split_names(categorical),
        drop=split_names(drop),
    )
    try:
        with working("Reading and writing"):
            write_store(out, scan, append=append, precision="float32" if single else "float64")
    finally:
        scan.close()
    show(f"{from_store(out)} in {out}")
    say(f"Next: upstairs fit {out} --out prior/")
