"""Drift detectors as an alarm: one small protocol over those of river, on the loss (upwards only) or on the inputs.

The contest of worlds needs no alarm. Where one is given all the same, the world is more likely to have changed in the rows that follow.

References
----------
.. [1] Bifet, A. and Gavalda, R. (2007). Learning from time-changing data with adaptive windowing. SDM ("adwin").
.. [2] Raab, C., Heusinger, M. and Schleif, F.-M. (2020). Reactive soft prototype computing for concept drift streams.
   Neurocomputing 416 ("kswin").
.. [3] Page, E. S. (1954). Continuous inspection schemes. Biometrika 41 ("page-hinkley").
.. [4] Gama, J., Medas, P., Castillo, G. and Rodrigues, P. (2004). Learning with drift detection. SBIA ("ddm").
.. [5] Baena-Garcia, M. et al. (2006). Early drift detection method. ECML workshop ("eddm").
.. [6] Frias-Blanco, I. et al. (2015). Online and non-parametric drift detection methods based on Hoeffding's bounds. IEEE TKDE 27
   ("hddm-a", "hddm-w").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
from jaxtyping import Float

from upstairs.errors import TaskError

__all__ = ["DriftDetector", "Watch", "Watches"]

_METHODS = {
    "adwin": ("river.drift", "ADWIN"),
    "kswin": ("river.drift", "KSWIN"),
    "page-hinkley": ("river.drift", "PageHinkley"),
    "ddm": ("river.drift.binary", "DDM"),
    "eddm": ("river.drift.binary", "EDDM"),
    "hddm-a": ("river.drift.binary", "HDDMA"),
    "hddm-w": ("river.drift.binary", "HDDMW"),
}
OF_ERRORS = ("ddm", "eddm", "hddm-a", "hddm-w")
"""Detectors that watch errors and nothing else."""
MOST = 4000
"""A detector that has seen so many values starts again from the newer half of them."""
NEWEST = 30
"""Newest values whose mean must be above that of the others for an alarm on the loss."""
MOST_COLUMNS = 20


@final
@dataclass(frozen=True)
class DriftDetector:
    """Which detector watches a stream, and what it looks at.

    Parameters
    ----------
    method : {"adwin", "kswin", "page-hinkley", "ddm", "eddm", "hddm-a", "hddm-w"}
        The last four watch errors: classes only, and the loss only.
    on : {"loss", "inputs"}
        "loss": errors of the world that holds (0 or 1), for a regression the distance to the target in its own standard deviations,
        cut at 4 and divided by it; only a loss that rises is an alarm. "inputs": each of the first 20 columns, encoded; any change is
        one.
    settings : mapping
        Of river's class, such as ``{"delta": 0.01}`` for "adwin".

    Raises
    ------
    TaskError
        For a name that there is not, a setting that river's class does not know, or errors asked of inputs.

    Examples
    --------
    >>> DriftDetector("kswin", on="inputs")
    DriftDetector(method='kswin', on='inputs', settings={})
    """

    method: str = "adwin"
    on: str = "loss"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise TaskError(f"method={self.method!r} is no detector; there are {', '.join(_METHODS)}.")
        if self.on not in ("loss", "inputs"):
            raise TaskError(f"on={self.on!r} must be 'loss' or 'inputs'.")
        if self.on == "inputs" and self.method in OF_ERRORS:
            raise TaskError(
                f"method={self.method!r} watches errors; take 'adwin', 'kswin' or 'page-hinkley' for inputs."
            )

    @property
    def name(self) -> str:
        """What alarms call it."""
        return f"{self.method} on {self.on}"

    def made(self) -> Detector:
        """Return a fresh detector."""
        module, name = _METHODS[self.method]
        seeded = {"seed": 0} if self.method == "kswin" else {}
        try:
            return getattr(importlib.import_module(module), name)(**seeded, **self.settings)
        except TypeError as error:
            raise TaskError(f"settings={dict(self.settings)!r} do not fit river's {name}: {error}.") from error


class Detector(Protocol):
    """What is asked of a detector."""

    drift_detected: bool

    def update(self, x: Any) -> Any:
        """Take one more value."""


class Watch:
    """One detector at work; it goes on by being told, and remembers what it was told since it last started.

    Parameters
    ----------
    detector : DriftDetector
    values : sequence of float
        What it was told before, as when a stream goes on that was stored.
    """

    def __init__(self, detector: DriftDetector, values: Any = ()) -> None:
        self.detector = detector
        self._start(list(values))

    def _start(self, values: list[float]) -> None:
        self.values: list[float] = values
        self._made = self.detector.made()
        for value in values:
            self._made.update(self._told(value))

    def _told(self, value: float) -> Any:
        return bool(value) if self.detector.method in OF_ERRORS else value

    def update(self, value: float) -> bool:
        """Take one more value; true for an alarm."""
        self.values.append(value)
        self._made.update(self._told(value))
        if self._made.drift_detected:
            rises = self._rises()
            self._start([])
            return rises
        if len(self.values) > MOST:
            self._start(self.values[-MOST // 2 :])
        return False

    def _rises(self) -> bool:
        """Whether the newest values are larger than the others, where that is asked."""
        newest = min(NEWEST, len(self.values) // 2)
        if self.detector.on == "inputs":
            return True
        return newest > 0 and float(np.mean(self.values[-newest:])) > float(np.mean(self.values[:-newest]))


@final
class Watches:
    """All detectors of a stream: one on the loss, or one for each column.

    Parameters
    ----------
    detectors : sequence of DriftDetector
    columns : int
        Encoded ones.
    """

    def __init__(self, detectors: tuple[DriftDetector, ...], columns: int) -> None:
        counts = [min(columns, MOST_COLUMNS) if detector.on == "inputs" else 1 for detector in detectors]
        self.watches = [[Watch(d) for _ in range(count)] for d, count in zip(detectors, counts, strict=True)]

    def update(self, x: Float[np.ndarray, "row feature"], loss: Float[np.ndarray, " row"]) -> list[str]:
        """Take rows and their losses; returns the names of detectors that gave an alarm."""
        inputs = x[:, :MOST_COLUMNS] / (1.0 + np.abs(x[:, :MOST_COLUMNS]))
        found = []
        for group in self.watches:
            detector = group[0].detector if group else None
            values = inputs if detector is not None and detector.on == "inputs" else loss[:, None]
            alarms = [watch.update(float(value)) for row in values for watch, value in zip(group, row, strict=True)]
            if detector is not None and any(alarms):
                found.append(detector.name)
        return found

    def stored(self) -> dict[str, np.ndarray]:
        """Write what every detector was told."""
        return {
            f"watch {place}/{column}": np.array(watch.values, dtype=np.float64)
            for place, group in enumerate(self.watches)
            for column, watch in enumerate(group)
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `stored`."""
        for place, group in enumerate(self.watches):
            for column, watch in enumerate(group):
                group[column] = Watch(watch.detector, arrays[f"watch {place}/{column}"].tolist())
