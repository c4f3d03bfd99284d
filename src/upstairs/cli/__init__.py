"""The command line: ``upstairs demo``, ``doctor``, ``fit``, ``adapt``, ``predict``, ``evaluate``, ``recommend``, ``report``, ``stream``."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]

WRONG_INPUT, OWN_FAULT, STOPPED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a mistake in its input becomes one sentence on standard error.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name. None: those that the program was started with.

    Returns
    -------
    int
        0 for success, 2 for a mistake in arguments or files, 130 if stopped by Ctrl-C, 1 for a fault of the program.

    Examples
    --------
    >>> main(["--version"])
    upstairs ...
    0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    from upstairs.cli.app import app

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line
            code = app(
                [word for word in given if word != "--debug"] or ["--help"], standalone_mode=False, prog_name="upstairs"
            )
            sys.stdout.flush()
        if code == STOPPED:  # newer versions of typer
            return _said("stopped.", STOPPED)
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return _said("stopped.", STOPPED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # whoever read our output has gone; nothing is left to say
        return OWN_FAULT
    except Exception as error:
        if type(error).__name__ == "Abort":  # older ones
            return _said("stopped.", STOPPED)
        if debug:
            raise
        return _said(*_sentence(error))


def _sentence(error: Exception) -> tuple[str, int]:
    if hasattr(error, "format_message"):  # wrong arguments, found by typer
        said = error.format_message().strip().replace("Value error, ", "").rstrip(".")
        return f"{said}. See upstairs --help, or --help after a command.", WRONG_INPUT
    from upstairs.cli.common import in_options
    from upstairs.errors import UpstairsError

    if isinstance(error, UpstairsError):
        return in_options(str(error)), WRONG_INPUT
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.", WRONG_INPUT
    if isinstance(error, OSError | ValueError):
        return in_options(str(error)), WRONG_INPUT
    return (
        f"a fault of the program ({type(error).__name__}: {error}); run the command with --debug to see where.",
        OWN_FAULT,
    )


def _said(message: str, code: int) -> int:
    sys.stderr.write(f"upstairs: {message}\n")
    return code


def _one_line(message: Any, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"upstairs: note: {message}\n")
