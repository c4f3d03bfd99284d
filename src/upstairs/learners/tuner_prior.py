"""A tuner's prior: experience and a form of recommendation, as a `Prior` and back."""

from __future__ import annotations

import functools
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from upstairs.errors import PriorMismatchError
from upstairs.learners.catalogue import CATALOGUE, DEFAULT, made
from upstairs.outer.experience import Experience
from upstairs.outer.metafeatures import describe
from upstairs.outer.recommend import Choice, Outcomes, Recommender
from upstairs.outer.trials import SCORES
from upstairs.plain import json_value
from upstairs.prior import Prior
from upstairs.tasks.task import Kind

__all__ = [
    "FAMILY",
    "base_estimator",
    "checked_prior",
    "class_path",
    "described",
    "kind_of",
    "name_of",
    "recommender_of",
    "tuner_prior",
    "usual_seconds",
]

FAMILY = "tuner"


def tuner_prior(
    experience: Experience,
    choice: Choice,
    *,
    kind: Kind,
    estimator: str,
    name: str | None,
    landmarkers: bool | int,
    trials: dict[str, Any],
    provenance: dict[str, Any],
) -> Prior:
    """Make the prior that a `Recommender` is read from.

    Parameters
    ----------
    experience : Experience
    choice : Choice
    kind : str
    estimator : str
        Module and class of the estimator, for information and to tell another one by.
    name : str, optional
        Its name in the catalogue.
    landmarkers : bool or int
        Whether descriptions of tasks hold landmarks, and of how many rows.
    trials : dict
        How scores were made (``cv``, ``seed``, ``max_rows``).
    provenance : dict
    """
    ready_one = Recommender.learn(experience, choice.form, choice.outcomes)
    document, arrays = experience.stored()
    settings = {
        "kind": kind,
        "labels": "own" if kind == "classification" else None,
        "estimator": {"class": estimator, "name": name},
        "experience": document,
        "choice": {**asdict(choice), "outcomes": _finite(choice.outcomes)},
        "landmarkers": landmarkers,
        "trials": trials,
    }
    held = {f"experience/{key}": array for key, array in arrays.items()}
    held |= {f"form/{key}": np.asarray(array) for key, array in ready_one.learned.items()}
    return Prior(FAMILY, json_value(settings), held, provenance)


@functools.lru_cache(maxsize=32)
def recommender_of(prior: Prior) -> Recommender:
    """Read what a prior of a tuner knows; kept for the priors that were read last."""
    experience = Experience.restored(prior.settings["experience"], prior.group("experience"))
    choice = prior.settings["choice"]
    stored = choice["outcomes"]
    levels = {key: np.inf if stored[key] is None else stored[key] for key in ("level", "pattern")}
    return Recommender(
        experience, choice["form"], prior.group("form"), Outcomes(surrogate=stored["surrogate"], **levels)
    )


def described(prior: Prior, X: Any, y: np.ndarray) -> np.ndarray:
    """Describe a data set as those of the experience are described: not at all, if they are not."""
    if not recommender_of(prior).experience.features.shape[1]:
        return np.zeros(0)
    return describe(X, y, prior.settings["kind"], with_landmarks=prior.settings["landmarkers"])


def checked_prior(prior: Any, kind: str, owner: str) -> Prior:
    """Return the prior if it is one that an estimator of a kind can read.

    Raises
    ------
    PriorMismatchError
        If it is not a prior, or of another family or kind.
    """
    if not isinstance(prior, Prior):
        raise PriorMismatchError(
            f"prior must be a Prior (the prior_ of a MetaTuner) or None, but is a {type(prior).__name__}; pass meta.prior_."
        )
    if prior.family != FAMILY:
        raise PriorMismatchError(
            f"prior is of the family {prior.family!r}, but {owner} reads {FAMILY!r}; use the estimator of that family."
        )
    if prior.settings["kind"] != kind:
        raise PriorMismatchError(f"prior was learned on {prior.settings['kind']} tasks, but {owner} is for {kind}.")
    return prior


def base_estimator(estimator: Any, prior: Prior | None, kind: Kind) -> Any:
    """Return the unfitted estimator that settings are put into.

    Parameters
    ----------
    estimator : estimator, str or None
        A scikit-learn estimator, a name of the catalogue, or None: the prior's.
    prior : Prior, optional
    kind : str

    Raises
    ------
    PriorMismatchError
        If there is neither, or the prior was learned for another estimator.
    """
    learned = None if prior is None else prior.settings["estimator"]
    if estimator is None:
        if learned is None:
            estimator = DEFAULT
        elif learned["name"] is None:
            raise PriorMismatchError(
                f"estimator must be given, because the prior was learned for {learned['class']}, which is code and not "
                f"stored; pass estimator={learned['class'].rsplit('.', 1)[-1]}()."
            )
        else:
            estimator = learned["name"]
    if isinstance(estimator, str):
        estimator = made(estimator, kind)
    elif isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        raise PriorMismatchError(
            f"estimator must be a scikit-learn estimator (an instance), a name such as 'random-forest', or None, but is "
            f"{estimator!r}."
        )
    if learned is not None and learned["class"] != class_path(estimator):
        raise PriorMismatchError(
            f"estimator is a {class_path(estimator)}, but the prior was learned for {learned['class']}; leave it at None, "
            "or learn a prior for it with MetaTuner."
        )
    return estimator


def class_path(estimator: Any) -> str:
    """Name an estimator's class by its package: private modules of scikit-learn move.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> class_path(DecisionTreeClassifier())
    'sklearn.DecisionTreeClassifier'
    """
    cls = type(estimator)
    return f"{cls.__module__.split('.')[0]}.{cls.__qualname__}"


def name_of(estimator: Any) -> str | None:
    """Name an estimator of the catalogue whose arguments are scikit-learn's defaults; None for any other.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> name_of(Ridge()), name_of(Ridge(alpha=3.0))
    ('ridge', None)
    """
    cls = type(estimator)
    for name, entry in CATALOGUE.items():
        for kind, (module, known) in entry.places.items():
            if cls.__name__ == known and cls.__module__.startswith(module):
                plain = made(name, kind).get_params()
                return name if repr(estimator.get_params()) == repr(plain) else None
    return None


def _finite(outcomes: Outcomes) -> dict[str, Any]:
    """Write infinity as None: JSON has no word for it."""
    return {key: None if value == np.inf else value for key, value in asdict(outcomes).items()}


def usual_seconds(experience: Experience) -> list[float | None]:
    """Median time of a fit by setting; None where none was measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = np.nanmedian(experience.seconds, axis=0)
    return [None if np.isnan(value) else round(float(value), 4) for value in found]


def kind_of(experience: Experience) -> Kind:
    """Tell the kind of tasks by what was measured on them."""
    return "regression" if experience.measure in SCORES["regression"] else "classification"
