"""The update rule that ships with the package, learned on synthetic problems and small nets."""

from __future__ import annotations

import pathlib

import optax

from upstairs.optim.learned import from_prior
from upstairs.prior import Prior
from upstairs.storage import read_folder

__all__ = ["PRETRAINED", "pretrained"]

PRETRAINED = pathlib.Path(__file__).resolve().parent.parent / "priors" / "descent"
"""Where its numbers lie; ``benchmarks/pretrained.py`` made them."""


def pretrained() -> optax.GradientTransformation:
    """Return the update rule that ships, as an Optax transformation for weights of any shape.

    It was learned for the first two hundred steps of small problems, with all rows or with mini-batches; there is nothing
    to tune. ``benchmarks/pretrained.md`` says where it wins and where it fails.

    Returns
    -------
    optax.GradientTransformation
        Its ``update`` needs the weights.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from upstairs.optim import run
    >>> scales = jnp.array([1.0, 30.0])
    >>> _, losses = run(pretrained(), lambda w: (scales * (w - 2.0) ** 2).sum(), jnp.zeros(2), 30)
    >>> bool(losses[-1] < 1e-3 * losses[0])
    True
    """
    document, arrays = read_folder(PRETRAINED)
    held = {name.removeprefix("prior/"): array for name, array in arrays.items() if name.startswith("prior/")}
    stored = document["prior"]
    return from_prior(Prior(stored["family"], stored["settings"], held, document["provenance"]))
