"""How much more memory a process holds at most while something runs, looked at again and again."""

from __future__ import annotations

import os
import pathlib
import sys
import threading
from types import TracebackType
from typing import final

__all__ = ["Peak", "resident"]

_STATM = pathlib.Path("/proc/self/statm")
_EVERY = 0.005
"""Seconds from one look to the next."""


@final
class Peak:
    """Watch the resident memory of this process while the body of a ``with`` statement runs.

    ``megabytes`` is then what it held at most beyond what it held at the start. What was freed before and is taken
    again does not show, and a peak shorter than five milliseconds may be missed. Where the system does not say how much
    a process holds now (it does on Linux), what counts is how far the highest mark of the process rose. NaN: unknown.

    Examples
    --------
    >>> import numpy as np
    >>> with Peak() as peak:
    ...     size = int(np.ones(4_000_000).sum() * 8 / 1e6)
    >>> size, bool(peak.megabytes < 500)
    (32, True)
    """

    def __init__(self) -> None:
        self.megabytes = float("nan")

    def __enter__(self) -> Peak:
        self._start = self._most = resident()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        if _STATM.exists():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if self._start is not None and self._most is not None:
            self.megabytes = (max(self._most, resident() or 0) - self._start) / 1e6

    def _watch(self) -> None:
        while not self._end.wait(_EVERY):
            self._most = max(self._most or 0, resident() or 0)


def resident() -> int | None:
    """Bytes that the process holds now, or where that is not said, held at most."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
