"""The estimators that MetaDecisionTree makes: one decision tree, grown once, with a prior or without one."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Shaped

from upstairs.inner.smoothed_tree import SmoothedTree
from upstairs.learners.experienced import asked
from upstairs.learners.rule_estimators import RuleClassifier, RuleRegressor
from upstairs.learners.tree_estimator import TreeEstimator
from upstairs.prior import Prior

__all__ = ["PriorTreeClassifier", "PriorTreeRegressor"]

_SETTINGS = ("max_depth", "min_samples_leaf", "min_samples_split", "criterion", "max_features", "ccp_alpha")


@final
class PriorTreeClassifier(TreeEstimator, RuleClassifier):
    """A decision tree for classes that knows its settings, or its splits and leaves, from other tasks.

    Learned over tasks with different columns: how depth, leaf size, pruning, criterion, smoothing and the decision rule
    follow from the data. Learned over tasks with the same columns: a tree, and what to expect in its leaves. On one task: one
    tree, which can be read (`export_text`, `plot`, ``leaves_``).

    Parameters
    ----------
    prior : Prior, "tabular" or None
        From ``MetaDecisionTree(...).meta_fit(tasks).prior_``; the one that ships, learned on hundreds of tables; or
        none: the plain tree with the defaults of scikit-learn, on columns that are encoded.
    max_depth : int or "none", optional
        "none": no bound.
    min_samples_leaf, min_samples_split : int or float, optional
        Rows, or a share of them.
    criterion : {"gini", "entropy"}, optional
    max_features : int, float, "sqrt" or "log2", optional
        Columns that a split chooses among; 1.0: all.
    ccp_alpha : float, optional
        Cost of a leaf, for pruning.
    class_weight : "balanced", "equal" or mapping from labels, optional
        Counts for splits, probabilities and decisions; given here, it takes the place of a prior's ``decision_power``.
    smoothing : float, optional
        Rows that the estimate of a node's parent counts as, beside the node's own.
    decision_power : float, optional
        Labels are decided by ``p / share^decision_power``, share being that of the class among the rows of ``fit``. 0:
        the most probable label. 1: as if classes were equally frequent, which serves balanced accuracy. Probabilities
        stay as they are.
    trials : int
        How many recommended settings are compared by cross-validation before the fit (experience only); 1: none.
    cv : int or float
        Folds, or a share of rows held out, for that.
    guard : bool
        Whether to fall back to the plain tree where the rows speak against the prior.
    encode : bool
        Whether the columns of arrays are encoded (without a prior on columns); data frames always are.
    random_state : int, optional
        For folds. Trees draw nothing anew: the same rows give the same tree.

    None is always "from the prior", or scikit-learn's default without one.

    Attributes
    ----------
    classes_, settings_, leaves_, depth_, n_leaves_, feature_importances_, familiarity_, used_prior_, guard_reason_,
    trials_, n_features_in_, feature_names_in_

    Examples
    --------
    >>> X, y = np.array([[0.0], [0.2], [1.0], [1.2]]), np.array(["a", "a", "b", "b"])
    >>> print(PriorTreeClassifier(smoothing=2.0).fit(X, y).export_text())
    x0 <= 0.60: a 0.75, b 0.25 (2 rows, 50 % from above)
    x0 > 0.60: a 0.25, b 0.75 (2 rows, 50 % from above)

    References
    ----------
    Breiman, L. et al. (1984). Classification and regression trees. For smoothing: Buntine, W. (1992). Learning
    classification trees. Statistics and Computing 2; Agarwal, A. et al. (2022). Hierarchical shrinkage. ICML. For the decision
    rule: Elkan, C. (2001). The foundations of cost-sensitive learning. IJCAI, equation 1.
    """

    def __init__(
        self,
        prior: Prior | str | None = None,
        *,
        max_depth: int | str | None = None,
        min_samples_leaf: int | float | None = None,
        min_samples_split: int | float | None = None,
        criterion: str | None = None,
        max_features: int | float | str | None = None,
        ccp_alpha: float | None = None,
        class_weight: Any = None,
        smoothing: float | None = None,
        decision_power: float | None = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        encode: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.prior = prior  # type: ignore[assignment]
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.min_samples_split = min_samples_split
        self.criterion = criterion
        self.max_features = max_features
        self.ccp_alpha = ccp_alpha
        self.class_weight = class_weight
        self.smoothing = smoothing
        self.decision_power = decision_power
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.encode = encode
        self.random_state = random_state

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """Return the label of every row, by the decision rule (``decision_power``)."""
        if not isinstance(self._fitted().rule, SmoothedTree):  # a tree that tasks share: the most probable label
            return super().predict(X)
        return self.classes_[asked(self, X, "decide")[0].argmax(axis=1)]

    def _explicit(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_SETTINGS, "class_weight", "smoothing", "decision_power")}


@final
class PriorTreeRegressor(TreeEstimator, RuleRegressor):
    """A regression tree that knows its settings, or its splits and leaves, from other tasks.

    Learned over tasks with different columns: how depth, leaf size, pruning and smoothing follow from the data. Learned over
    tasks with the same columns: a tree, and what to expect in its leaves. On one task: one tree, which can be read
    (`export_text`, `plot`, ``leaves_``). The standard deviation of ``predict(X, return_std=True)`` is that of the rows of a
    leaf, pulled towards its parents', times a factor that was learned over tasks.

    Parameters
    ----------
    prior : Prior, "tabular" or None
        From ``MetaDecisionTree(...).meta_fit(tasks).prior_``; the one that ships, learned on hundreds of tables; or
        none: the plain tree with the defaults of scikit-learn, on columns that are encoded.
    max_depth : int or "none", optional
        "none": no bound.
    min_samples_leaf, min_samples_split : int or float, optional
        Rows, or a share of them.
    criterion : {"squared_error", "absolute_error"}, optional
    max_features : int, float, "sqrt" or "log2", optional
        Columns that a split chooses among; 1.0: all.
    ccp_alpha : float, optional
        Cost of a leaf, for pruning, for a target of unit variance.
    smoothing : float, optional
        Rows that the estimate of a node's parent counts as, beside the node's own.
    trials, cv, guard, encode, random_state
        As for `PriorTreeClassifier`.

    Examples
    --------
    >>> X = np.arange(8.0)[:, None]
    >>> model = PriorTreeRegressor(max_depth=1).fit(X, np.where(X[:, 0] > 3, 10.0, 20.0))
    >>> model.predict([[1.0], [6.0]])
    array([20., 10.])

    References
    ----------
    Breiman, L. et al. (1984). Classification and regression trees. For smoothing: Agarwal, A. et al. (2022). Hierarchical
    shrinkage: improving the accuracy and interpretability of tree-based methods. ICML.
    """

    def __init__(
        self,
        prior: Prior | str | None = None,
        *,
        max_depth: int | str | None = None,
        min_samples_leaf: int | float | None = None,
        min_samples_split: int | float | None = None,
        criterion: str | None = None,
        max_features: int | float | str | None = None,
        ccp_alpha: float | None = None,
        smoothing: float | None = None,
        trials: int = 1,
        cv: int | float = 3,
        guard: bool = False,
        encode: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.prior = prior  # type: ignore[assignment]
        self.max_depth = max_depth
        self.min_samples_leaf = min_samples_leaf
        self.min_samples_split = min_samples_split
        self.criterion = criterion
        self.max_features = max_features
        self.ccp_alpha = ccp_alpha
        self.smoothing = smoothing
        self.trials = trials
        self.cv = cv
        self.guard = guard
        self.encode = encode
        self.random_state = random_state

    def _explicit(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_SETTINGS, "smoothing")}
