"""The error tree. A message names the argument, the rule, the value and the remedy, and for a task its name and size."""

from __future__ import annotations

from sklearn.exceptions import NotFittedError


class UpstairsError(Exception):
    """Root of everything that this library raises on purpose."""


class TaskError(UpstairsError, ValueError):
    """A task, a set of tasks, or a table of rows breaks a rule."""


class PriorMismatchError(UpstairsError, ValueError):
    """A prior does not fit the rows, labels, columns or arguments that it is used with."""


class NotMetaFittedError(UpstairsError, NotFittedError):
    """A meta-learner is asked to adapt before ``meta_fit``."""


class StorageError(UpstairsError, ValueError):
    """A stored prior or model cannot be written or read."""


class MissingExtraError(UpstairsError, ImportError):
    """An optional dependency is needed and not installed."""


class FamiliarityWarning(UserWarning):
    """A new task looks unlike the tasks that the prior was learned from."""


class UnsolvedWarning(UserWarning):
    """The inner problem of tasks is not solved, although the learning of the prior relies on it."""


class ApproximationWarning(UserWarning):
    """A task is too large to be learned exactly, and something near is learned instead."""
