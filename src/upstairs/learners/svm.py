"""MetaSVM: support vector machines that know their settings, or their kernel, from other tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np

from upstairs.errors import NotMetaFittedError
from upstairs.learners.by_experience import LearnsByExperience
from upstairs.learners.learn import Plan, shot_range
from upstairs.learners.learn_svm import forms_of, learn_machines, learn_machines_on
from upstairs.learners.prior_svm import PriorSVC, PriorSVR
from upstairs.learners.rules import MACHINE
from upstairs.learners.svm_estimator import FAMILY
from upstairs.learners.svm_experience import learned_slope, svm_prior
from upstairs.learners.svm_settings import GRID
from upstairs.outer.training import Training
from upstairs.outer.trials import Settings, Trials
from upstairs.prior import Prior
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Kind
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaSVM"]

MEASURE: dict[Kind, str] = {"classification": "balanced_accuracy", "regression": "r2"}


@final
class MetaSVM(LearnsByExperience):
    """Learn over tasks what a support vector machine should know before it sees a new one: one fit, no grid search.

    Learned over tasks with the same columns: a prior decision function, the kernel (linear and Gaussian parts, a scale for
    every feature), costs, epsilon and the slope of probabilities. Learned over tasks with different columns: how C, width,
    kernel and class weights follow from the data. On one task: one fit of a machine.

    Parameters
    ----------
    columns : {"auto", "same", "different"}
        What tasks have in common. "auto": seen from the tasks.
    kernel : {"auto", "linear", "rbf", "mixture"}
        Same columns: its parts, around the prior decision function; "mixture" is linear, Gaussian and quadratic. "auto":
        linear, and Gaussian too where unseen tasks say that it helps.
    scales : {"features", "one"} or int
        Same columns: of the curved parts of the kernel; one for each feature, one for all, or a linear map to so many
        dimensions.
    solver : {"smooth", "libsvm"}
        Same columns: squared hinge loss around the prior decision function, or the hinge loss itself, for which costs, scales
        and slope are learned, but no prior decision function.
    prior_mean : {"auto", "linear", "ridge", "boosting"}
        Same columns: what the prior decision function is made of, as for `MetaNeuralNetwork`.
    training : Training, optional
        Same columns: steps, rates, progress bar and checkpoints of what is learned by gradient through solved machines. None:
        a few hundred steps; with fewer than 15 tasks costs are not learned.
    shots : int or (int, int), optional
        Same columns: support rows that the prior is for (rows a class for labels of a task's own).
    ways : int, optional
        Classes of a task drawn from a class pool.
    categorical : sequence of column names or positions
        Same columns: number columns that are identifiers.
    settings : sequence of mappings, optional
        Different columns: settings of `PriorSVC` or `PriorSVR` to make experience with. None: about 120.
    measure : str, optional
        Different columns: what settings are judged by. None: "balanced_accuracy" or "r2".
    cv : int or float
        Different columns: folds, or the share of rows that is held out, by which a setting is scored.
    max_rows : int, optional
        Different columns: larger tasks are thinned out for the table.
    max_seconds : float, optional
        Different columns: time that a setting may take on a task; one that takes longer counts as failed.
    checkpoint : path-like, optional
        Different columns: a file that every trial is written to; a killed run goes on there.
    trials : int
        Passed on to the estimators: recommended settings that are compared by cross-validation; 1: none.
    guard : bool
        Passed on to the estimators.
    n_jobs : int, optional
        Processes for trials; -1 for all cores. None: as `joblib.parallel_config` says, or 1.
    random_state : int
        Draws folds, rows and episodes.

    Examples
    --------
    >>> import upstairs as up
    >>> family = up.tasks.synthetic.SharedSubspace()
    >>> meta = MetaSVM(kernel="linear", prior_mean="linear").meta_fit(family.sample(12, 20, random_state=0))
    >>> task = family.sample(1, 30, random_state=1)[0]
    >>> model = meta.adapt(task.X[:5], task.y[:5])
    >>> plain = meta.plain_learner("regression").fit(task.X[:5], task.y[:5])
    >>> model.score(task.X[5:], task.y[5:]) > plain.score(task.X[5:], task.y[5:])
    True
    """

    _family = FAMILY
    _both_kinds = (PriorSVC, PriorSVR)

    def __init__(
        self,
        *,
        columns: Literal["auto", "same", "different"] = "auto",
        kernel: str = "auto",
        scales: Any = "features",
        solver: Literal["smooth", "libsvm"] = "smooth",
        prior_mean: Literal["auto", "linear", "ridge", "boosting"] = "auto",
        training: Training | None = None,
        shots: int | tuple[int, int] | None = None,
        ways: int | None = None,
        categorical: Sequence[str | int] = (),
        settings: Sequence[Settings] | None = None,
        measure: str | None = None,
        cv: int | float = 0.4,
        max_rows: int | None = 1000,
        max_seconds: float | None = 20.0,
        checkpoint: str | os.PathLike[str] | None = None,
        trials: int = 1,
        guard: bool = False,
        n_jobs: int | None = 1,
        random_state: int = 0,
    ) -> None:
        self.columns = columns
        self.kernel = kernel
        self.scales = scales
        self.solver = solver
        self.prior_mean = prior_mean
        self.training = training
        self.shots = shots
        self.ways = ways
        self.categorical = categorical
        self.settings = settings
        self.measure = measure
        self.cv = cv
        self.max_rows = max_rows
        self.max_seconds = max_seconds
        self.checkpoint = checkpoint
        self.trials = trials
        self.guard = guard
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def feature_scales_(self) -> dict[str, float]:
        """How finely the curved part of the kernel looks at every feature (same columns); larger is finer.

        Raises
        ------
        NotMetaFittedError
            If the kernel has no scale for every feature.
        """
        from upstairs.tasks.encoder import Encoder

        prior = self._prior()
        scale = prior.arrays.get("params/map")
        if scale is None or scale.ndim != 1:
            raise NotMetaFittedError(
                "feature_scales_ needs a kernel with a scale for every feature, and this prior has none; use kernel='rbf' or "
                "'mixture' with scales='features'."
            )
        names = Encoder.from_spec(prior.settings["encoder"]).feature_names()
        return dict(zip(names, np.abs(scale).tolist(), strict=True))

    # --- inner workings -----------------------------------------------------------------------------------------
    def _learn_same(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        plan, how = self._plan(), {"solver": self.solver, "n_jobs": self.n_jobs}
        prior, self.seen_ = learn_machines(tasks, validation, plan, self.kernel, self.scales, **how)  # type: ignore[arg-type]
        return prior

    def _learn_same_on(self, tasks: TaskSet | ClassPool) -> Prior:
        new, self.seen_ = learn_machines_on(self._prior(), self._kept(), tasks)
        return new

    def _prior_of(self, tuned: Prior, tasks: TaskSet | None, earlier: Prior | None) -> Prior:
        if earlier is not None:
            return svm_prior(tuned, earlier.settings["slope"])
        if tasks is None or tasks.kind == "regression":
            return svm_prior(tuned, None)
        trials = Trials(PriorSVC(encode=False), self.cv, self.random_state, self.max_rows)
        return svm_prior(tuned, learned_slope(tuned, tasks, trials))

    def _base(self, kind: Kind) -> Any:
        return PriorSVR(encode=False) if kind == "regression" else PriorSVC(encode=False)

    def _grid(self, kind: Kind) -> Sequence[Settings]:
        return GRID[kind]

    def _default_measure(self, kind: Kind) -> str:
        return MEASURE[kind]

    def _plan(self) -> Plan:
        return Plan(
            MACHINE,
            {},
            None,
            self.training,
            self.prior_mean,
            shot_range(self.shots),
            self.ways,
            tuple(self.categorical),
            int(self.random_state or 0),
        )

    def _check_arguments(self) -> None:
        self._check_columns()
        if self.prior_mean not in ("auto", "linear", "ridge", "boosting"):
            raise ValueError(f"prior_mean must be 'auto', 'linear', 'ridge' or 'boosting', but is {self.prior_mean!r}.")
        if self.training is not None and not isinstance(self.training, Training):
            raise ValueError(f"training must be an upstairs.Training or None, but is {self.training!r}.")
        if self.solver not in ("smooth", "libsvm"):
            raise ValueError(f"solver must be 'smooth' or 'libsvm', but is {self.solver!r}.")
        forms_of(self.kernel, self.scales, 1)
