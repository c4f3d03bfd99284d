"""A forgetful mixture: recursive least squares over several sets of columns and forgetting rates, weighted as they predict.

Learned on a stream: running scales of the columns, one posterior for every map of the columns and rate of forgetting
(``upstairs.inner.recursive``), and the weight of each as an expert. Weights are posterior probabilities of a Markov
chain over experts that moves elsewhere with probability ``share`` a row (fixed share, reference [1]; [2] reaches the
same end by a power of the weights). Every row updates the weights, also within a chunk.

Classes are predicted by least squares on their indicators (reference [3]): the means are cut at a floor and brought to
sum one, with each power in ``sharpness`` an expert of its own, so that likelihood says how sure one may be. Nothing is solved but
systems whose precision is at least the prior's; there is no step that could diverge, on quadratic columns either.

A stream of chunks is not the same as a stream of rows: a chunk is predicted by what was known before it, and the columns
of its rows are scaled by what is known after it.

References
----------
.. [1] Herbster, M. and Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32; section 5.
.. [2] Raftery, A. E., Karny, M. and Ettler, P. (2010). Online prediction under model uncertainty via dynamic model
   averaging. Technometrics 52; equations 5 to 9.
.. [3] Hastie, T., Tibshirani, R. and Friedman, J. (2009). The elements of statistical learning, section 4.2.
.. [4] Rahimi, A. and Recht, B. (2007). Random features for large-scale kernel machines. NeurIPS; algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

from upstairs.inner.recursive import checked_forgetting, linear_learn, linear_mean, linear_moments, linear_start
from upstairs.inner.rule import Categorical, Gaussian, Params, Prediction, State
from upstairs.inner.running_scale import scale_learn, scale_of, scale_start, standardised

__all__ = ["MAPS", "ForgetfulMixture"]

SCALE = ("rows", "mean", "square")
LINEAR = ("gram", "cross", "square", "rows", "white", "root")
"""Arrays of `upstairs.inner.running_scale` and `upstairs.inner.recursive` states."""
MAPS = ("raw", "quadratic", "fourier")
"""Maps of standardised columns: themselves; with their products; with random Fourier features."""


@dataclass(frozen=True, slots=True)
class ForgetfulMixture:
    """Settings of a mixture; everything learned is in states (flat dictionaries of arrays), which it never changes.

    Parameters
    ----------
    outputs : int
        Number of classes, or 0 for a regression.
    forgetting : tuple of float
        Rates of forgetting a row.
    share : float
        Probability, a row, that another expert becomes the right one.
    sharpness : tuple of float
        Powers of class probabilities that compete.
    floor : float
        Sum over classes of the least mean that a class may have before powers.
    noise, noise_rows : float
        Variance of a target around its mean (targets have variance 1 in a regression), and the rows this value is worth.
    scale_forgetting : float
        Rate at which running scales of the columns (and of the target) forget.
    bound : float
        Where standardised columns are cut.
    products, frequencies : int
        Most columns of the quadratic map (beyond them a random choice) and number of Fourier features.
    width : float
        Width of the kernel that the Fourier features stand for, in spreads of a column times the root of their number.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> mixture = ForgetfulMixture(outputs=2)
    >>> params = mixture.params(2, seed=0)
    >>> state, x = mixture.start(params), rng.standard_normal((200, 2))
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)
    >>> state = mixture.learn(params, state, x, y)
    >>> bool((mixture.predict(params, state, x).probability[0].argmax(axis=1) == y).mean() > 0.9)
    True
    """

    outputs: int
    forgetting: tuple[float, ...] = (1.0, 0.9995, 0.998, 0.99, 0.97, 0.93)
    share: float = 0.002
    sharpness: tuple[float, ...] = (1.0, 2.0)
    floor: float = 0.02
    noise: float = 0.2
    noise_rows: float = 10.0
    scale_forgetting: float = 0.9998
    bound: float = 4.0
    products: int = 60
    frequencies: int = 100
    width: float = 0.5

    def params(self, columns: int, seed: int) -> dict[str, np.ndarray]:
        """What is drawn once and never learned: which products, frequencies and phases; and the rates of forgetting."""
        rng = np.random.default_rng(seed)
        first, second = np.triu_indices(columns)
        if len(first) > self.products:
            chosen = np.sort(rng.choice(len(first), self.products, replace=False))
            first, second = first[chosen], second[chosen]
        slope = 1.0 / (self.width * np.sqrt(max(columns, 1)))
        return {
            "first": first,
            "second": second,
            "frequency": slope * rng.standard_normal((columns, self.frequencies)),
            "phase": rng.uniform(0.0, 2.0 * np.pi, self.frequencies),
            "forgetting": checked_forgetting(np.array(self.forgetting)),
        }

    def start(self, params: Params) -> State:
        """The state before the first row; experts have equal weights."""
        columns = len(params["frequency"])
        state = _put("scale", scale_start(columns))
        state |= _put("target", scale_start(0 if self.outputs else 1))
        for name in MAPS:
            state |= _put(name, linear_start(self._linear(params, name)))
        experts = len(MAPS) * len(self.forgetting) * (len(self.sharpness) if self.outputs else 1)
        state["weight"] = np.full(experts, 1.0 / experts)
        return state

    def anew(self, params: Params, state: State) -> State:
        """The state before the first row, but for the running scales, which stay those of ``state``."""
        scales = {key: value for key, value in state.items() if key.startswith(("scale/", "target/"))}
        return self.start(params) | scales

    def predict(self, params: Params, state: State, x: Float[np.ndarray, "row column"]) -> Prediction:
        """Predict rows by all experts; the task axis of the answer has length 1."""
        if self.outputs:
            each = self._probabilities(params, state, x)
            return Categorical((state["weight"] @ each.reshape(len(each), -1)).reshape(1, *each.shape[1:]))
        each, spread = self._moments(params, state, x)
        weight = state["weight"][:, None]
        mean = (weight * each).sum(axis=0)
        variance = (weight * (spread + np.square(each - mean))).sum(axis=0)
        target = _take("target", state)
        centre, scale = target["mean"][0], _positive(target)
        return Gaussian((centre + scale * mean)[None], (np.square(scale) * variance)[None])

    def learn(
        self, params: Params, state: State, x: Float[np.ndarray, "row column"], y: Shaped[np.ndarray, " row"]
    ) -> State:
        """Learn rows in their order: weigh the experts by how they predicted them, then let every expert learn them.

        NaN in ``x`` is a missing cell and is taken for the running mean of its column; ``y`` are class numbers or targets.
        """
        if not len(x):
            return dict(state)
        learned = {"weight": self._weigh(params, state, x, y)}
        scale = scale_learn(_take("scale", state), x, self.scale_forgetting)
        learned |= _put("scale", scale)
        if self.outputs:
            learned |= _put("target", scale_start(0))
            goal = np.eye(self.outputs)[y]
        else:
            column = np.asarray(y, dtype=float)[:, None]
            target = scale_learn(_take("target", state), column, self.scale_forgetting)
            learned |= _put("target", target)
            goal = standardised(target, column)
        z = standardised(scale, x, self.bound)
        for name in MAPS:
            linear = self._linear(params, name)
            learned |= _put(name, linear_learn(linear, _take(name, state), self._columns(params, name, z), goal))
        return learned

    def widened(self, state: State, places: Shaped[np.ndarray, " way"]) -> State:
        """The state for more classes: old class ``k`` is now ``places[k]``, the others have never been seen.

        ``self`` has the new number of classes. Exact: it is the state that would have come about with all classes known
        from the start, but for the weights of the experts.
        """
        wide = dict(state)
        for name in MAPS:
            for key, axis in (("cross", 2), ("square", 1), ("white", 1)):
                old = state[f"{name}/{key}"]
                shape = list(old.shape)
                shape[axis] = self.outputs
                new = np.zeros(shape)
                new[(slice(None),) * axis + (places,)] = old
                wide[f"{name}/{key}"] = new
        return wide

    def _linear(self, params: Params, name: str) -> dict[str, np.ndarray]:
        """The prior of one map: weights around 0 with variance 1."""
        columns = 1 + len(params["frequency"])
        columns += {"raw": 0, "quadratic": len(params["first"]), "fourier": len(params["phase"])}[name]
        mean, factor = _prior_weights(columns, self.outputs or 1)
        return {
            "mean": mean,
            "factor": factor,
            "noise": np.asarray(self.noise),
            "noise_rows": np.asarray(self.noise_rows),
            "forgetting": params["forgetting"],
        }

    def _columns(self, params: Params, name: str, z: np.ndarray) -> np.ndarray:
        """One map of standardised columns."""
        parts = [np.ones((len(z), 1)), z]
        if name == "quadratic":
            parts.append(z[:, params["first"]] * z[:, params["second"]])
        elif name == "fourier":
            waves = np.cos(z @ params["frequency"] + params["phase"])
            parts.append(np.sqrt(2.0 / max(len(params["phase"]), 1)) * waves)
        return np.concatenate(parts, axis=1)

    def _probabilities(self, params: Params, state: State, x: np.ndarray) -> Float[np.ndarray, "expert row way"]:
        """Class probabilities of every map, rate and sharpness."""
        z = standardised(_take("scale", state), x, self.bound)
        found = []
        for name in MAPS:
            columns = self._columns(params, name, z)
            mean = linear_mean(self._linear(params, name), _take(name, state), columns)
            cut = np.minimum(np.maximum(mean, self.floor / self.outputs), 1.0)
            for power in self.sharpness:
                raised = cut if power == 1.0 else np.square(cut) if power == 2.0 else cut**power
                found.append(raised / raised.sum(axis=2, keepdims=True))
        return np.concatenate(found)

    def _moments(self, params: Params, state: State, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of a standardised target for every map and rate, each ``(expert, row)``."""
        z = standardised(_take("scale", state), x, self.bound)
        found = []
        for name in MAPS:
            columns = self._columns(params, name, z)
            found.append(linear_moments(self._linear(params, name), _take(name, state), columns))
        return np.concatenate([mean[..., 0] for mean, _ in found]), np.concatenate([v[..., 0] for _, v in found])

    def _weigh(self, params: Params, state: State, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " expert"]:
        """Weights after rows that were predicted by what was known before them."""
        weight = state["weight"]
        if self.outputs:
            likelihood = self._probabilities(params, state, x)[:, np.arange(len(y)), y]
        else:
            target = _take("target", state)
            if not target["rows"][0]:
                return weight
            mean, variance = self._moments(params, state, x)
            miss = (y - target["mean"][0]) / _positive(target) - mean
            log = -0.5 * (np.log(variance) + np.square(miss) / variance)
            likelihood = np.exp(np.maximum(log - log.max(axis=0), -50.0))
        for row in likelihood.T:
            weight = weight * row
            weight = (1.0 - self.share) * weight / weight.sum() + self.share / len(weight)
        return weight


def _put(name: str, arrays: State) -> State:
    return {f"{name}/{key}": value for key, value in arrays.items()}


def _take(name: str, state: State) -> State:
    return {key: state[f"{name}/{key}"] for key in (SCALE if name in ("scale", "target") else LINEAR)}


@lru_cache(maxsize=256)
def _prior_weights(columns: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and factor of weights around 0 with variance 1; read only."""
    mean, factor = np.zeros((columns, outputs)), np.eye(columns)
    mean.setflags(write=False)
    factor.setflags(write=False)
    return mean, factor


def _positive(target: State) -> float:
    """Spread of the target; of a constant one, what rounding leaves of it."""
    return max(float(scale_of(target)[0]), 1e-9 * (1.0 + abs(float(target["mean"][0])))) if target["rows"][0] else 1.0
