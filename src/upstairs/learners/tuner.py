"""MetaTuner: experience for any scikit-learn estimator, and what it recommends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from upstairs.errors import PriorMismatchError, TaskError
from upstairs.learners.catalogue import known
from upstairs.learners.many import fit_to_many
from upstairs.learners.meta import MetaLearner
from upstairs.learners.recommended import Recommended, RecommendedClassifier, RecommendedRegressor
from upstairs.learners.search import SearchResult, searched
from upstairs.learners.tuner_prior import (
    FAMILY,
    base_estimator,
    class_path,
    described,
    kind_of,
    name_of,
    recommender_of,
    tuner_prior,
    usual_seconds,
)
from upstairs.outer.experience import Experience
from upstairs.outer.filling import distinct, fill, tabulated
from upstairs.outer.journal import Journal
from upstairs.outer.metafeatures import feature_names
from upstairs.outer.recommend import chosen
from upstairs.outer.sampled import sampled_settings
from upstairs.outer.trials import Settings, Trials, check_cv
from upstairs.prior import Prior
from upstairs.tasks.task import Kind, Task
from upstairs.tasks.taskset import TaskSet

__all__ = ["MetaTuner", "Recommendation"]


@dataclass(frozen=True)
class Recommendation:
    """What experience says about one data set.

    Attributes
    ----------
    settings : dict
        The settings to use.
    order : tuple of dict
        The settings to try one after another, the first included.
    expected : float
        Expected loss of the first (see `Experience.losses`): 0 is the best that any setting would do.
    like : tuple of (str, float)
        The past data sets that weigh most, with their weights.
    familiarity : float
        Percentile (0 to 100) of how near past data sets are, among these themselves.
    form : str
        How weights are made (see `upstairs.outer.likeness`).
    """

    settings: dict[str, Any]
    order: tuple[dict[str, Any], ...]
    expected: float
    like: tuple[tuple[str, float], ...]
    familiarity: float
    form: str


@final
class MetaTuner(MetaLearner):
    """Learn which settings of an estimator work on which data, and recommend them for new data at once.

    Learned over tasks: a table of scores (tasks x settings) and how descriptions of data go with it. On one task: the
    recommended settings, fitted once (``learner()``, ``adapt``), or a search that starts where experience points
    (``search``). Tasks need not have the same columns.

    Parameters
    ----------
    estimator : scikit-learn estimator or str
        Any classifier or regressor, unfitted, or a name: ``"decision-tree"``, ``"random-forest"``,
        ``"extra-trees"``, ``"hist-gradient-boosting"``, ``"k-neighbors"``, ``"logistic-regression"``, ``"ridge"``,
        ``"mlp"``.
    param_distributions : mapping or sequence of mappings, optional
        What to vary: lists or SciPy distributions, of which ``n_settings`` settings are drawn; or the settings
        themselves. None: what the catalogue says about the name.
    n_settings : int
        Settings to draw. The estimator's own defaults are always tried as well.
    measure : str, optional
        ``"neg_log_loss"``, ``"accuracy"``, ``"balanced_accuracy"`` or ``"roc_auc"``; ``"r2"`` or
        ``"neg_mean_absolute_error"``. None: the first of its kind that the estimator allows. All are kept.
    cv : int or float
        Folds by which a setting is scored, or a share of rows that is held out once.
    max_rows : int, optional
        Larger tasks are thinned out for the table.
    max_seconds : float, optional
        Time that a setting may take on a task (all folds); one that takes longer counts as failed. None: no bound.
    landmarkers : bool or int
        Whether descriptions hold how well five very simple models do, on 256 rows or on so many (see
        `upstairs.outer.landmarks`).
    guard : bool
        Whether estimators compare the recommended settings with their own defaults by cross-validation, and use these
        where they are better.
    checkpoint : path-like, optional
        A file that every trial is written to when it ends. A second run with it makes none of them again, and a
        killed run loses the trials that were under way. Different tuners may share a file.
    n_jobs : int, optional
        Processes, each with one thread; -1 for all cores. None: as `joblib.parallel_config` says, or 1. Where that names
        Dask or Ray, trials are made there, unless this is 1. Scores do not depend on it.
    random_state : int, optional
        For drawing settings, folds and the estimator; None is 0.
    callback : callable, optional
        Called with the number of trials done and of all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def task(n):
    ...     X = rng.normal(size=(24, 8))
    ...     return Task(X, X[:, 0] + rng.normal(size=24), name=f"t{n}")
    >>> tuner = MetaTuner("ridge", [{"alpha": 0.1}, {"alpha": 10.0}], cv=3)
    >>> tuner = tuner.meta_fit([task(n) for n in range(6)])
    >>> tuner.experience_
    Experience(6 tasks in 6 groups, 3 settings, 100 % tried, by 'r2')
    >>> new = task(7)
    >>> tuner.recommend(new.X, new.y).settings
    {'alpha': 10.0}
    >>> tuner.adapt(new.X, new.y).settings_
    {'alpha': 10.0}
    """

    _family = FAMILY

    def __init__(
        self,
        estimator: Any = "hist-gradient-boosting",
        param_distributions: Mapping[str, Any] | Sequence[Settings] | None = None,
        *,
        n_settings: int = 50,
        measure: str | None = None,
        cv: int | float = 3,
        max_rows: int | None = None,
        max_seconds: float | None = 60.0,
        landmarkers: bool | int = True,
        guard: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        n_jobs: int | None = 1,
        random_state: int | None = None,
        callback: Callable[[int, int], None] | None = None,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.n_settings = n_settings
        self.measure = measure
        self.cv = cv
        self.max_rows = max_rows
        self.max_seconds = max_seconds
        self.landmarkers = landmarkers
        self.guard = guard
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.callback = callback

    @property
    def _needs_rows(self) -> bool:
        """Experience is the prior: nothing more is needed."""
        return False

    # --- learning over tasks ------------------------------------------------------------------------------------
    def meta_fit(self, tasks: Any, *, validation: Any = None) -> MetaTuner:
        """Fill the table of experience and learn to recommend from it.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task, or Experience
            Data sets, with the same columns or not; or a table that exists already (``kind`` is taken from its
            measure).
        validation : None
            Not needed: every choice is made on groups of tasks that are left out in turn.

        Raises
        ------
        TaskError
            For fewer than 3 tasks, mixed kinds, the same data set twice, or a task on which no setting could be fitted.
        PriorMismatchError
            If the estimator does not exist for this kind of tasks.
        """
        if validation is not None:
            raise TaskError(
                "validation is not used: MetaTuner leaves out groups of tasks in turn; give all tasks as tasks."
            )
        if isinstance(tasks, Experience):
            self.prior_ = self._prior_of(tasks, kind_of(tasks))
            return self
        super().meta_fit(tasks)
        return self

    def meta_partial_fit(self, tasks: Any) -> MetaTuner:
        """Add data sets to the experience: only what is new is fitted; what is recommended is learned anew.

        Takes tasks or an `Experience`, and works on a prior that was loaded as well. A data set that is known (by
        content) is not tried again.
        """
        if not hasattr(self, "prior_"):
            return self.meta_fit(tasks)
        if isinstance(tasks, Experience):
            self.prior_ = self._prior_of(self.experience_.merge(tasks), self.prior_.settings["kind"])
            return self
        super().meta_partial_fit(tasks)
        return self

    @property
    def experience_(self) -> Experience:
        """The table: scores of every setting on every task."""
        return recommender_of(self._prior()).experience

    def with_experience(self, experience: Experience) -> MetaTuner:
        """Return a tuner like this one that has learned from another table (filtered, merged, or made by hand)."""
        from sklearn.base import clone

        return clone(self).meta_fit(experience)

    # --- recommending -------------------------------------------------------------------------------------------
    def recommend(self, X: Any, y: Any, *, size: int = 10) -> Recommendation:
        """Say which settings to use on a data set, without fitting anything to it.

        Parameters
        ----------
        X : array of shape (row, feature), or a data frame
        y : array of shape (row,)
        size : int
            How many settings ``order`` holds.
        """
        prior = self._prior()
        asked = recommender_of(prior)
        task = Task(X, y, name="new data", kind=prior.settings["kind"])
        x = described(prior, task.X, task.y)
        table = asked.experience
        order = asked.order(x, size)
        weights = asked.weights(x)
        heavy = np.argsort(-weights, kind="stable")[:5]
        return Recommendation(
            dict(table.settings[order[0]]),
            tuple(dict(table.settings[n]) for n in order),
            float(asked.expected(x)[order[0]]),
            tuple((table.names[n], float(weights[n])) for n in heavy if weights[n] > 0),
            asked.familiarity(x),
            asked.form,
        )

    def search(self, X: Any, y: Any, n_trials: int = 20, *, cv: int | float | None = None) -> SearchResult:
        """Search settings for one data set, starting where experience points.

        The first trials follow the recommendation, each in the light of the outcomes so far. After ten, Optuna goes on
        in the whole space if it is installed (extra ``search``) and ``param_distributions`` are distributions;
        otherwise the settings of the table are tried on.

        Parameters
        ----------
        X, y : as in `recommend`
        n_trials : int
        cv : int or float, optional
            None: as in the table.

        Returns
        -------
        SearchResult
        """
        prior = self._prior()
        task = Task(X, y, name="new data", kind=prior.settings["kind"])
        base = base_estimator(self.estimator, prior, prior.settings["kind"])
        trials = Trials(base, self.cv if cv is None else cv, self.random_state or 0)
        space = self._space(prior.settings["kind"])
        x = described(prior, task.X, task.y)
        return searched(recommender_of(prior), trials, task, x, n_trials, space if isinstance(space, Mapping) else None)

    def adapt_many(self, tasks: Any, *, n_jobs: int | None = None) -> list[Any]:
        """Fit the recommended estimator to many tasks, one by one; ``familiarity_`` says what no warning does.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task, or sequence of (X, y)
        n_jobs : int, optional
            Processes, which pay from some hundred tasks on. None: as `joblib.parallel_config` says, or 1.
        """
        rows = [(task.X, task.y) if isinstance(task, Task) else task for task in tasks]
        return fit_to_many(self.learner(), rows, n_jobs)

    def adapt_zero(self, like: Any = None) -> Any:
        """Refuse: experience with settings predicts nothing without rows.

        Raises
        ------
        PriorMismatchError
            Always.
        """
        raise PriorMismatchError(
            "adapt_zero needs a prior that predicts by itself, but a MetaTuner has learned settings; pass rows to adapt."
        )

    # --- inner workings -----------------------------------------------------------------------------------------
    def _new_learner(self, prior: Prior | None, settings: dict[str, Any]) -> Any:
        kind = prior.settings["kind"] if prior is not None else settings.pop("kind")
        cls: type[Recommended] = RecommendedRegressor if kind == "regression" else RecommendedClassifier
        given = {"random_state": self.random_state, "guard": self.guard, **settings}
        return cls(self.estimator, prior, **given)

    def _learn(self, tasks: Any, validation: Any) -> Prior:
        tasks = _task_set(tasks)
        check_cv(self.cv)
        return self._prior_of(self._filled(tasks, None), str(tasks.kind))  # type: ignore[arg-type]

    def _learn_on(self, tasks: Any) -> Prior:
        tasks, kind = _task_set(tasks), self._prior().settings["kind"]
        if tasks.kind != kind:
            raise TaskError(
                f"tasks are a {tasks.kind}, but the experience is of {kind} tasks; they must be of one kind."
            )
        return self._prior_of(self.experience_.merge(self._filled(tasks, self.experience_)), kind)

    def _space(self, kind: Kind) -> Mapping[str, Any] | Sequence[Settings]:
        if self.param_distributions is not None:
            return self.param_distributions
        name = name_of(self._base(kind))
        if name is None:
            raise PriorMismatchError(
                "param_distributions must say what to vary, because the estimator is not one that is known by name; pass a "
                "mapping of arguments to lists or distributions."
            )
        return known(name, kind).distributions(kind)

    def _filled(self, tasks: TaskSet, so_far: Experience | None) -> Experience:
        """Try every setting on every task; with an experience, only its settings on data sets that it does not know."""
        kind: Kind = tasks.kind  # type: ignore[assignment]
        base, seed = self._base(kind), self.random_state or 0
        loaded = list(tasks)
        prints = distinct(loaded)
        groups, settings = list(tasks.groups), sampled_settings(self._space(kind), self.n_settings, seed, base)
        if so_far is not None:
            settings = [dict(entry) for entry in so_far.settings]
            fresh = [n for n, print_ in enumerate(prints) if print_ not in so_far.fingerprints]
            loaded, prints = [loaded[n] for n in fresh], [prints[n] for n in fresh]
            groups = [groups[n] for n in fresh]
            if not loaded:
                return so_far
        trials = Trials(base, self.cv, seed, self.max_rows)
        with Journal(self.checkpoint, trials.plan) as journal:
            records = fill(
                trials,
                loaded,
                prints,
                settings,
                journal,
                n_jobs=self.n_jobs,
                seconds=self.max_seconds,
                progress=self.callback,
            )
        return tabulated(
            records, loaded, prints, groups, settings, measure=self.measure, with_landmarks=self.landmarkers
        )

    def _base(self, kind: Kind) -> Any:
        return base_estimator(self.estimator, getattr(self, "prior_", None) if self.estimator is None else None, kind)

    def _prior_of(self, experience: Experience, kind: Kind) -> Prior:
        if self.measure is not None and experience.measure != self.measure:
            experience = experience.by(self.measure)
        default = next((n for n, entry in enumerate(experience.settings) if not entry), None)
        choice = chosen(experience, default=default)
        base = self._base(kind)
        described = experience.features.shape[1] == len(feature_names(with_landmarks=True))
        return tuner_prior(
            experience,
            choice,
            kind=kind,
            estimator=class_path(base),
            name=name_of(base),
            landmarkers=(self.landmarkers or True) if described else False,
            trials={"cv": self.cv, "seed": self.random_state or 0, "max_rows": self.max_rows},
            provenance={
                "tasks": len(experience),
                "groups": len(set(experience.groups)),
                "settings": len(experience.settings),
                "measure": experience.measure,
                "held_out": dict(choice.losses),
                "seconds": usual_seconds(experience),
            },
        )


def _task_set(tasks: Any) -> TaskSet:
    if not isinstance(tasks, TaskSet):
        raise TaskError(
            f"MetaTuner learns from data sets (a TaskSet or a list of Task), but tasks is a {type(tasks).__name__}; make "
            "tasks of it first."
        )
    return tasks
