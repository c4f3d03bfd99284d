"""Fitted base classifiers as JSON values and arrays: scikit-learn's through skops, the library's own by their own means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.errors import StorageError
from upstairs.learners.prior_svm import PriorSVC
from upstairs.learners.stored_estimators import packed, unpacked
from upstairs.prior import Prior
from upstairs.values import restored, stored

__all__ = ["bases_from_stored", "stored_bases"]


def stored_bases(models: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Write fitted base classifiers.

    Raises
    ------
    StorageError
        If one of them holds what `upstairs.load` would refuse.

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = np.array([[0.0], [0.1], [1.0], [1.2]]), np.array([0, 0, 1, 1])
    >>> again = bases_from_stored(*stored_bases({"bayes": GaussianNB().fit(X, y), "svm": PriorSVC().fit(X, y)}))
    >>> {name: model.predict([[0.9]]).tolist() for name, model in again.items()}
    {'bayes': [1], 'svm': [1]}
    """
    documents: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, (name, model) in enumerate(models.items()):
        document: dict[str, Any] = {"name": name}
        if isinstance(model, PriorSVC):
            if isinstance(model.prior, Prior):
                raise StorageError(
                    f"The base classifier {name!r} has a prior of its own, which is not stored inside another model; use "
                    "PriorSVC() or PriorSVC('tabular'), or save it by itself."
                )
            document["params"] = {key: stored(value) for key, value in model.get_params(deep=False).items()}
            document["classes"] = model.classes_.tolist()
            document["fitted"], held = model._stored()
            arrays |= {f"{number}/{key}": array for key, array in held.items()}
        else:
            arrays[f"{number}/packed"] = packed(model)
        documents.append(document)
    return documents, arrays


def bases_from_stored(documents: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Read what `stored_bases` wrote."""
    models: dict[str, Any] = {}
    for number, document in enumerate(documents):
        start = f"{number}/"
        held = {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)}
        if "fitted" in document:
            model = PriorSVC(**{key: restored(value) for key, value in document["params"].items()})
            model.classes_ = np.asarray(document["classes"])
            model._restore(document["fitted"], held)
        else:
            model = unpacked(held["packed"])
        models[document["name"]] = model
    return models
