"""What rows of a class count: as given, as learned, or so that all classes count the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from upstairs.inner.rule import Params

__all__ = ["override_costs", "with_costs"]


def override_costs(params: Params, settings: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Put costs that a user gave over those of ``params``: ``"balanced"``, or ``"class k"`` for class number k.

    Examples
    --------
    >>> override_costs({"class_cost": np.ones(2)}, {"class 1": 3.0})["class_cost"].tolist()
    [1.0, 3.0]
    """
    new = dict(params)
    if settings.get("balanced"):
        new["balanced"] = np.ones(())
    given = {int(name[6:]): value for name, value in settings.items() if name.startswith("class ")}
    if given:
        known = dict(enumerate(new["class_cost"].tolist())) | given
        new["class_cost"] = np.array([known.get(k, 1.0) for k in range(max(known) + 1)])
    return new


def with_costs(params: Params, y: np.ndarray) -> Params:
    """Params with a cost for every class there is, relative to the cost of all."""
    known = params["class_cost"]
    found = np.ones(max(len(known), int(y.max(initial=0)) + 1, 2))
    found[: len(known)] = known
    if "balanced" in params:
        counts = np.bincount(y, minlength=len(found))
        found = found * len(y) / (np.maximum(counts, 1) * max(int((counts > 0).sum()), 1))
    return dict(params) | {"class_cost": found}
