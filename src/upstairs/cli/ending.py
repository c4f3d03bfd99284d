"""A long training on the command line: what it will take, what it took, and an end before its end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from upstairs.cli.common import say

if TYPE_CHECKING:
    from upstairs.outer.loop import Event

__all__ = ["Watch", "joined"]


class Watch:
    """Told how a training goes (it is its callback): says once what it will take, and ends it after a SIGTERM.

    Parameters
    ----------
    talks : bool
        Whether to say anything; of several processes one does.
    """

    def __init__(self, talks: bool = True) -> None:
        self._talks, self._asked, self._estimated, self._ended = talks, False, False, ""
        self._begun = time.perf_counter()

    def __call__(self, event: Event) -> bool:
        """Take an event of the training; True ends it."""
        from upstairs.outer.memory import said

        if event.seconds_left is not None and not self._estimated:
            memory = "" if event.memory is None else f", {said(event.memory)} of memory for the steps"
            self._say(f"{event.steps} steps at most: about {lasting(event.seconds_left)} from here{memory}.")
            self._estimated = True
        if event.kind == "end":
            self._ended = event.reason
        return self._asked

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Take SIGTERM as the wish to end with what has been learned so far; a second one ends at once."""
        from upstairs.outer.peak import Peak

        def asked(number: int, frame: Any) -> None:
            self._asked = True
            signal.signal(signal.SIGTERM, before)

        alone = threading.current_thread() is threading.main_thread()
        before: Any = signal.signal(signal.SIGTERM, asked) if alone else None
        try:
            with Peak() as peak:
                yield
        finally:
            if alone:
                signal.signal(signal.SIGTERM, before)
        memory = "" if peak.megabytes != peak.megabytes else f", at most {peak.megabytes:.0f} MB more memory"
        why = f"Training {self._ended}. " if self._ended.startswith("stopped") else ""
        self._say(f"{why}It took {lasting(time.perf_counter() - self._begun)}{memory}.")

    def _say(self, message: str) -> None:
        if self._talks:
            say(message)


def lasting(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> lasting(0.42), lasting(75), lasting(7500)
    ('0.4 s', '75 s', '2 h 5 min')
    """
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def joined(coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Join other processes before anything is computed; whether this one talks and writes.

    Parameters
    ----------
    coordinator : str or None
        ``host:port`` of the first process, "auto" where a cluster's own environment says everything, or None: alone.
    processes, process : int or None
        How many there are, and which this is, from 0.

    Raises
    ------
    ValueError
        If one of the three is missing or cannot be.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise ValueError("--processes and --process need --coordinator HOST:PORT, the address of process 0.")
        return True
    import jax

    if coordinator == "auto":
        jax.distributed.initialize()
    else:
        if processes is None or process is None or not 0 <= process < processes:
            raise ValueError(
                "--coordinator needs --processes (how many there are) and --process (which one this is, from 0), but "
                f"they are {processes} and {process}."
            )
        jax.distributed.initialize(coordinator, processes, process)
    from upstairs.outer.processes import is_first

    return is_first()
