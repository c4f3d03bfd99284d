"""How long a training may take and how much memory; it ends where one of them is reached."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import final

from upstairs.outer.peak import resident

__all__ = ["Limits"]


@final
@dataclass
class Limits:
    """Limits that count from when they are made.

    Parameters
    ----------
    seconds : float, optional
        Of wall time.
    gigabytes : float, optional
        That this process comes to hold beyond what it held at the start (10^9 bytes; where the system does not say how much it
        holds now, the highest so far counts).

    Examples
    --------
    >>> Limits().reached(), Limits(seconds=0.0).reached(), Limits(seconds=100.0, gigabytes=100.0).reached()
    ('', 'the time limit of 0 seconds is reached', '')
    """

    seconds: float | None = None
    gigabytes: float | None = None
    _since: float = field(init=False, default_factory=time.perf_counter)
    _held: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._held = resident() or 0

    def reached(self) -> str:
        """Say which limit is reached; empty: none."""
        if self.seconds is not None and time.perf_counter() - self._since >= self.seconds:
            return f"the time limit of {self.seconds:g} seconds is reached"
        if self.gigabytes is not None and (resident() or 0) - self._held > self.gigabytes * 1e9:
            return f"the process holds more than the memory limit of {self.gigabytes:g} GB beyond what it held before"
        return ""
