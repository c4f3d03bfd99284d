"""Small frozen settings (an optimiser, an update rule, a network's description) as JSON values and back."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.errors import StorageError

__all__ = ["restored", "stored"]

_PLACES = {
    "Adam": "upstairs.inner.descent",
    "DriftDetector": "upstairs.online.detectors",
    "Kronecker": "upstairs.inner.preconditioner",
    "LearnedAdam": "upstairs.inner.learned_rates",
    "LearnedSGD": "upstairs.inner.learned_rates",
    "NetSpec": "upstairs.nets.build",
    "Objective": "upstairs.inner.trajectory",
    "Optimiser": "upstairs.outer.optimiser",
    "PerParameterSGD": "upstairs.inner.descent",
    "PerStepSGD": "upstairs.inner.descent",
    "SGD": "upstairs.inner.descent",
    "Training": "upstairs.outer.training",
    "UpdateLSTM": "upstairs.inner.update_lstm",
    "UpdateNetwork": "upstairs.inner.update_network",
}
"""The allow-list of what `restored` makes."""
_NOT_STORED = frozenset({"callback", "checkpoint", "progress"})


def stored(value: Any) -> Any:
    """Turn a value into JSON; what is code (a callback, a network or optimiser of the user's own) becomes None.

    Examples
    --------
    >>> from upstairs.inner.descent import SGD
    >>> stored(SGD(0.5))
    {'is': 'SGD', 'rate': 0.5, 'learned': False, 'clip': None}
    >>> restored(stored(SGD(0.5))) == SGD(0.5)
    True
    """
    name = type(value).__name__
    if name in _PLACES and type(value).__module__ == _PLACES[name]:
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        held = {field: stored(getattr(value, field)) for field in fields if field not in _NOT_STORED}
        return {"is": name} | held
    if isinstance(value, Mapping):
        return {str(key): stored(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [stored(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else None


def restored(value: Any) -> Any:
    """Undo `stored`; lists become tuples.

    Raises
    ------
    StorageError
        For a value that this version does not know.
    """
    if isinstance(value, list | tuple):
        return tuple(restored(entry) for entry in value)
    if not isinstance(value, Mapping):
        return value
    held = {key: restored(entry) for key, entry in value.items() if key != "is"}
    if "is" not in value:
        return held
    if value["is"] not in _PLACES:
        raise StorageError(f"This version knows no {value['is']!r}; it knows {', '.join(sorted(_PLACES))}.")
    return getattr(importlib.import_module(_PLACES[value["is"]]), value["is"])(**held)
