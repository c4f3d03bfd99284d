"""Further training tasks made of those there are: images distorted, noise on features, columns left out, two tasks mixed.

References
----------
.. [1] Yao, H., Zhang, L. and Finn, C. (2022). Meta-learning with fewer tasks through task interpolation. ICLR, arXiv
   2106.02695; equation 4.
.. [2] Zhang, H., Cisse, M., Dauphin, Y. N. and Lopez-Paz, D. (2018). mixup: beyond empirical risk minimization. ICLR.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from upstairs.errors import TaskError
from upstairs.inner.traced import TaskRows
from upstairs.outer.affine import distorted
from upstairs.outer.draws import Draw
from upstairs.outer.synthetic_draws import SyntheticTargets

if TYPE_CHECKING:
    from upstairs.outer.training import Training

__all__ = ["AugmentedDraw", "training_draw"]

_STREAM = 0xA46


@final
@dataclass(frozen=True)
class AugmentedDraw(Draw):
    """What another draw gives, changed at random: a pure function of (data, seed, step), as that one is.

    Support and query rows of a task are changed alike, so that they stay rows of one task. Held-out tasks come from a
    draw of their own, and are never changed.

    Parameters
    ----------
    draw : Draw
    noise : float
        Standard deviation of the normal noise on every feature, in units of the encoded columns (of an image: of the
        range from black to white).
    dropout : float
        Probability, from 0 to below 1, that a task does without a column: it is zero, the mean of an encoded column.
        Of an image it is a pixel.
    affine : float
        Every image is moved, turned and stretched by a map of its own (`upstairs.outer.affine`).
    mixing : float
        Half of the tasks become ``share * task + (1 - share) * another task of the step``, row by row, features and
        numeric targets [1]_; ``share`` is drawn from Beta(mixing, mixing) for each task [2]_. Classes of a task's own
        are mixed pair by pair into new classes; labels that tasks share cannot be.
    classes : bool
        Whether ``y`` are class numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from upstairs.outer.draws import TaskDraw, flat_data
    >>> from upstairs.tasks.batches import FlatRows
    >>> rows = FlatRows(np.ones((8, 3)), np.arange(8.0), np.array([0, 4, 8]))
    >>> plain = TaskDraw(batch=2, shots=(2, 2), queries=2)
    >>> changed = jax.jit(AugmentedDraw(plain, noise=0.1))(flat_data(rows), 0, 1)
    >>> 0.01 < float(changed[1].x.std()) < 0.3, bool((changed[1].y == plain(flat_data(rows), 0, 1)[1].y).all())
    (True, True)
    """

    draw: Draw
    noise: float = 0.0
    dropout: float = 0.0
    mixing: float = 0.0
    affine: float = 0.0
    classes: bool = False
    batch: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", self.draw.batch)
        if self.mixing and self.batch < 2:
            raise TaskError("augment: 'mixing' needs at least 2 tasks a step, but batch=1; use a larger batch.")

    def __call__(self, data: Mapping[str, Any], seed: Any, step: Any) -> tuple[Array, TaskRows, TaskRows]:
        """Draw, and change."""
        tasks, support, query = self.draw(data, seed, step)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _STREAM), step)
        keys = jax.random.split(key, 3)
        if self.affine:
            support, query = (
                rows._replace(x=_distorted(jax.random.fold_in(key, part), rows.x, self.affine))
                for part, rows in enumerate((support, query), start=len(keys))
            )
        if self.mixing:
            support, query = self._mixed(keys[0], support, query)
        if self.dropout:
            kept = jax.random.bernoulli(keys[1], 1.0 - self.dropout, (self.batch, 1, *support.x.shape[2:]))
            support, query = (rows._replace(x=rows.x * kept) for rows in (support, query))
        if self.noise:
            support, query = (
                rows._replace(
                    x=rows.x + self.noise * jax.random.normal(jax.random.fold_in(keys[2], part), rows.x.shape)
                )
                for part, rows in enumerate((support, query))
            )
        return tasks, support, query

    def _mixed(self, key: PRNGKeyArray, support: TaskRows, query: TaskRows) -> tuple[TaskRows, TaskRows]:
        size, whether = jax.random.split(key)
        share = jax.random.beta(size, self.mixing, self.mixing, (self.batch,))
        share = jnp.where(jax.random.bernoulli(whether, 0.5, (self.batch,)), share, 1.0)

        def mixed(rows: TaskRows) -> TaskRows:
            other = jax.tree.map(lambda part: jnp.roll(part, 1, axis=0), rows)
            x = _between(share, rows.x, other.x)
            y = rows.y if self.classes else _between(share, rows.y, other.y)
            alone = (share == 1.0)[:, None]
            return TaskRows(x, y, rows.mask & (other.mask | alone))

        return mixed(support), mixed(query)


def training_draw(draw: Draw, training: Training, kind: Literal["regression", "shared", "own"], ways: int = 0) -> Draw:
    """Put around the draw of the training tasks what a user asked for; held-out tasks come from the draw as it is.

    Parameters
    ----------
    draw : Draw
    training : Training
        ``augment`` and ``synthetic``; images of a pool are turned by the draw itself.
    kind : {"regression", "shared", "own"}
    ways : int
        Classes that tasks share.

    Raises
    ------
    TaskError
        If the tasks cannot be changed in this way.
    """
    asked = training.strengths
    for name in ("rotations", "affine"):
        if kind != "own" and name in asked:
            raise TaskError(
                f"augment: {name!r} turns the images of a ClassPool, but these tasks have columns; use 'noise', 'dropout' or 'mixing'."
            )
    if kind == "shared" and "mixing" in asked:
        raise TaskError(
            "augment: 'mixing' takes the mean of two tasks' targets, but these tasks share labels; use 'noise' or 'dropout'."
        )
    if training.synthetic:
        if kind == "own":
            raise TaskError(
                "Training: synthetic gives rows new targets, but these tasks have labels of their own; leave it at 0."
            )
        draw = SyntheticTargets(draw, training.synthetic, ways)
    given = {name: value for name, value in asked.items() if name != "rotations"}
    return AugmentedDraw(draw, **given, classes=kind == "own") if given else draw


def _distorted(key: PRNGKeyArray, x: Array, strength: float) -> Array:
    grey = x.ndim == 4  # episode, row, height, width
    images = distorted(key, x[..., None] if grey else x, strength)
    return images[..., 0] if grey else images


def _between(share: Array, one: Array, other: Array) -> Array:
    share = share.reshape(-1, *[1] * (one.ndim - 1))
    return share * one + (1.0 - share) * other
