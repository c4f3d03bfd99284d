"""upstairs learns how to learn: a prior from many related tasks, a model for a new one from a handful of rows.

Main job: ``tasks -> meta_fit -> prior -> adapt to a new task -> a plain scikit-learn estimator``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upstairs import evaluate as evaluate_module
    from upstairs import online, optim, tasks
    from upstairs.errors import (
        ApproximationWarning,
        FamiliarityWarning,
        MissingExtraError,
        NotMetaFittedError,
        PriorMismatchError,
        StorageError,
        TaskError,
        UnsolvedWarning,
        UpstairsError,
    )
    from upstairs.evaluate import EvaluationResult, evaluate, meta_cross_validate
    from upstairs.learners.combine import CombinedClassifier
    from upstairs.learners.gradient_descent import MetaGradientDescent
    from upstairs.learners.neural_network import MetaNeuralNetwork
    from upstairs.learners.prior_descent import PriorGradientDescentClassifier, PriorGradientDescentRegressor
    from upstairs.learners.prior_network import PriorNeuralNetworkClassifier, PriorNeuralNetworkRegressor
    from upstairs.learners.prior_svm import PriorSVC, PriorSVR
    from upstairs.learners.prior_tree import PriorTreeClassifier, PriorTreeRegressor
    from upstairs.learners.recommended import RecommendedClassifier, RecommendedRegressor
    from upstairs.learners.registry import load, save
    from upstairs.learners.shipped import recommended
    from upstairs.learners.svm import MetaSVM
    from upstairs.learners.tree import MetaDecisionTree
    from upstairs.learners.tuner import MetaTuner
    from upstairs.online.forgetful import ForgetfulClassifier, ForgetfulRegressor
    from upstairs.online.learner import OnlineMetaLearner
    from upstairs.outer.experience import Experience
    from upstairs.outer.training import Training
    from upstairs.prior import Prior
    from upstairs.tasks import ClassPool, Task, TaskSet

_PLACES = {
    "ApproximationWarning": "upstairs.errors",
    "ClassPool": "upstairs.tasks.pool",
    "CombinedClassifier": "upstairs.learners.combine",
    "EvaluationResult": "upstairs.evaluate",
    "Experience": "upstairs.outer.experience",
    "FamiliarityWarning": "upstairs.errors",
    "ForgetfulClassifier": "upstairs.online.forgetful",
    "ForgetfulRegressor": "upstairs.online.forgetful",
    "MetaDecisionTree": "upstairs.learners.tree",
    "MetaGradientDescent": "upstairs.learners.gradient_descent",
    "MetaNeuralNetwork": "upstairs.learners.neural_network",
    "MetaSVM": "upstairs.learners.svm",
    "MetaTuner": "upstairs.learners.tuner",
    "MissingExtraError": "upstairs.errors",
    "NotMetaFittedError": "upstairs.errors",
    "OnlineMetaLearner": "upstairs.online.learner",
    "Prior": "upstairs.prior",
    "PriorGradientDescentClassifier": "upstairs.learners.prior_descent",
    "PriorGradientDescentRegressor": "upstairs.learners.prior_descent",
    "PriorMismatchError": "upstairs.errors",
    "PriorNeuralNetworkClassifier": "upstairs.learners.prior_network",
    "PriorNeuralNetworkRegressor": "upstairs.learners.prior_network",
    "PriorSVC": "upstairs.learners.prior_svm",
    "PriorSVR": "upstairs.learners.prior_svm",
    "PriorTreeClassifier": "upstairs.learners.prior_tree",
    "PriorTreeRegressor": "upstairs.learners.prior_tree",
    "RecommendedClassifier": "upstairs.learners.recommended",
    "RecommendedRegressor": "upstairs.learners.recommended",
    "StorageError": "upstairs.errors",
    "Task": "upstairs.tasks.task",
    "TaskError": "upstairs.errors",
    "TaskSet": "upstairs.tasks.taskset",
    "Training": "upstairs.outer.training",
    "UnsolvedWarning": "upstairs.errors",
    "UpstairsError": "upstairs.errors",
    "load": "upstairs.learners.registry",
    "meta_cross_validate": "upstairs.evaluate",
    "recommended": "upstairs.learners.shipped",
    "save": "upstairs.learners.registry",
}

_PARTS = ("evaluate", "online", "optim", "tasks", "testing")
"""Packages; ``evaluate`` can be called as well."""

__all__ = [*_PLACES, *_PARTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
    if name in _PARTS:
        return importlib.import_module(f"upstairs.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("upstairs")
    raise AttributeError(f"module 'upstairs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
