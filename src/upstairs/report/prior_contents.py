"""What a prior contains, in words that people know: why it has its form, its largest weights, scales, or tree."""

from __future__ import annotations

from typing import Any

import numpy as np

from upstairs.inner.hidden import width
from upstairs.report import page as parts

__all__ = ["chosen", "kernel_scales", "prior_parts", "prior_weights"]

LARGEST = 12
MOST_LEAVES = 40
"""Trees with more leaves are not written out."""


def chosen(prior: Any) -> str:
    """Say why a prior has the form that it has."""
    choice = prior.settings["choice"]
    return str(choice["reason"] if "experience" in prior.settings else choice)


def prior_weights(prior: Any) -> tuple[str, list[tuple[str, float, float]]]:
    """Weights of a Gaussian prior: in which units, and name, mean over tasks and spread between tasks, the largest first.

    No weights if the prior has none that belong to columns.
    """
    params = prior.group("params")
    if prior.settings["rule"] != "bayesian-linear" or not {"mean", "factor", "weight"} <= params.keys():
        return "", []
    classes = [str(label) for label in prior.settings["classes"]]
    regression = prior.settings["kind"] == "regression"
    mean, factor = (params[name][:, None] if regression else params[name] for name in ("mean", "factor"))
    share = params["weight"] / params["weight"].sum()
    middle = np.tensordot(share, mean, 1)  # latent column
    square = np.tensordot(share, np.square(factor).sum(axis=3) + np.square(mean), 1)
    spread = np.sqrt(np.maximum(square - np.square(middle), 0.0))
    names = _feature_names(prior)
    hidden = width(params)
    names += [f"pooled model {number + 1}" for number in range(middle.shape[1] - len(names) - hidden)]
    names += [f"network feature {number + 1}" for number in range(middle.shape[1] - len(names))]
    cells = []
    for latent in range(len(middle)):
        before = f"{classes[latent]}: " if len(middle) > 1 else ""
        rows = zip(names, middle[latent].tolist(), spread[latent].tolist(), strict=True)
        cells += [(before + name, weight, sd) for name, weight, sd in rows]
    cells.sort(key=lambda cell: -(abs(cell[1]) + cell[2]))
    what = "columns and target in standard deviations" if regression else "columns in standard deviations, log odds"
    return what + (f" of {classes[1]}" if len(classes) == 2 else ""), cells


def kernel_scales(meta: Any, largest: int) -> list[tuple[str, float]]:
    """Features that a learned kernel looks at most finely, and how many widths a standard deviation of each is."""
    return sorted(meta.feature_scales_.items(), key=lambda entry: -entry[1])[:largest]


def prior_parts(meta: Any) -> list[parts.Html]:
    """Describe the prior of a fitted meta-learner, for a page."""
    prior = meta.prior_
    said = prior.provenance
    unit = "classes" if prior.settings.get("labels") == "own" else "tasks"
    found = [
        parts.paragraph(f"Learned from {said.get('tasks', '?')} {unit}, {said.get('rows', '?')} rows. {chosen(prior)}.")
    ]
    what, cells = prior_weights(prior)
    if cells:
        rows = [[name, f"{mean:+.3f}", f"{spread:.3f}"] for name, mean, spread in cells[:LARGEST]]
        caption = f"Largest weights ({what}): where a new task starts, and how far tasks lie apart"
        found.append(parts.table(("weight", "mean", "spread between tasks"), rows, numbers=[1, 2], caption=caption))
    if "params/map" in prior.arrays and prior.arrays["params/map"].ndim == 1:
        scales = [[name, f"{value:.3f}"] for name, value in kernel_scales(meta, LARGEST)]
        caption = "Finest scales of the kernel: so many widths are a standard deviation of the column"
        found.append(parts.table(("feature", "scale"), scales, numbers=[1], caption=caption))
    if prior.settings["rule"] == "tree" and "experience" not in prior.settings:
        tree = meta.adapt_zero()
        found.append(parts.paragraph(f"The tree that tasks share has {tree.n_leaves_} leaves."))
        if tree.n_leaves_ <= MOST_LEAVES:
            found.append(parts.code(tree.export_text()))
    return found


def _feature_names(prior: Any) -> list[str]:
    names = ["constant"]
    for column in prior.settings["encoder"]["columns"]:
        if column["kind"] == "category":
            names += [f"{column['name']} = {value}" for value in column["categories"]]
        else:
            names += [column["name"], *([f"{column['name']} missing"] if column["flag"] else [])]
    return names
