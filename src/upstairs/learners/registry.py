"""Save and load priors and adapted models; the table here is the allow-list of what `load` may construct."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError, StorageError
from upstairs.learners.meta import MetaLearner
from upstairs.learners.seen import Seen
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.storage import read_folder, write_folder
from upstairs.values import restored, stored

__all__ = ["described", "load", "rebuilt", "save", "storable", "unfitted", "written"]

_CLASSES = {
    "CombinedClassifier": "upstairs.learners.combine",
    "ForgetfulClassifier": "upstairs.online.forgetful",
    "ForgetfulRegressor": "upstairs.online.forgetful",
    "MetaDecisionTree": "upstairs.learners.tree",
    "MetaGradientDescent": "upstairs.learners.gradient_descent",
    "MetaNeuralNetwork": "upstairs.learners.neural_network",
    "MetaSVM": "upstairs.learners.svm",
    "MetaTuner": "upstairs.learners.tuner",
    "OnlineMetaLearner": "upstairs.online.learner",
    "PriorGradientDescentClassifier": "upstairs.learners.prior_descent",
    "PriorGradientDescentRegressor": "upstairs.learners.prior_descent",
    "PriorNeuralNetworkClassifier": "upstairs.learners.prior_network",
    "PriorNeuralNetworkRegressor": "upstairs.learners.prior_network",
    "PriorSVC": "upstairs.learners.prior_svm",
    "PriorSVR": "upstairs.learners.prior_svm",
    "PriorTreeClassifier": "upstairs.learners.prior_tree",
    "PriorTreeRegressor": "upstairs.learners.prior_tree",
    "RecommendedClassifier": "upstairs.learners.recommended",
    "RecommendedRegressor": "upstairs.learners.recommended",
}


def save(model: Any, path: str | os.PathLike[str], *, resume: bool = False) -> None:
    """Write a meta-learner with its prior, or an adapted model, into a folder of JSON and arrays.

    An interrupted call leaves the old content or the new, never half.

    Parameters
    ----------
    model : MetaLearner or adapted model
        Fitted.
    path : path-like
        A folder: a new one, an empty one, or one that this function wrote before.
    resume : bool
        For a meta-learner: keep the encoded training rows too, so that `meta_partial_fit` can go on after loading
        (`MetaTuner` can in any case).

    Raises
    ------
    StorageError
        If the object is not of this library or not fitted, or the folder cannot be written.

    Examples
    --------
    >>> import tempfile, upstairs as up
    >>> model = up.PriorNeuralNetworkRegressor().fit(np.arange(4.0)[:, None], np.arange(4.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     up.save(model, folder)
    ...     again = up.load(folder)
    >>> bool(again.predict([[2.0]]) == model.predict([[2.0]]))
    True
    """
    name = type(model).__name__
    if not storable(model):
        raise StorageError(f"save takes a meta-learner or an adapted model of this library, but got a {name}.")
    document = described(model)
    arrays: dict[str, np.ndarray] = {}
    if isinstance(model, MetaLearner):
        if not hasattr(model, "prior_"):
            raise StorageError(f"This {name} has no prior yet; call meta_fit(tasks) before saving it.")
        prior: Prior | None = model.prior_
        seen: Any = getattr(model, "seen_", None)
        if resume and seen is None and model._needs_rows:
            raise StorageError(
                "resume=True needs the training rows, but this meta-learner was loaded without them or learned from a store; leave it out."
            )
        if resume and seen is not None:
            document["resume"] = {"names": list(seen.names), "groups": list(seen.groups)}
            arrays |= {"resume/x": seen.x, "resume/y": seen.y, "resume/offsets": seen.offsets}
        readme = _META_README
    else:
        if not model.__sklearn_is_fitted__():
            raise StorageError(f"This {name} is not fitted; call fit or adapt before saving it.")
        prior = model._prior_read() if hasattr(model, "_prior_read") else getattr(model, "prior", None)
        document, arrays = written(model)
        readme = _MODEL_README
    if prior is not None:
        document["prior"] = {"family": prior.family, "settings": dict(prior.settings), "hash": prior.hash}
        document["provenance"] = dict(prior.provenance)
        arrays |= {f"prior/{key}": array for key, array in prior.arrays.items()}
    write_folder(path, json_value(document), arrays, readme.format(name=name))


def storable(model: Any) -> bool:
    """Whether `save` knows the class of an object."""
    return _CLASSES.get(type(model).__name__) == type(model).__module__


def written(model: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Write a fitted estimator, but not its prior, as JSON values and arrays; `rebuilt` undoes it."""
    document = described(model)
    document["fitted"], fitted = model._stored()
    if hasattr(model, "classes_"):
        document["classes"] = model.classes_.tolist()
    return document, {f"fitted/{key}": array for key, array in fitted.items()}


def load(path: str | os.PathLike[str], *, net: Any = None) -> Any:
    """Read back what `save` wrote: a meta-learner or an adapted model.

    Nothing in the folder is executed; only classes of this library are made.

    Parameters
    ----------
    path : path-like
    net : Equinox module, optional
        Your own network, if the prior was learned with one: networks that are code are not stored, and the stored
        arrays fill this template. A template that does not fit raises `PriorMismatchError`, naming the first array.

    Raises
    ------
    StorageError
        If the folder is missing, foreign, damaged, or of another schema version.
    """
    return rebuilt(*read_folder(path), where=str(path), net=net)


def rebuilt(document: dict[str, Any], arrays: dict[str, np.ndarray], *, where: str, net: Any = None) -> Any:
    """Make what a document and arrays describe, if it is of this library; ``where`` names them in errors.

    Raises
    ------
    StorageError
        If they hold something else, or are damaged.
    """
    name = document.get("type")
    if name not in _CLASSES:
        raise StorageError(
            f"{where} holds a {name!r}, which this version cannot load; it loads {', '.join(sorted(_CLASSES))}."
        )
    cls = getattr(importlib.import_module(_CLASSES[name]), name)
    try:
        return _rebuilt(cls, document, arrays, net)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, StorageError | PriorMismatchError):
            raise
        raise StorageError(
            f"{where} is damaged ({type(error).__name__}: {error}); copy or save the folder again."
        ) from error


def _rebuilt(cls: Any, document: dict[str, Any], arrays: dict[str, np.ndarray], net: Any) -> Any:
    groups: dict[str, dict[str, np.ndarray]] = {"prior": {}, "fitted": {}, "resume": {}}
    for key, array in arrays.items():
        kind, _, rest = key.partition("/")
        groups[kind][rest] = array
    prior = None
    if "prior" in document:
        stored = document["prior"]
        prior = Prior(stored["family"], stored["settings"], groups["prior"], document["provenance"])
        if prior.hash != stored["hash"]:
            raise StorageError(
                "The settings in prior.json were changed after it was written (content hash differs); copy the folder again."
            )
    params = {key: restored(value) for key, value in document["params"].items()}
    if net is not None:
        params["net"] = net
    model = cls(**params)
    if issubclass(cls, MetaLearner):
        model.prior_ = prior
        if "resume" in document:
            kept = groups["resume"]
            names, group_names = (tuple(document["resume"][key]) for key in ("names", "groups"))
            model.seen_ = Seen(kept["x"], kept["y"], kept["offsets"], names, group_names)
        return model
    if prior is not None or hasattr(model, "prior"):
        model.prior = prior
    if "classes" in document and not isinstance(getattr(cls, "classes_", None), property):
        model.classes_ = np.asarray(document["classes"])
    model._restore(document["fitted"], groups["fitted"])
    return model


def described(model: Any) -> dict[str, Any]:
    """Describe an estimator that is not fitted, but not its prior; `unfitted` undoes it."""
    return {"type": type(model).__name__, "params": _params(model)}


def unfitted(document: Mapping[str, Any], prior: Prior | None) -> Any:
    """Make the estimator that `described` described, with a prior."""
    name = document["type"]
    model = getattr(importlib.import_module(_CLASSES[name]), name)(
        **{key: restored(value) for key, value in document["params"].items()}
    )
    if prior is not None:
        setattr(model, "prior_" if isinstance(model, MetaLearner) else "prior", prior)
    return model


def _params(model: Any) -> dict[str, Any]:
    return {key: stored(value) for key, value in model.get_params(deep=False).items() if key != "prior"}


_META_README = """# A prior of upstairs ({name})

What was learned over many tasks: settings in `prior.json`, numbers in the safetensors file; no code.

    import upstairs as up
    meta = up.load("this folder")
    model = meta.adapt(X_few, y_few)
"""
_MODEL_README = """# An adapted model of upstairs ({name})

A prior and what was learned from the rows of one task; no code.

    import upstairs as up
    model = up.load("this folder")
    model.predict(X_new)
"""
