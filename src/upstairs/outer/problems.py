"""Families of losses to learn an update rule on: a list of functions, one function with many data, or a sampler."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from upstairs.errors import TaskError
from upstairs.inner.loss_descent import Problem, Shapes
from upstairs.outer.draws import Draw
from upstairs.tasks.sampler import choose_tasks

__all__ = ["Problems", "named", "unnamed"]


@final
class Problems:
    """Many losses of one form, and where their weights start.

    Parameters
    ----------
    loss : callable
        ``loss(weights, data)``, or ``loss(weights, data, key)`` for a loss that draws something (rows, noise) anew in
        every step; returns a number.
    data : pytree of arrays, optional
        What the losses differ in, with a leading axis over problems. Not with ``sample``.
    start : pytree of arrays, or callable
        Weights at the start, the same for all problems; or ``start(key)``, which draws them.
    sample : callable, optional
        ``sample(key)`` draws the data of a problem; there are then as many problems as are asked for.
    judge : callable, optional
        As ``loss``: what a run is judged by, if not the loss that steps go down; such as the loss of rows that are kept
        apart in ``data``.

    Raises
    ------
    TaskError
        If neither or both of data and sample are given, or the loss does not return a number.

    Examples
    --------
    Bowls of which each has its own lowest point.

    >>> import jax.numpy as jnp
    >>> points = jnp.linspace(-1.0, 1.0, 10)
    >>> bowls = Problems(lambda w, point: (w - point) ** 2, points, start=jnp.array(0.0))
    >>> len(bowls)
    10
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        data: Any = None,
        *,
        start: Any,
        sample: Callable[[Any], Any] | None = None,
        judge: Callable[..., Any] | None = None,
    ) -> None:
        if (data is None) == (sample is None):
            raise TaskError(
                "Problems: pass either data (one entry a problem along the first axis) or sample (a function of a random key)."
            )
        self.sample = sample
        self.data = None if data is None else jax.tree.map(_held, data)
        sizes = {len(leaf) for leaf in jax.tree.leaves(self.data)} if data is not None else {0}
        if len(sizes) != 1:
            raise TaskError(
                f"Problems: the arrays of data have {sorted(sizes)} entries along their first axis; they must have the same."
            )
        self.count = None if sample is not None else sizes.pop()
        self.start = start if callable(start) else jax.tree.map(_held, start)
        key = jax.random.key(0)
        weights = jax.eval_shape(start, key) if callable(start) else self.start
        self.tree = jax.tree.structure(weights)
        self.shapes: Shapes = tuple((name, tuple(leaf.shape)) for name, leaf in named(weights).items())
        one = jax.eval_shape(sample, key) if sample is not None else jax.tree.map(lambda leaf: leaf[0], self.data)
        self.loss = _Loss(loss, self.tree, jax.tree.structure(one), _arguments(loss) >= 3)
        self.judge = None if judge is None else _Loss(judge, self.tree, jax.tree.structure(one), _arguments(judge) >= 3)
        one = named(one)
        program = ""
        for name, function in (("loss", self.loss), ("judge", self.judge)):
            if function is None:
                continue
            found = jax.eval_shape(function, named(weights), one, key)
            if getattr(found, "shape", None) != ():
                raise TaskError(
                    f"Problems: {name} must return one number, but returns {jax.tree.map(lambda a: a.shape, found)}."
                )
            zeros = jax.tree.map(_zeros, named(weights)), jax.tree.map(_zeros, one)
            program += str(jax.make_jaxpr(function)(*zeros, key))
        self.name = hashlib.sha256(program.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("These problems are drawn as they are needed; they have no number.")
        return self.count

    def select(self, numbers: Any) -> Problems:
        """Return some of the problems."""
        assert self.data is not None
        some = object.__new__(Problems)
        some.__dict__.update(self.__dict__)
        some.data = jax.tree.map(lambda leaf: leaf[np.asarray(numbers)], self.data)
        some.count = len(np.asarray(numbers))
        return some

    def draw(self, batch: int) -> ProblemDraw:
        """Return how a step draws ``batch`` of these problems."""
        return ProblemDraw(batch, self.sample, self.start if callable(self.start) else None, self.name)

    def arrays(self) -> dict[str, np.ndarray]:
        """What `draw` draws from."""
        found = {f"data/{name}": np.asarray(leaf) for name, leaf in named(self.data).items()} if self.count else {}
        if not callable(self.start):
            found |= {f"start/{name}": np.asarray(leaf) for name, leaf in named(self.start).items()}
        return found

    @classmethod
    def from_functions(cls, functions: Sequence[Callable[[Any], Any]], start: Any) -> list[Problems]:
        """Make families out of single functions of the weights.

        Functions that do the same with other arrays (made in a loop over data) become one family, so that they run side
        by side in one program.

        Parameters
        ----------
        functions : sequence of callable
            Each of the weights alone; arrays that it uses may be NumPy's or JAX's.
        start : pytree of arrays

        Examples
        --------
        >>> import jax.numpy as jnp
        >>> def bowl(point):
        ...     return lambda w: ((w - point) ** 2).sum()
        >>> families = Problems.from_functions([bowl(np.full(3, p)) for p in (1.0, 2.0)], jnp.zeros(3))
        >>> [len(family) for family in families]
        [2]
        """
        start = jax.tree.map(_held, start)
        alike: dict[Any, tuple[Any, list[list[Any]]]] = {}
        for number, function in enumerate(functions):
            try:
                traced = jax.make_jaxpr(function)(start)
            except Exception as error:
                raise TaskError(
                    f"Problem {number}: the loss cannot be traced by JAX ({type(error).__name__}: {error}); write it with jax.numpy."
                ) from error
            if [aval.shape for aval in traced.out_avals] != [()]:
                raise TaskError(f"Problem {number}: the loss must return one number, but returns {traced.out_avals}.")
            program, held = _lifted(traced)
            shapes = tuple((np.shape(value), str(np.asarray(value).dtype)) for value in held)
            alike.setdefault((program, shapes), (traced, []))[1].append(held)
        families = []
        for traced, each in alike.values():
            data = [np.stack([np.asarray(value) for value in values]) for values in zip(*each, strict=True)]
            families.append(cls(_Replayed(traced), data or [np.zeros(len(each))], start=start))
        return families


@final
@dataclass(frozen=True)
class ProblemDraw(Draw):
    """Some problems a step, in random order without repetition, or new ones.

    Parameters
    ----------
    batch : int
    sample : callable, optional
        Draws the data of a problem from a key.
    start : callable, optional
        Draws weights from a key.
    name : str
        What stands for the functions where a training is named.
    """

    batch: int
    sample: Callable[[Any], Any] | None = field(default=None, repr=False)
    start: Callable[[Any], Any] | None = field(default=None, repr=False)
    name: str = ""

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, Any, Any]:
        """Return numbers of problems, problems, and no query rows."""
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), jnp.asarray(step, jnp.uint32)), 2 * self.batch)
        keys = keys.reshape(2, self.batch)
        held = {name: array for name, array in data.items() if name.startswith("data/")}
        if self.sample is not None:
            chosen: Any = jnp.arange(self.batch) + jnp.asarray(step, jnp.int32) * self.batch
            one = named(jax.vmap(self.sample)(keys[0]))
        else:
            count = len(next(iter(held.values())))
            chosen = choose_tasks(seed, step, count, self.batch, jnp)
            one = {name[5:]: jnp.asarray(array)[chosen] for name, array in held.items()}
        if self.start is not None:
            start = named(jax.vmap(self.start)(keys[1]))
        else:
            start = {name[6:]: jnp.asarray(array) for name, array in data.items() if name.startswith("start/")}
            start = {name: jnp.broadcast_to(array, (self.batch, *array.shape)) for name, array in start.items()}
        return chosen, Problem(one, start), None


def named(tree: Any) -> dict[str, Any]:
    """Lay the leaves of a pytree out by their paths.

    Examples
    --------
    >>> named({"layer": [1, 2]}), named(3)
    ({'layer/0': 1, 'layer/1': 2}, {'weights': 3})
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/") or "weights": leaf for path, leaf in leaves}


def unnamed(arrays: Mapping[str, Any], tree: Any) -> Any:
    """Undo `named` for a tree of this structure.

    Examples
    --------
    >>> import jax
    >>> unnamed({"b": 2, "a": 1}, jax.tree.structure({"a": 0, "b": 0}))
    {'a': 1, 'b': 2}
    """
    order = named(jax.tree.unflatten(tree, range(tree.num_leaves)))
    return jax.tree.unflatten(tree, [arrays[name] for name in order])


@final
@dataclass(frozen=True)
class _Loss:
    """A user's loss, of flat dictionaries."""

    loss: Callable[..., Any]
    weights: Any
    data: Any
    random: bool

    def __call__(self, weights: Mapping[str, Array], data: Mapping[str, Array], key: Any) -> Any:
        given = unnamed(weights, self.weights), unnamed(data, self.data)
        return self.loss(*given, key) if self.random else self.loss(*given)


@final
@dataclass(frozen=True, eq=False)
class _Replayed:
    """A function that was traced, run with other arrays in the place of those that it held."""

    traced: Any

    def __call__(self, weights: Any, held: Sequence[Any]) -> Any:
        values = held if self.traced.consts else []
        return jax.core.eval_jaxpr(self.traced.jaxpr, values, *jax.tree.leaves(weights))[0]


def _lifted(traced: Any) -> tuple[str, list[Any]]:
    """Return what a function does, and the arrays that it holds."""
    return str(traced.jaxpr), list(traced.consts)


def _held(leaf: Any) -> np.ndarray:
    """Keep an array in the precision that JAX computes in."""
    return np.asarray(jnp.asarray(leaf))


def _zeros(leaf: Any) -> Array:
    return jnp.zeros(np.shape(leaf), leaf.dtype)


def _arguments(loss: Callable[..., Any]) -> int:
    """Count what a loss can be given by place."""
    try:
        kinds = [entry.kind for entry in inspect.signature(loss).parameters.values()]
    except (TypeError, ValueError):
        return 2
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
