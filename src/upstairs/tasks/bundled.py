"""Real task sets that come with a dependency; nothing is downloaded."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from upstairs.errors import MissingExtraError
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.table import Table
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["chick_weights", "digits"]


def digits() -> ClassPool:
    """Handwritten digits: 10 classes, 1,797 images of 8 x 8 pixels from 0 to 1.

    ``load_digits`` of scikit-learn (BSD-3-Clause), which describes it as a copy of the test part of the UCI set
    "Optical Recognition of Handwritten Digits" (E. Alpaydin, 1998) and states no licence for the images themselves.

    Raises
    ------
    MissingExtraError
        If scikit-learn is not installed.

    Examples
    --------
    >>> digits()
    ClassPool(10 classes, 1797 rows, shape (8, 8))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError(
            "digits() reads a file of scikit-learn; install it: pip install scikit-learn."
        ) from error
    images, labels = load_digits(return_X_y=True)
    return ClassPool(images.reshape(-1, 8, 8) / 16.0, labels)


def chick_weights() -> TaskSet:
    """Weights of 50 chicks (tasks) at up to 12 ages, 578 rows: growth curves that differ from chick to chick.

    Columns are ``time`` (days since hatching) and the category ``diet`` ("1" to "4", the same in all rows of a chick);
    the target is the weight. Rows lie in order of time, and chicks have no groups. The file is ``chick-weights.csv`` of
    river (BSD-3-Clause), which refers to an overview of the set on RPubs and states no licence for the data themselves.

    Raises
    ------
    MissingExtraError
        If river is not installed.

    Examples
    --------
    >>> chicks = chick_weights()
    >>> chicks, chicks[0].columns, chicks[0].y[:3].tolist()
    (TaskSet(50 tasks, 578 rows, regression), ('time', 'diet'), [42.0, 51.0, 59.0])
    """
    package = find_spec("river")  # finds the folder without importing river, which takes a second
    if package is None or package.origin is None:
        raise MissingExtraError("chick_weights() reads a file of river; install it: pip install river.")
    file = Path(package.origin).parent / "datasets" / "chick-weights.csv"
    by_chick: dict[int, list[dict[str, str]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            by_chick.setdefault(int(row["chick"]), []).append(row)
    return TaskSet([_growth(number, rows) for number, rows in sorted(by_chick.items())])


def _growth(number: int, rows: list[dict[str, str]]) -> Task:
    rows = sorted(rows, key=lambda row: float(row["time"]))
    diet = np.array([row["diet"] for row in rows], dtype=object)
    X = Table(["time", "diet"], [np.array([float(row["time"]) for row in rows]), diet])
    y = np.array([float(row["weight"]) for row in rows])
    return Task(X, y, name=f"chick-{number:02d}", kind="regression")
