"""What was learned over tasks: read-only arrays and plain settings, named by their content."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

import numpy as np

from upstairs.plain import json_value
from upstairs.storage import content_hash

__all__ = ["Prior"]


@final
class Prior:
    """The result of ``meta_fit``: read-only arrays and plain settings, no code.

    A prior is never changed and never copied: ``clone``, ``deepcopy`` and therefore ``Pipeline`` and
    ``GridSearchCV`` hand on the same object. Two priors with the same content are equal.

    Parameters
    ----------
    family : str
        The learner family that made it, such as ``"neural-network"``.
    settings : mapping
        JSON values: what kind of tasks it serves and how its arrays are to be read.
    arrays : mapping of str to array
        Copied and made read-only.
    provenance : mapping, optional
        Where it comes from (number of tasks and rows, versions, scores); not part of the content hash.

    Examples
    --------
    >>> prior = Prior("neural-network", {"kind": "regression"}, {"params/mean": np.zeros(3)})
    >>> prior.arrays["params/mean"].flags.writeable
    False
    >>> import copy
    >>> copy.deepcopy(prior) is prior
    True
    """

    __slots__ = ("__weakref__", "arrays", "family", "hash", "provenance", "settings")

    def __init__(
        self,
        family: str,
        settings: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        held = {name: _frozen(array) for name, array in sorted(arrays.items())}
        values: dict[str, Any] = {
            "family": family,
            "settings": MappingProxyType(json_value(settings)),
            "arrays": MappingProxyType(held),
            "provenance": MappingProxyType(json_value(provenance or {})),
        }
        values["hash"] = content_hash({"family": family, "settings": dict(values["settings"])}, held)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    family: str
    settings: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    provenance: Mapping[str, Any]
    hash: str

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"A prior is read-only; {name} cannot be set. Learn another one with meta_fit.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"A prior is read-only; {name} cannot be deleted.")

    def __sklearn_clone__(self) -> Prior:
        return self

    def __copy__(self) -> Prior:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Prior:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Prior, (self.family, dict(self.settings), dict(self.arrays), dict(self.provenance))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prior) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"Prior({self.family!r}, {self.settings.get('kind', '?')}, {self.hash[:8]})"

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays whose names start with ``prefix/``, under the rest of their names."""
        start = f"{prefix}/"
        return {name[len(start) :]: array for name, array in self.arrays.items() if name.startswith(start)}


def _frozen(array: np.ndarray) -> np.ndarray:
    held = np.array(array)
    held.flags.writeable = False
    return held
