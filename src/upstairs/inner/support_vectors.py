"""The plain support vector machine as a rule: libsvm's solution as arrays, with probabilities from left-out rows.

Nothing is learned over tasks here but the settings (`params`); one task is one fit. Classes are compared in pairs, and
probabilities of pairs are joined (`upstairs.inner.coupling`). How sure a pair is follows from its decisions at the
rows it was fitted to, each left out (`upstairs.inner.left_out`), and from how sure such machines are on other tasks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import expit
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC, SVR

from upstairs.errors import ApproximationWarning, UnsolvedWarning
from upstairs.inner.class_costs import override_costs, with_costs
from upstairs.inner.coupling import coupled, pairs_of
from upstairs.inner.left_out import left_out, slope_of
from upstairs.inner.nystroem import approximate_machine
from upstairs.inner.row_order import row_key
from upstairs.inner.rule import Categorical, Gaussian, Params, PlainRule, Rows, State, log_density
from upstairs.inner.svm_kernel import KERNELS, dense, kernel_between, middle_distance

__all__ = ["MOST_ROWS", "SLOPE", "Pair", "SupportVectors", "machine", "pair_scores", "said_of_rows"]

MOST_ROWS = 20_000
"""With more rows of a pair of classes (or of a regression) the kernel is approximated."""
_ITERATIONS = (2e4, 1e7)
"""Least and most iterations of the solver."""
_MOST_VECTORS = 3000
"""Support vectors of a pair that are left out in turn; of more, some."""
_WORK = 4e9
"""Products of numbers that the solver may take, about; it stops then, and says so."""
_FEW_ROWS = 200
"""Up to so many rows the solution is exact to seven digits; for more it is as exact as libsvm's usually is."""
_KNOWN_ROWS, _WIDE = 1000, 16
"""Up to so many rows and from so many columns on, a Gaussian kernel is computed at once rather than entry by entry."""
_BLOCK = 20_000_000
SLOPE = (1.1, 0.5)
"""Mean and standard deviation of the log of how fast log odds grow with the decision, where no tasks were seen."""


def machine(params: Params, x: Any, y: np.ndarray, weight: np.ndarray | None, kind: str) -> State:
    """Fit one task.

    Parameters
    ----------
    params
        See `SupportVectors`.
    x : array or sparse matrix of shape (row, feature)
        Sparse for the linear kernel only.
    y : array of shape (row,)
        Class numbers, or targets.
    weight : array of shape (row,), optional
        What the cost of every row is multiplied by.
    kind : {"classification", "regression"}

    Returns
    -------
    dict of arrays
        ``vectors`` (vector, feature), ``label`` (vector,), ``coef`` (vector, output), ``intercept`` (output,), and
        ``slope`` and ``shift`` (output,) or ``noise`` (). Sparse rows have one vector an output and no labels.
    """
    weight = np.ones(len(y)) if weight is None else weight
    regression = kind == "regression"
    found = _regression(params, x, y, weight) if regression else _classification(with_costs(params, y), x, y, weight)[0]
    if hasattr(found["vectors"], "toarray"):
        found["vectors"], found["coef"] = dense(found["vectors"].T @ found["coef"]).T, np.eye(len(found["intercept"]))
        del found["label"]
    return {name: np.asarray(array, np.float64) for name, array in found.items()}


def pair_scores(params: Params, state: Mapping[str, Any], x: Any) -> Float[np.ndarray, "row output"]:
    """Decisions at rows (dense or sparse): of every pair of classes for its first, or the regression's value."""
    parts = [kernel_between(params, part, state["vectors"]) @ state["coef"] for part in _blocks(x, state["vectors"])]
    return np.concatenate(parts) + state["intercept"] if parts else np.zeros((0, len(state["intercept"])))


@final
@dataclass(frozen=True, slots=True)
class SupportVectors(PlainRule):
    """One support vector machine a task, by libsvm [1]_.

    ``params``: ``kernel`` (its place in `upstairs.inner.svm_kernel.KERNELS`), ``gamma``, ``degree``, ``coef0``, ``cost``,
    ``epsilon``, ``class_cost`` (way; one for classes that it has no entry for), ``balanced`` if classes are to count the same,
    ``slope`` (mean and deviation, see `SLOPE`), and ``middle``, the median squared distance of two rows that widths are
    relative to. Learned over tasks with the same columns also ``map``, the scale of every feature. ``state``: see `machine`.

    Departures: a regression's target is scaled by the caller; above `MOST_ROWS` rows the kernel is approximated
    (`upstairs.inner.nystroem`) with the squared hinge loss; the solver stops after a bounded number of iterations.

    References
    ----------
    .. [1] Chang, C.-C. and Lin, C.-J. (2011). LIBSVM: a library for support vector machines. ACM TIST 2.
    """

    kind: str = "classification"

    def own_params(self, x: Float[np.ndarray, "row feature"], y: Shaped[np.ndarray, " row"], ways: int) -> Params:
        """The defaults of scikit-learn: C = 1, RBF kernel with ``gamma="scale"``, classes of equal weight."""
        variance = float(x.var()) if x.size else 0.0
        return {
            "kernel": np.asarray(float(KERNELS.index("rbf"))),
            "gamma": np.asarray(1.0 / (x.shape[1] * variance) if variance > 0 else 1.0),
            "degree": np.asarray(3.0),
            "coef0": np.asarray(0.0),
            "cost": np.asarray(1.0),
            "epsilon": np.asarray(0.1),
            "class_cost": np.ones(ways if self.kind == "classification" else 0),
            "slope": np.array(SLOPE),
            "middle": np.asarray(middle_distance(x)),
            "columns": np.asarray(float(x.shape[1])),
        }

    def override(self, params: Params, settings: Mapping[str, float]) -> Params:
        """Take settings as `upstairs.learners.svm_arguments.as_numbers` writes them (``gamma`` 0 is "auto")."""
        new = dict(params)
        plain = {"C": "cost", "epsilon": "epsilon", "kernel": "kernel", "degree": "degree", "coef0": "coef0"}
        for name, value in settings.items():
            if name in plain:
                new[plain[name]] = np.asarray(float(value))
            elif name == "gamma":
                new["gamma"] = np.asarray(float(value) if value > 0 else 1.0 / float(params["columns"]))
            elif name == "width":
                new["gamma"] = np.asarray(0.5 / (value**2 * float(params["middle"])))
            elif name in ("slope mean", "slope spread"):
                place = int(name == "slope spread")
                new["slope"] = np.where(np.arange(2) == place, value, new["slope"])
        return override_costs(new, settings)

    def adapt(self, params: Params, support: Rows) -> State:
        """Fit every task; states are padded to the largest."""
        parts = []
        for number, real in enumerate(support.mask):
            weight = None if support.weight is None else support.weight[number][real]
            x, y = support.x[number][real], support.y[number][real]
            parts.append(machine(params, x * params["map"] if "map" in params else x, y, weight, self.kind))
        most = max(len(part["vectors"]) for part in parts)
        for part in (part for part in parts if len(part["vectors"]) < most):
            for name in ("vectors", "coef", "label"):
                part[name] = np.pad(part[name], [(0, most - len(part[name])), *[(0, 0)] * (part[name].ndim - 1)])
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    def predict(self, params: Params, state: State, x: Any) -> Categorical | Gaussian:
        """Class probabilities, or a normal distribution with the spread of left-out rows."""
        scores = self._scores(params, state, x)
        if self.kind == "regression":
            return Gaussian(scores[..., 0], np.broadcast_to(state["noise"][:, None], scores.shape[:2]).copy())
        odds = scores * state["slope"][:, None] + state["shift"][:, None]
        ways = _ways_of(odds.shape[2])
        return Categorical(np.stack([coupled(expit(one), ways) for one in odds]))

    def decide(self, params: Params, state: State, x: Any) -> Float[np.ndarray, "task row way"]:
        """How strongly rows belong to each class, class weights included; of two classes plus and minus the decision."""
        scores = self._scores(params, state, x)
        if scores.shape[2] == 1:
            return np.concatenate([scores, -scores], axis=2)
        odds = np.where(state["slope"] > 0, scores * state["slope"][:, None], state["shift"][:, None])
        return np.log(np.stack([coupled(expit(one), _ways_of(odds.shape[2])) for one in odds]))

    def _scores(self, params: Params, state: State, x: Any) -> Float[np.ndarray, "task row output"]:
        x = x * params["map"] if "map" in params else x
        if hasattr(x, "toarray"):  # sparse rows of one task
            return pair_scores(params, {name: array[0] for name, array in state.items()}, x)[None]
        each = [{name: array[number] for name, array in state.items()} for number in range(len(x))]
        return np.stack([pair_scores(params, one, rows) for one, rows in zip(each, x, strict=True)])

    def evidence(self, params: Params, support: Rows, state: State | None = None) -> Float[np.ndarray, " task"]:
        """Mean log predictive density of the rows after they were learned: a proxy."""
        state = self.adapt(params, support) if state is None else state
        each = np.where(support.mask, log_density(self.predict(params, state, support.x), support.y), 0.0)
        return each.sum(axis=1) / np.maximum(support.counts, 1)


def _ways_of(pairs: int) -> int:
    return round((1.0 + (1.0 + 8.0 * pairs) ** 0.5) / 2.0)


class Pair(NamedTuple):
    """What rows say about a pair of classes: margins with support vectors left out, odds of weights, and how many rows each stands for."""

    margin: Float[np.ndarray, " row"]
    shift: Float[np.ndarray, " row"]
    weight: Float[np.ndarray, " row"]


def _classification(
    params: Params, x: Any, y: np.ndarray, weight: np.ndarray
) -> tuple[dict[str, Any], list[Pair | None]]:
    """State of the machine, and what rows say about every pair."""
    ways = len(params["class_cost"])
    pairs = pairs_of(ways)
    bound = float(params["cost"]) * params["class_cost"][y] * weight if len(y) else np.zeros(0)
    if len(y) > MOST_ROWS:
        _announce(len(y))
        vectors, coef, intercept = approximate_machine(params, x, _signs(y, pairs), bound)
        held, between = np.zeros(0, dtype=np.int64), None
    else:
        vectors, coef, intercept, held, between = _solved(params, x, y, weight, ways, pairs)
    label = y[held] if len(held) else np.full(coef.shape[0], np.nan)  # landmarks of an approximation are nobody's rows
    found = {"vectors": vectors, "label": label, "coef": coef, "intercept": intercept}
    slope, shift = np.zeros(len(pairs)), np.zeros(len(pairs))
    counts = np.bincount(y, minlength=ways)
    every = list(_said_of_pairs(params, x, y, bound, found, held, between))
    for number, said in enumerate(every):
        i, j = pairs[number]
        if said is None:  # nothing to compare: what is seen is likelier
            shift[number] = np.log((counts[i] + 0.5) / (counts[j] + 0.5))
            intercept[number] = np.sign(shift[number])
        else:
            shift[number] = np.log(params["class_cost"][j] / params["class_cost"][i])
            slope[number] = slope_of(said.margin, said.shift, said.weight, *params["slope"].tolist())
    return found | {"slope": slope, "shift": shift}, every


def _said_of_pairs(
    params: Params,
    x: Any,
    y: np.ndarray,
    bound: np.ndarray,
    found: Mapping[str, Any],
    held: np.ndarray,
    between: Float[np.ndarray, "row vector"] | None,
) -> Iterator[Pair | None]:
    """Yield what rows say about every pair; None where one of the classes has no row."""
    vectors, coef = found["vectors"], found["coef"]
    scores = pair_scores(params, found, x) if between is None else between @ coef + found["intercept"]
    for number, (i, j) in enumerate(combinations(range(len(params["class_cost"])), 2)):
        rows = np.flatnonzero((y == i) | (y == j))
        sign = np.where(y[rows] == i, 1.0, -1.0)
        if abs(sign.sum()) == len(rows):
            yield None
            continue
        margin, count = scores[rows, number] * sign, np.ones(len(rows))
        used = np.flatnonzero(coef[:, number] != 0) if len(held) else held
        if len(used):
            place = np.searchsorted(rows, held[used])
            if len(used) > _MOST_VECTORS:
                some = np.linspace(0, len(used) - 1, _MOST_VECTORS).round().astype(np.int64)
                count[place] = 0.0
                count[place[some]] = len(used) / len(some)
                used, place = used[some], place[some]
            mine = vectors[used]
            kernel = kernel_between(params, mine, mine) if between is None else between[np.ix_(held[used], used)]
            out = left_out(kernel, coef[used, number], scores[held[used], number], bound[held[used]])
            margin[place] = out * sign[place]
        yield Pair(margin, sign * np.log(params["class_cost"][j] / params["class_cost"][i]), count)


def said_of_rows(params: Params, x: np.ndarray, y: np.ndarray) -> tuple[State, list[Pair | None]]:
    """Fit rows, and return the state and what they say about every pair: what slopes are learned from."""
    return _classification(with_costs(params, y), x, y, np.ones(len(y)))


def _solved(
    params: Params, x: Any, y: np.ndarray, weight: np.ndarray, ways: int, pairs: np.ndarray
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Vectors, coefficients and intercepts of every pair, positive for its first class, and the vectors' row numbers.

    Last, the kernel of all rows with the vectors, if it is known.
    """
    coef, intercept, present = np.zeros((0, len(pairs))), np.zeros(len(pairs)), np.unique(y)
    if len(present) < 2:
        return x[:0], coef, intercept, np.zeros(0, dtype=np.int64), None
    key = row_key(x)
    means = np.bincount(y, key, ways) / np.maximum(np.bincount(y, minlength=ways), 1)
    rank = np.full(ways, -1)
    rank[present[np.argsort(means[present], kind="stable")]] = np.arange(len(present))
    order = np.lexsort([rank[y], key])  # by content: neither the order of rows nor the names of classes matter
    model, kernel = SVC(C=float(params["cost"]), **_libsvm(params, x)), _kernel_of(params, x[order])
    _quietly(model, x[order], kernel, rank[y[order]], (params["class_cost"][y] * weight)[order])
    held = order[model.support_]
    coef = np.zeros((len(held), len(pairs)))
    owner, dual = y[held], dense(model.dual_coef_)
    places = {pair: number for number, pair in enumerate(combinations(range(len(present)), 2))}
    for number, (i, j) in enumerate(pairs):
        if rank[i] < 0 or rank[j] < 0:
            continue
        low, high = (i, j) if rank[i] < rank[j] else (j, i)
        sign = (1.0 if low == i else -1.0) * (-1.0 if len(present) == 2 else 1.0)  # of two, libsvm's is turned around
        coef[owner == low, number] = sign * dual[rank[high] - 1][owner == low]
        coef[owner == high, number] = sign * dual[rank[low]][owner == high]
        intercept[number] = sign * model.intercept_[places[int(rank[low]), int(rank[high])]]
    back = np.argsort(held)
    between = None if kernel is None else kernel[np.ix_(np.argsort(order), model.support_[back])]
    return x[held[back]], coef[back], intercept, held[back].astype(np.int64), between


def _regression(params: Params, x: Any, y: np.ndarray, weight: np.ndarray) -> dict[str, Any]:
    bound = float(params["cost"]) * weight
    if len(y) == 0:
        return {"vectors": x[:0], "label": y, "coef": np.zeros((0, 1)), "intercept": np.zeros(1), "noise": np.ones(())}
    if len(y) > MOST_ROWS:
        _announce(len(y))
        vectors, coef, intercept = approximate_machine(params, x, y[:, None], bound, epsilon=float(params["epsilon"]))
        rest = y - pair_scores(params, {"vectors": vectors, "coef": coef, "intercept": intercept}, x)[:, 0]
        noise = np.square(rest).mean()
        found = {"vectors": vectors, "label": np.full(len(vectors), np.nan), "coef": coef, "intercept": intercept}
        return found | {"noise": np.maximum(noise, 1e-12)}
    model = SVR(C=float(params["cost"]), epsilon=float(params["epsilon"]), **_libsvm(params, x))
    sorting = np.lexsort([y, row_key(x)])
    kernel = _kernel_of(params, x[sorting])
    _quietly(model, x[sorting], kernel, y[sorting], weight[sorting])
    held = sorting[model.support_]
    order = np.argsort(held)
    held = held[order]
    coef, intercept = dense(model.dual_coef_).T[order], np.array(model.intercept_)
    vectors = x[held]
    if len(held) <= _MOST_VECTORS:
        inside = model.support_[order]
        between = kernel_between(params, vectors, vectors) if kernel is None else kernel[np.ix_(inside, inside)]
        said = left_out(between, coef[:, 0], between @ coef[:, 0] + intercept[0], bound[held])
    else:
        said = pair_scores(params, {"vectors": vectors, "coef": coef, "intercept": intercept}, vectors)[:, 0]
    # rows that are no support vectors lie anywhere within epsilon
    lost = np.square(y[held] - said).sum() + (len(y) - len(held)) * float(params["epsilon"]) ** 2 / 3.0
    spread = np.minimum(lost / len(y), np.square(y - y.mean()).mean() * (1.0 + 1.0 / len(y)))
    found = {"vectors": vectors, "label": y[held], "coef": coef, "intercept": intercept}
    return found | {"noise": np.maximum(spread, 1e-12)}


def _libsvm(params: Params, x: Any) -> dict[str, Any]:
    iterations = int(np.clip(_WORK / max(x.shape[0] * (x.shape[1] + 5), 1), *_ITERATIONS))
    return {
        "kernel": KERNELS[int(params["kernel"])],
        "gamma": float(params["gamma"]),
        "degree": int(params["degree"]),
        "coef0": float(params["coef0"]),
        "max_iter": iterations,
        "tol": 1e-7 if x.shape[0] <= _FEW_ROWS else 1e-3,
    }


def _kernel_of(params: Params, x: Any) -> Float[np.ndarray, "row row"] | None:
    """A Gaussian kernel that libsvm would be longer at; None of other kernels, of many rows and of few columns."""
    few, wide = x.shape[0] <= _KNOWN_ROWS, x.shape[1] >= _WIDE
    if not (few and wide) or KERNELS[int(params["kernel"])] != "rbf" or hasattr(x, "toarray"):
        return None
    found = kernel_between(params, x, x)
    np.fill_diagonal(found, 1.0)
    return found


def _quietly(model: Any, x: Any, kernel: np.ndarray | None, y: np.ndarray, weight: np.ndarray) -> None:
    """Fit, to the kernel if it is known; libsvm's own warning becomes one that says what to do."""
    if kernel is not None:
        model.kernel, x = "precomputed", kernel
    checked = config_context(assume_finite=True, skip_parameter_validation=True)
    with checked, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y, sample_weight=None if (weight == 1.0).all() else weight)
    if model.max_iter in np.atleast_1d(model.n_iter_):
        warnings.warn(
            f"The support vector machine ({len(y)} rows) was stopped after {model.max_iter} iterations, short of its "
            "solution; lower C, or scale the columns.",
            UnsolvedWarning,
            stacklevel=2,
        )


def _announce(rows: int) -> None:
    warnings.warn(
        f"{rows} rows are more than {MOST_ROWS}: the kernel is approximated by some of the rows, with the squared loss.",
        ApproximationWarning,
        stacklevel=2,
    )


def _signs(y: np.ndarray, pairs: np.ndarray) -> Float[np.ndarray, "row pair"]:
    """1 for the first class of a pair, -1 for its second, 0 for rows of others."""
    return (y[:, None] == pairs[:, 0]).astype(float) - (y[:, None] == pairs[:, 1])


def _blocks(x: Any, vectors: Any) -> Iterator[Any]:
    step = max(1, _BLOCK // max(1, *vectors.shape))
    for start in range(0, x.shape[0], step):
        yield x[start : start + step]
