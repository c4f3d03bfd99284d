"""Combine classifiers by a meta decision tree: its leaves name the base classifier to trust for a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError

from upstairs.inner.tree_nodes import NAMES
from upstairs.learners.base_classifiers import checked_bases, distributions, fitted_bases
from upstairs.learners.learn_combination import bases_of, counts_of, meta_rows, nodes_of, ordered
from upstairs.learners.rows import checked_columns, checked_targets
from upstairs.learners.stored_bases import bases_from_stored, stored_bases
from upstairs.outer.leaf_counts import MetaTree, own_tree, trusted_tree
from upstairs.outer.meta_tree import attributes
from upstairs.prior import Prior
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.table import Table

__all__ = ["CombinedClassifier"]


@final
class CombinedClassifier(ClassifierMixin, BaseEstimator):
    """A classifier that asks, for each row, the base classifier that is to be trusted where all are as sure as they are.

    Learned over tasks (with ``prior``): the tree, and how often each base classifier is right in each leaf, as a Beta prior.
    Tasks need not have the same columns or classes. On one task: base classifiers, their predictions for rows of other folds,
    and a count of right ones in every leaf; or a tree of its own, without a prior or where that is clearly better.

    Parameters
    ----------
    estimators : list, optional
        Classifiers with ``predict_proba``, names (``"decision-tree"``, ``"k-neighbors"``, ``"naive-bayes"``,
        ``"logistic-regression"``, ``"svm"``), or pairs of a name and either. None: those of the prior, or these five.
    prior : Prior, optional
        From `upstairs.learners.learn_combination.learn_combination`.
    cv : int
        Folds by which rows are predicted that base classifiers were not fitted to.
    min_samples_leaf : int, optional
        Rows that a leaf of a tree of the task's own holds. None: 3 %, and at least 10.
    max_depth : int, optional
        Of a tree of the task's own. None: no bound. 0: no split, which is selection by cross-validation.
    encode : bool
        Whether the columns of arrays are centred and scaled, and missing cells filled; data frames always are.
    random_state : int, optional
        For folds and base classifiers; None is 0.

    Attributes
    ----------
    estimators_ : dict
        Fitted base classifiers by name; their labels are positions in ``classes_``, their columns encoded ones.
    tree_ : upstairs.outer.leaf_counts.MetaTree
    n_leaves_ : int
    cv_scores_ : dict
        Accuracy of each base classifier on rows of other folds.
    best_by_cv_ : str
        The base classifier that selection by cross-validation would use for all rows.
    used_prior_ : bool
    classes_, n_features_in_, feature_names_in_

    References
    ----------
    Todorovski, L. and Dzeroski, S. (2003). Combining classifiers with meta decision trees. Machine Learning 50, 223-249.
    Departures are marked in `upstairs.outer.meta_tree`.

    Examples
    --------
    Half of the rows lie in four corners, which neighbours know; for the others a sum says which class they are of.

    >>> rng = np.random.default_rng(0)
    >>> corner, X = rng.choice([-1, 1], size=(600, 2)), rng.normal(size=(600, 8))
    >>> X[::2] = np.hstack([0.2 * corner[::2], np.zeros((300, 6))])
    >>> y = X.sum(axis=1) > 0
    >>> y[::2] = corner[::2].prod(axis=1) > 0
    >>> model = CombinedClassifier(["logistic-regression", "k-neighbors"]).fit(X, y)
    >>> print(model.export_text())
    maximum probability of k-neighbors <= 0.9
        trust logistic-regression (188 of 193 right)
    maximum probability of k-neighbors > 0.9
        trust k-neighbors (400 of 407 right)
    >>> model.best_by_cv_
    'k-neighbors'
    """

    def __init__(
        self,
        estimators: Any = None,
        prior: Prior | None = None,
        *,
        cv: int = 5,
        min_samples_leaf: int | None = None,
        max_depth: int | None = None,
        encode: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.estimators = estimators
        self.prior = prior
        self.cv = cv
        self.min_samples_leaf = min_samples_leaf
        self.max_depth = max_depth
        self.encode = encode
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> CombinedClassifier:
        """Fit base classifiers and the tree.

        Parameters
        ----------
        X : array of shape (row, feature), or a data frame
        y : array of shape (row,)

        Returns
        -------
        self

        Raises
        ------
        PriorMismatchError
            If the prior is of another family, or was learned with other estimators, or one of these cannot be fitted.
        TaskError
            If rows and targets differ in number.
        ValueError
            If an argument is out of range.
        """
        bases = checked_bases(self.estimators) if self.prior is None else bases_of(self.prior, self.estimators)
        self._check_arguments()
        X = checked_columns(self, X, reset=True)
        self.classes_, labels = np.unique(checked_targets(self, "classification", y, len(X)), return_inverse=True)
        X, labels = ordered(X, labels)
        self.encoder_ = Encoder.fit(X) if self.encode or isinstance(X, Table) else None
        rows, seed = self._encoded(X), int(self.random_state or 0)
        meta = meta_rows(bases, rows, labels, classes=len(self.classes_), cv=self.cv, seed=seed)
        names = tuple(name for name, _ in bases)
        tree = own_tree(*meta, names, least=self.min_samples_leaf, depth=self.max_depth)
        self.used_prior_ = False
        if self.prior is not None:
            tree, self.used_prior_ = trusted_tree(tree, nodes_of(self.prior), counts_of(self.prior), *meta)
        self.tree_ = tree
        self.cv_scores_ = dict(zip(names, meta.right.mean(axis=0).tolist(), strict=True))
        self.estimators_ = fitted_bases(bases, rows, labels, seed)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Say how likely each class is, by the base classifier that the row's leaf names; array of shape (row, class)."""
        said = self._said(X)
        found: np.ndarray = said[np.arange(len(said)), self.tree_.trusted(attributes(said))]
        return found

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels, array of shape (row,)."""
        found = self.predict_proba(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[found]
        return labels

    def trusted(self, X: Any) -> np.ndarray:
        """Name the base classifier that each row is answered by, array of shape (row,)."""
        return np.array(list(self.estimators_))[self.tree_.trusted(attributes(self._said(X)))]

    def export_text(self) -> str:
        """Write the tree, one condition or leaf a line."""
        self._check_fitted()
        return self.tree_.export_text()

    @property
    def n_leaves_(self) -> int:
        """Leaves of the tree; one is the choice of one base classifier for all rows."""
        self._check_fitted()
        return self.tree_.n_leaves

    @property
    def best_by_cv_(self) -> str:
        """The base classifier that was right most often on rows of other folds; the first of equals."""
        self._check_fitted()
        return max(self.cv_scores_, key=lambda name: self.cv_scores_[name])

    # --- scikit-learn -------------------------------------------------------------------------------------------
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.encode
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimators_")

    # --- inner workings -----------------------------------------------------------------------------------------
    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using this estimator."
            )

    def _check_arguments(self) -> None:
        for name, least, remedy in (
            ("cv", 2, "the usual number is 5"),
            ("min_samples_leaf", 1, "None is 3 % of the rows"),
            ("max_depth", 0, "None is no bound"),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not (value is None and name != "cv") and not (whole and value >= least):
                raise ValueError(f"{name} must be a whole number of at least {least}, but is {value!r}; {remedy}.")

    def _encoded(self, X: Any) -> np.ndarray:
        return np.asarray(X) if self.encoder_ is None else self.encoder_.encode(X)

    def _said(self, X: Any) -> np.ndarray:
        self._check_fitted()
        rows = self._encoded(checked_columns(self, X, reset=False))
        return distributions(self.estimators_, rows, len(self.classes_))

    # --- storage ------------------------------------------------------------------------------------------------
    def _prior_read(self) -> Prior | None:
        """Return the prior that is stored with the model."""
        return self.prior

    def _stored(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Everything fitted, as JSON values and arrays, for `upstairs.save`; ``classes_`` are stored by it."""
        bases, arrays = stored_bases(self.estimators_)
        document = {
            "n_features": int(self.n_features_in_),
            "feature_names": list(getattr(self, "feature_names_in_", [])) or None,
            "encoder": None if self.encoder_ is None else self.encoder_.spec(),
            "bases": bases,
            "cv_scores": self.cv_scores_,
            "used_prior": self.used_prior_,
        }
        arrays = {f"bases/{key}": array for key, array in arrays.items()}
        arrays |= {f"nodes/{name}": np.asarray(self.tree_.nodes[name]) for name in NAMES}
        return document, arrays | {f"counts/{name}": np.asarray(getattr(self.tree_, name)) for name in _COUNTS}

    def _restore(self, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Undo `_stored`."""
        self.n_features_in_ = document["n_features"]
        if document["feature_names"]:
            self.feature_names_in_ = np.array(document["feature_names"], dtype=object)
        self.encoder_ = None if document["encoder"] is None else Encoder.from_spec(document["encoder"])
        self.cv_scores_, self.used_prior_ = dict(document["cv_scores"]), document["used_prior"]
        groups: dict[str, dict[str, np.ndarray]] = {"bases": {}, "nodes": {}, "counts": {}}
        for key, array in arrays.items():
            kind, _, rest = key.partition("/")
            groups[kind][rest] = array
        self.estimators_ = bases_from_stored(document["bases"], groups["bases"])
        self.tree_ = MetaTree(groups["nodes"], tuple(self.estimators_), **groups["counts"])
        if (
            self.estimators is not None
        ):  # classifiers among the arguments are not JSON: those that were fitted stand for them
            self.estimators = [(name, clone(model)) for name, model in self.estimators_.items()]


_COUNTS = ("rows", "right", "prior_rows", "prior_right")
