"""The table of commands; nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from upstairs.cli.adapt import adapt
from upstairs.cli.demo import demo
from upstairs.cli.doctor import doctor
from upstairs.cli.evaluate import evaluate
from upstairs.cli.fit import fit
from upstairs.cli.inspect import inspect
from upstairs.cli.predict import predict
from upstairs.cli.recommend import recommend
from upstairs.cli.report import report
from upstairs.cli.store import store
from upstairs.cli.stream import stream

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> bool:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"upstairs {version('upstairs')}")
        except PackageNotFoundError:
            typer.echo("upstairs (not installed)")
        raise typer.Exit
    return wanted


@app.callback()
def top(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Learn from many related tables what they have in common; a new one then needs a handful of rows.

    A task is one of these tables: a patient, a shop, a machine. A prior is what many tasks taught.
    Start with: upstairs demo, then with your own file: upstairs doctor FILE

    \b
    Example:
      upstairs fit sales.csv --task shop --target revenue --out prior/
      upstairs adapt prior/ new_shop.csv --target revenue --out model/
      upstairs predict model/ tomorrow.csv
    """  # noqa: D301


for command in (demo, doctor, fit, adapt, predict, evaluate, inspect, recommend, report, store, stream):
    app.command()(command)
