"""What a baseline is, and the fitted models that baselines return."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from upstairs.learners.baseline_mathematics import softmax
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["Baseline", "ClassModel", "DensityModel", "PointModel", "Situated"]


@dataclass(frozen=True, slots=True)
class Situated:
    """What kind of tasks a baseline is for; ``classes`` are the shared labels, empty for labels of a task's own."""

    kind: str
    labels: str | None
    classes: tuple[Any, ...] = ()
    same_columns: bool = True
    categorical: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class PointModel:
    """A fitted regression that gives a value a row."""

    mean: Callable[[Any], np.ndarray]
    fallback: str = ""

    def predict(self, X: Any) -> np.ndarray:
        """Predict every row."""
        return self.mean(X)


@dataclass(frozen=True, slots=True)
class DensityModel:
    """A fitted regression that gives a mean and a standard deviation a row, the noise of a new row included."""

    both: Callable[[Any], tuple[np.ndarray, Any]]
    fallback: str = ""

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict every row."""
        mean, std = self.both(X)
        return (mean, np.broadcast_to(std, mean.shape)) if return_std else mean


@dataclass(frozen=True, slots=True)
class ClassModel:
    """A fitted classifier: log odds of every class, up to a constant."""

    classes_: np.ndarray
    logits: Callable[[Any], np.ndarray]
    fallback: str = ""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities in the order of ``classes_``."""
        return softmax(self.logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of every row."""
        return self.classes_[self.logits(X).argmax(axis=1)]


@dataclass(frozen=True)
class Baseline(abc.ABC):
    """A plain method: ``meta_fit`` returns a fitted copy, ``adapt`` a fitted model; neither changes the baseline."""

    at: Situated
    name: ClassVar[str]
    needs_train: ClassVar[bool] = True
    one_class: ClassVar[bool] = False

    def meta_fit(self, train: TaskSet | ClassPool) -> Baseline:
        """Learn from training tasks what the method can learn from them."""
        return self

    def adapt(self, X: Any, y: np.ndarray) -> Any:
        """Fit a model to support rows, or fall back on the support mean or the (smoothed) class frequencies."""
        if self.at.kind == "classification" and not self.one_class and len(np.unique(y)) < 2:
            return self._constant(y, "one class in the support")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._adapt(X, y)
        except (ValueError, FloatingPointError, np.linalg.LinAlgError) as error:
            return self._constant(y, f"{type(error).__name__}: {error}")

    def adapt_many(self, tasks: Sequence[Task]) -> list[Any]:
        """Adapt to many tasks."""
        return [self.adapt(task.X, task.y) for task in tasks]

    @abc.abstractmethod
    def _adapt(self, X: Any, y: np.ndarray) -> Any:
        """Fit a model, or raise ValueError."""

    def _constant(self, y: np.ndarray, why: str) -> Any:
        if self.at.kind == "regression":
            level = float(y.mean())
            return PointModel(lambda X: np.full(len(X), level), why)
        classes = np.array(self.at.classes or np.unique(y).tolist())
        counts = (y[:, None] == classes).sum(axis=0) + 1.0
        return ClassModel(classes, lambda X: np.broadcast_to(np.log(counts), (len(X), len(classes))), why)
