"""Estimators that the library knows by name, and the settings that are worth trying for each."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import loguniform

from upstairs.errors import PriorMismatchError
from upstairs.tasks.task import Kind

__all__ = ["CATALOGUE", "DEFAULT", "Known", "known", "made"]

DEFAULT = "hist-gradient-boosting"
"""The estimator that is meant where none is named."""


@dataclass(frozen=True)
class Known:
    """One kind of estimator: where its classes lie and what to vary.

    ``places`` maps a kind of task to ``(module, class)``; ``space`` maps arguments to lists or SciPy distributions, as
    scikit-learn's randomised search takes them, and ``only`` adds to it for one kind; ``arguments`` are given to the class.
    """

    places: Mapping[Kind, tuple[str, str]]
    space: Mapping[str, Any]
    only: Mapping[Kind, Mapping[str, Any]]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def distributions(self, kind: Kind) -> dict[str, Any]:
        """Return what to vary for tasks of a kind."""
        return dict(self.space) | dict(self.only.get(kind, {}))


def _log_integers(low: int, high: int, count: int) -> list[int]:
    """Integers spread evenly in their logarithm."""
    ratio = (high / low) ** (1 / (count - 1))
    return sorted({round(low * ratio**step) for step in range(count)})


def _both(module: str, name: str) -> dict[Kind, tuple[str, str]]:
    return {
        "classification": (f"sklearn.{module}", f"{name}Classifier"),
        "regression": (f"sklearn.{module}", f"{name}Regressor"),
    }


_FOREST: dict[str, Any] = {
    "min_samples_leaf": _log_integers(1, 20, 8),
    "max_features": ["sqrt", "log2", 0.2, 0.35, 0.5, 0.7, 1.0],
    "bootstrap": [True, False],
    "max_depth": [None, None, None, 4, 8, 14],
}
_CRITERIA: dict[Kind, Mapping[str, Any]] = {"classification": {"criterion": ["gini", "entropy"]}}

CATALOGUE: Mapping[str, Known] = {
    "decision-tree": Known(
        {
            "classification": ("upstairs.learners.prior_tree", "PriorTreeClassifier"),
            "regression": ("upstairs.learners.prior_tree", "PriorTreeRegressor"),
        },
        {
            "max_depth": [None, 1, 2, 3, 4, 5, 6, 8, 10, 14],
            "min_samples_leaf": _log_integers(1, 60, 14),
            "max_features": [None, None, None, 0.7, 0.4],
            "ccp_alpha": [0.0, 0.0, 0.0003, 0.001, 0.003, 0.01, 0.03],
            "smoothing": [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
        },
        _CRITERIA,
        {"encode": False},
    ),
    "random-forest": Known(_both("ensemble", "RandomForest"), _FOREST, _CRITERIA),
    "extra-trees": Known(_both("ensemble", "ExtraTrees"), _FOREST, _CRITERIA),
    "hist-gradient-boosting": Known(
        _both("ensemble", "HistGradientBoosting"),
        {
            "learning_rate": loguniform(0.02, 0.3),
            "max_iter": [30, 50, 80, 130, 200],
            "max_leaf_nodes": [3, 5, 8, 15, 31],
            "min_samples_leaf": _log_integers(3, 50, 9),
            "l2_regularization": [0.0, 0.1, 1.0, 10.0, 100.0],
            "max_features": [1.0, 1.0, 0.6, 0.3],
        },
        {},
    ),
    "k-neighbors": Known(
        _both("neighbors", "KNeighbors"),
        {"n_neighbors": _log_integers(1, 100, 18), "weights": ["uniform", "distance"], "p": [1, 2]},
        {},
    ),
    "logistic-regression": Known(
        {"classification": ("sklearn.linear_model", "LogisticRegression")}, {"C": loguniform(1e-4, 1e3)}, {}
    ),
    "ridge": Known({"regression": ("sklearn.linear_model", "Ridge")}, {"alpha": loguniform(1e-2, 1e5)}, {}),
    "mlp": Known(
        _both("neural_network", "MLP"),
        {
            "hidden_layer_sizes": [[32], [64], [128], [32, 32], [64, 64]],
            "alpha": loguniform(1e-5, 10.0),
            "learning_rate_init": loguniform(5e-4, 2e-2),
            "max_iter": _log_integers(20, 300, 7),
            "activation": ["relu", "relu", "tanh"],
            "early_stopping": [False, False, True],
        },
        {},
    ),
}


def known(name: str, kind: Kind | None = None) -> Known:
    """Look up an estimator of the catalogue.

    Raises
    ------
    PriorMismatchError
        For a name that is not there, or a kind that it does not exist for.

    Examples
    --------
    >>> known("ridge").distributions("regression").keys()
    dict_keys(['alpha'])
    """
    if name not in CATALOGUE:
        raise PriorMismatchError(
            f"estimator={name!r} is not known by name; known are {', '.join(CATALOGUE)}. For another one, pass the "
            "estimator itself to MetaTuner."
        )
    entry = CATALOGUE[name]
    if kind is not None and kind not in entry.places:
        raise PriorMismatchError(
            f"estimator={name!r} exists for {' and '.join(entry.places)} only, but the task is a {kind}; choose another, "
            f"or pass kind={next(iter(entry.places))!r} if that is what y means."
        )
    return entry


def made(name: str, kind: Kind) -> Any:
    """Make an estimator of the catalogue with scikit-learn's defaults.

    Examples
    --------
    >>> made("random-forest", "regression")
    RandomForestRegressor()
    """
    entry = known(name, kind)
    module, cls = entry.places[kind]
    return getattr(importlib.import_module(module), cls)(**entry.arguments)
