"""MetaSVM: support vector machines that know their settings, or their kernel, from other tasks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np

from upstairs.errors import NotMetaFittedError, PriorMismatchError, TaskError
from upstairs.learners.learn import Plan, shot_range
from upstairs.learners.learn_svm import forms_of, learn_machines, learn_machines_on
from upstairs.learners.meta import MetaLearner
from upstairs.learners.prior_svm import PriorSVC, PriorSVR
from upstairs.learners.rules import MACHINE
from upstairs.learners.svm_estimator import FAMILY
from upstairs.learners.svm_experience import learned_slope, svm_prior
from upstairs.learners.svm_settings import GRID
from upstairs.learners.tuner import MetaTuner
from upstairs.learners.tuner_prior import FAMILY as TUNER
from upstairs.outer.experience import Experience
from upstairs.outer.training import Training
from upstairs.outer.trials import SCORES, Settings, Trials
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.task import Kind
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaSVM"]

LANDMARK_ROWS = 128
"""Rows that very simple models are tried on to describe a data set: few, so that this takes no longer than the fit."""
MEASURE: dict[Kind, str] = {"classification": "balanced_accuracy", "regression": "r2"}


@final
class MetaSVM(MetaLearner):
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
    n_jobs : int
        Processes for trials; -1 for all cores.
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
        n_jobs: int = 1,
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
    def _needs_rows(self) -> bool:
        """Whether ``meta_partial_fit`` needs the rows of earlier tasks: not where experience is all that was learned."""
        return not _is_experience(getattr(self, "prior_", None))

    def meta_fit(self, tasks: Any, *, validation: Any = None) -> MetaSVM:
        """Learn a prior over tasks, or from a table of trials.

        Parameters
        ----------
        tasks : TaskSet, ClassPool, sequence of Task, or Experience
            At least 3 tasks; or a table whose settings are those of `PriorSVC` or `PriorSVR`.
        validation : TaskSet or ClassPool, optional
            Same columns: tasks on which choices are made. None: folds over the training tasks.

        Raises
        ------
        TaskError
            For too few tasks, mixed kinds, or a task that stands in both sets.
        PriorMismatchError
            If the columns of the tasks differ and the same are asked for.
        """
        if isinstance(tasks, Experience):
            self._check_arguments()
            kind: Kind = "regression" if tasks.measure in SCORES["regression"] else "classification"
            tuner = self._tuner(kind).set_params(measure=self.measure or tasks.measure)
            self.prior_ = svm_prior(tuner.meta_fit(tasks).prior_, None)
            return self
        super().meta_fit(tasks, validation=validation)
        return self

    def meta_partial_fit(self, tasks: Any) -> MetaSVM:
        """Go on learning from more tasks, or put another table of trials to the experience so far."""
        if hasattr(self, "prior_") and isinstance(tasks, Experience):
            tuner = self._tuner_of(self.prior_)
            settings = self.prior_.settings
            self.prior_ = svm_prior(tuner.meta_partial_fit(tasks).prior_, settings["slope"])
            return self
        super().meta_partial_fit(tasks)
        return self

    @property
    def experience_(self) -> Experience:
        """The table of trials (different columns): scores of every setting on every task."""
        return self._tuner_of(self._prior()).experience_

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

    def adapt_many(self, tasks: Any) -> list[Any]:
        """Adapt many tasks, with the results of `adapt` one by one; without columns in common, without warnings."""
        if _is_experience(self._prior()):
            return MetaTuner.adapt_many(self, tasks)
        return super().adapt_many(tasks)

    def adapt_zero(self, like: Any = None) -> Any:
        """Return an estimator that has seen no row of its task (same columns).

        Raises
        ------
        PriorMismatchError
            If settings are all that was learned, or labels are a task's own.
        """
        if _is_experience(self._prior()):
            raise PriorMismatchError(
                "adapt_zero needs a prior on columns, but this one has learned settings for tasks with different columns; "
                "pass rows to adapt."
            )
        return super().adapt_zero(like)

    # --- inner workings -----------------------------------------------------------------------------------------
    def _learn(self, tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None) -> Prior:
        self._check_arguments()
        if self._same(tasks):
            plan, how = self._plan(), {"solver": self.solver, "n_jobs": self.n_jobs}
            prior, self.seen_ = learn_machines(tasks, validation, plan, self.kernel, self.scales, **how)  # type: ignore[arg-type]
            return prior
        if validation is not None:
            raise TaskError(
                "validation is not used for tasks with different columns: groups of tasks are left out in turn; give all tasks "
                "as tasks."
            )
        assert isinstance(tasks, TaskSet)
        kind: Kind = tasks.kind  # type: ignore[assignment]
        tuner = self._tuner(kind).meta_fit(tasks)
        return svm_prior(tuner.prior_, self._slope(tuner.prior_, tasks))

    def _learn_on(self, tasks: TaskSet | ClassPool) -> Prior:
        prior = self._prior()
        if _is_experience(prior):
            if not isinstance(tasks, TaskSet) or tasks.kind != prior.settings["kind"]:
                raise TaskError(f"tasks must be {prior.settings['kind']} tasks, as those of the experience are.")
            tuned = self._tuner_of(prior).meta_partial_fit(tasks).prior_
            return svm_prior(tuned, prior.settings["slope"])
        new, self.seen_ = learn_machines_on(prior, self._kept(), tasks)
        return new

    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> PriorSVC | PriorSVR:
        settings = {"guard": self.guard, "trials": self.trials} | settings
        kind = settings.pop("kind", None) or (prior.settings["kind"] if prior is not None else None)
        return PriorSVR(prior, **settings) if kind == "regression" else PriorSVC(prior, **settings)

    def _slope(self, tuned: Prior, tasks: TaskSet) -> tuple[float, float] | None:
        if tasks.kind == "regression":
            return None
        return learned_slope(tuned, tasks, Trials(PriorSVC(encode=False), self.cv, self.random_state, self.max_rows))

    def _tuner(self, kind: Kind) -> MetaTuner:
        plain: Any = PriorSVR(encode=False) if kind == "regression" else PriorSVC(encode=False)
        return MetaTuner(
            plain,
            GRID[kind] if self.settings is None else self.settings,
            measure=self.measure or MEASURE[kind],
            cv=self.cv,
            max_rows=self.max_rows,
            max_seconds=self.max_seconds,
            landmarkers=LANDMARK_ROWS,
            checkpoint=self.checkpoint,
            n_jobs=self.n_jobs,
            random_state=self.random_state,
        )

    def _tuner_of(self, prior: Prior) -> MetaTuner:
        """Return a tuner that has the experience of a prior."""
        if not _is_experience(prior):
            raise PriorMismatchError(
                "This prior was learned on tasks with the same columns; it holds no table of trials."
            )
        tuner = self._tuner(prior.settings["kind"]).set_params(measure=prior.settings["experience"]["measure"])
        tuner.prior_ = Prior(TUNER, prior.settings, dict(prior.arrays), prior.provenance)
        return tuner

    def _same(self, tasks: TaskSet | ClassPool) -> bool:
        if self.columns != "auto" or isinstance(tasks, ClassPool):
            return self.columns != "different"
        try:
            concatenate_columns(list(tasks))
        except PriorMismatchError:
            return False
        return True

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
        if self.columns not in ("auto", "same", "different"):
            raise ValueError(f"columns must be 'auto', 'same' or 'different', but is {self.columns!r}.")
        if self.prior_mean not in ("auto", "linear", "ridge", "boosting"):
            raise ValueError(f"prior_mean must be 'auto', 'linear', 'ridge' or 'boosting', but is {self.prior_mean!r}.")
        if self.training is not None and not isinstance(self.training, Training):
            raise ValueError(f"training must be an upstairs.Training or None, but is {self.training!r}.")
        if self.solver not in ("smooth", "libsvm"):
            raise ValueError(f"solver must be 'smooth' or 'libsvm', but is {self.solver!r}.")
        forms_of(self.kernel, self.scales, 1)


def _is_experience(prior: Prior | None) -> bool:
    return prior is not None and "experience" in prior.settings
