"""Settings drawn from distributions, as plain values that can be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.model_selection import ParameterSampler

from upstairs.errors import TaskError
from upstairs.outer.journal import settings_key
from upstairs.outer.trials import Settings
from upstairs.plain import json_value

__all__ = ["sampled_settings"]


def sampled_settings(
    space: Mapping[str, Any] | Sequence[Settings], size: int, seed: int, estimator: Any
) -> list[dict[str, Any]]:
    """Draw settings, each once, the estimator's own defaults (``{}``) first.

    Parameters
    ----------
    space : mapping or sequence of mappings
        Arguments to lists or SciPy distributions, or settings as they are (then ``size`` does not matter).
    size : int
        How many to draw, fewer if the space is smaller.
    seed : int
    estimator : scikit-learn estimator
        Its arguments are the names that may be varied.

    Raises
    ------
    TaskError
        For no setting, an argument that the estimator has not, or a value that cannot be stored.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> sampled_settings({"alpha": [0.1, 1.0]}, 10, 0, Ridge())
    [{}, {'alpha': 0.1}, {'alpha': 1.0}]
    """
    if not isinstance(space, Mapping) and (isinstance(space, str) or not isinstance(space, Sequence)):
        raise TaskError(
            f"param_distributions must be a mapping of arguments or a list of settings, but is a {type(space).__name__}."
        )
    if isinstance(space, Mapping):
        if size < 1:
            raise TaskError(f"n_settings must be at least 1, but is {size}.")
        listed = [entry for entry in space.values() if isinstance(entry, Sequence)]
        cells = 1
        for entry in listed:
            cells *= len(entry)
        if len(listed) == len(space):
            size = min(size, cells)
        drawn: list[Any] = list(ParameterSampler(dict(space), size, random_state=seed))
    else:
        drawn = list(space)
    found: dict[str, dict[str, Any]] = {settings_key({}): {}}
    takes = estimator.get_params()
    for entry in drawn:
        settings = json_value(entry)
        unknown = sorted(set(settings) - set(takes))
        if unknown:
            raise TaskError(
                f"param_distributions names {unknown[0]!r}, which {type(estimator).__name__} does not take; it takes "
                f"{', '.join(sorted(takes))}."
            )
        try:
            found.setdefault(settings_key(settings), settings)
        except TypeError:
            bad = next(name for name, value in settings.items() if not _storable(value))
            raise TaskError(
                f"param_distributions[{bad!r}] holds {settings[bad]!r}, but settings are stored and must be numbers, text, "
                "truth values, None, or lists of these."
            ) from None
    if len(found) < 2:
        raise TaskError("param_distributions holds no setting beside the estimator's defaults; say what to vary.")
    return list(found.values())


def _storable(value: Any) -> bool:
    if isinstance(value, list):
        return all(_storable(entry) for entry in value)
    return value is None or isinstance(value, bool | int | float | str)
