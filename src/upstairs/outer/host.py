"""The stepper of fits that cannot be traced: a loss that Python computes, and its gradient by looking around.

A step fits every task of its batch at a few params near the present ones, in parallel, and moves the params by the
mean difference quotient. That suits a handful of params (strengths, widths), not a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, final

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import ndtri

from upstairs.errors import TaskError
from upstairs.outer.fits import run_fits
from upstairs.outer.loop import Metrics, Validation
from upstairs.outer.optimiser import AnyOptimiser, Optimiser, built
from upstairs.storage import content_hash
from upstairs.tasks.batches import FlatRows
from upstairs.tasks.sampler import choose_rows, choose_tasks, integers, uniform, visits

__all__ = ["Fit", "HostStepper"]

Split: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""``x_support, y_support, x_query, y_query`` of one task."""
Fit: TypeAlias = Callable[[Mapping[str, np.ndarray], Split], "float | tuple[float, Mapping[str, np.ndarray]]"]
"""Fit the support rows with some params and return the loss on the query rows (and its gradient, if known)."""

_SHOTS, _DIRECTIONS = 0x51076, 0xD12EC
_VALIDATION_SEED = 0x5EED


@final
class HostStepper:
    """Learn params over tasks through a Python function.

    Parameters
    ----------
    fit : callable
        ``fit(params, (x_support, y_support, x_query, y_query))`` returns the loss of one task, or, with
        ``gradient="given"``, the pair of loss and gradient. A pure function, and one that joblib can send to
        processes if ``backend`` is ``"loky"`` or `joblib.parallel_config` names one that has processes.
    start : dict of arrays
        Params before learning; logs of positive quantities, so that steps are free.
    rows : FlatRows
        Training tasks.
    batch, shots, queries
        As for `upstairs.outer.draws.TaskDraw`.
    gradient : {"differences", "score", "given"}
        Central differences along every param; or an antithetic score estimate along ``pairs`` random directions
        (evolution strategies [1]_), for more params than differences can pay for; or what ``fit`` says.
    width : float
        Half the distance between the two params of a difference, or the standard deviation of a direction.
    pairs : int
        Directions of the score.
    optimiser : Optimiser or optax.GradientTransformation
    validation : FlatRows, optional
    validation_batches : int
    seed : int
    n_jobs : int, optional
        None: as `joblib.parallel_config` says, or 1.
    backend : {"threading", "loky"}
        What `joblib.parallel_config` names goes before it.
    names : sequence of str, optional
    label : str
        Names ``fit`` in the fingerprint of a run.

    References
    ----------
    .. [1] Salimans, T. et al. (2017). Evolution strategies as a scalable alternative to reinforcement learning.
    """

    def __init__(
        self,
        fit: Fit,
        start: Mapping[str, Any],
        rows: FlatRows,
        *,
        batch: int = 16,
        shots: tuple[int, int] = (5, 5),
        queries: int = 20,
        gradient: Literal["differences", "score", "given"] = "differences",
        width: float = 0.05,
        pairs: int = 4,
        optimiser: AnyOptimiser | None = None,
        validation: FlatRows | None = None,
        validation_batches: int = 4,
        seed: int = 0,
        n_jobs: int | None = 1,
        backend: Literal["threading", "loky"] = "threading",
        names: Sequence[str] | None = None,
        label: str = "",
    ) -> None:
        if gradient not in ("differences", "score", "given"):
            raise ValueError(f"gradient must be 'differences', 'score' or 'given', but is {gradient!r}.")
        if len(rows) < 1 or int(rows.counts.min()) < 2:
            raise TaskError("HostStepper needs tasks of at least 2 rows each, support and query; drop smaller ones.")
        self.most = 50
        self._fit, self._rows, self._validation = fit, rows, validation
        self._first = {name: np.asarray(value, np.float64) for name, value in start.items()}
        self._batch, self._shots, self._queries = batch, shots, queries
        self._gradient, self._width, self._pairs = gradient, width, pairs
        self.optimiser = Optimiser(rate=0.05) if optimiser is None else optimiser
        self._batches, self.seed = validation_batches, int(seed)
        self._jobs, self._backend, self._names, self._label = n_jobs, backend, names, label

    def fingerprint(self) -> str:
        """Name the fit, draws, optimiser, seed, data and start."""
        document = {
            "fit": self._label or getattr(self._fit, "__qualname__", type(self._fit).__qualname__),
            "draw": [self._batch, list(self._shots), self._queries, self._gradient, self._width, self._pairs],
            "optimiser": repr(self.optimiser) if isinstance(self.optimiser, Optimiser) else "own",
            "seed": self.seed,
        }
        arrays = {f"start/{name}": array for name, array in self._first.items()}
        for part, rows in (("train", self._rows), ("validation", self._validation)):
            if rows is not None:
                arrays |= {f"{part}/x": rows.x, f"{part}/y": rows.y, f"{part}/offsets": rows.offsets}
        return content_hash(document, arrays)

    def start(self) -> Any:
        """Return the first params, and fresh moments."""
        return dict(self._first), built(self.optimiser).init(_single(self._first))

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        """Make steps."""
        losses: list[float] = []
        for step in range(start, start + count):
            tasks, splits = self._draw(self._rows, self.seed, step)
            values, gradients = self._look_around(state[0], tasks, splits, step)
            bad = np.flatnonzero(~np.isfinite(values) | ~np.isfinite(gradients).all(axis=1))
            if len(bad):
                return state, Metrics(np.array(losses, np.float32), step, int(tasks[bad[0]]))
            state = self._moved(state, gradients.mean(axis=0))
            losses.append(float(values.mean()))
        return state, Metrics(np.array(losses, np.float32))

    def validate(self, state: Any) -> Validation | None:
        """Mean loss on frozen validation tasks."""
        if self._validation is None:
            return None
        drawn = [self._draw(self._validation, _VALIDATION_SEED, number) for number in range(self._batches)]
        names = [f"validation task {task}" for tasks, _ in drawn for task in tasks.tolist()]
        jobs = [(state[0], split) for _, splits in drawn for split in splits]
        loss = float(np.mean([_value(found) for found in self._fits(jobs, names)]))
        return Validation(loss, loss)

    def params(self, state: Any) -> dict[str, np.ndarray]:
        """Return the prior's arrays."""
        return {name: np.array(array) for name, array in state[0].items()}

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """Lay out params and moments."""
        import jax

        leaves = jax.tree.leaves(state[1])
        packed = {f"params/{name}": array for name, array in state[0].items()}
        return packed | {f"moments/{number}": np.asarray(leaf) for number, leaf in enumerate(leaves)}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Undo `pack`."""
        import jax

        params = {name: np.array(arrays[f"params/{name}"]) for name in self._first}
        leaves, tree = jax.tree.flatten(self.start()[1])
        return params, jax.tree.unflatten(tree, [arrays[f"moments/{number}"] for number in range(len(leaves))])

    def name(self, task: int) -> str:
        """Name a task."""
        return str(task if self._names is None else self._names[task])

    def _draw(self, rows: FlatRows, seed: int, step: int) -> tuple[np.ndarray, list[Split]]:
        chosen = choose_tasks(seed, step, len(rows), self._batch)
        number = visits(step, len(rows), self._batch)
        low, high = self._shots
        shots = integers(seed, _SHOTS, number, chosen, low=low, high=high, size=1)[..., 0]
        drawn = choose_rows(seed, number, chosen, rows.counts[chosen], high, self._queries, shots=shots)
        splits = []
        for place, task in enumerate(chosen):
            support = rows.offsets[task] + drawn.support[place][drawn.support_mask[place]]
            query = rows.offsets[task] + drawn.query[place][drawn.query_mask[place]]
            splits.append((rows.x[support], rows.y[support], rows.x[query], rows.y[query]))
        return chosen, splits

    def _look_around(
        self, params: Mapping[str, np.ndarray], tasks: np.ndarray, splits: list[Split], step: int
    ) -> tuple[Float[np.ndarray, " task"], Float[np.ndarray, "task param"]]:
        """Loss and gradient of every task."""
        names = [f"task {self.name(task)!r}" for task in tasks.tolist()]
        if self._gradient == "given":
            pairs = self._fits([(params, split) for split in splits], names)
            gradients = np.array([_flat(found[1], params) for found in pairs])
            return np.array([_value(found) for found in pairs]), gradients
        center = _flat(params, params)
        size = len(center)
        exact = self._gradient == "differences"
        directions = np.eye(size) if exact else _normal(self.seed, step, self._pairs, size)
        points = [_shaped(center + sign * self._width * d, params) for d in directions for sign in (1.0, -1.0)]
        repeated = [name for name in names for _ in points]
        found = self._fits([(point, split) for split in splits for point in points], repeated)
        values = np.array([_value(one) for one in found]).reshape(len(splits), len(directions), 2)
        slopes = (values[..., 0] - values[..., 1]) / (2.0 * self._width)
        share = 1.0 if exact else 1.0 / len(directions)
        return values.mean(axis=(1, 2)), share * slopes @ directions

    def _fits(self, jobs: list[tuple[Mapping[str, np.ndarray], Split]], names: list[str]) -> list[Any]:
        prefer: Literal["threads", "processes"] = "threads" if self._backend == "threading" else "processes"
        fit = self._fit  # alone: a stepper is large
        found = dict(run_fits(lambda job: fit(*job), jobs, names=names, n_jobs=self._jobs, prefer=prefer))
        return [found[number] for number in range(len(jobs))]

    def _moved(self, state: Any, gradient: Float[np.ndarray, " param"]) -> Any:
        import jax

        params, moments = state
        update, moments = built(self.optimiser).update(_single(_shaped(gradient, params)), moments, _single(params))
        new = {name: np.asarray(params[name] + np.asarray(update[name], np.float64)) for name in params}
        return new, jax.tree.map(np.asarray, moments)


def _single(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def _value(found: Any) -> float:
    return float(found[0] if isinstance(found, tuple) else found)


def _flat(arrays: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> Float[np.ndarray, " param"]:
    return np.concatenate([np.ravel(np.asarray(arrays[name], np.float64)) for name in like])


def _shaped(flat: Float[np.ndarray, " param"], like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.cumsum([np.size(array) for array in like.values()])
    parts = np.split(flat, ends[:-1])
    return {name: part.reshape(np.shape(like[name])) for name, part in zip(like, parts, strict=True)}


def _normal(seed: int, step: int, count: int, size: int) -> Shaped[np.ndarray, "direction param"]:
    """Standard normal numbers that are a function of (seed, step)."""
    draw = uniform(seed, _DIRECTIONS, step, np.arange(count), size=size).astype(np.float64)
    return ndtri(np.clip(draw + 2.0**-25, 2.0**-25, 1.0 - 2.0**-25))
