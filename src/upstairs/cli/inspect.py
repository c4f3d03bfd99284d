"""``upstairs inspect``: what is inside a stored prior or model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["inspect"]

LEAVES = 40
"""Trees with more leaves are not written out."""
BEST = 5
"""Looks at held-out tasks that are shown of a training run."""


def inspect(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Prior that upstairs fit wrote, or model of upstairs adapt.")
    ],
    largest: Annotated[
        int, typer.Option("--largest", metavar="N", help="So many of the largest weights are listed.")
    ] = 10,
) -> None:
    """Show what is inside a prior or an adapted model: how it was chosen, columns, weights, sizes.

    \b
    Example:
      upstairs inspect prior/
    """  # noqa: D301
    from upstairs.cli.common import load_any, show
    from upstairs.learners.meta import MetaLearner
    from upstairs.report import candidate_table, plain_table, weight_table
    from upstairs.report.prior_contents import chosen, prior_weights

    found = load_any(folder)
    is_prior = isinstance(found, MetaLearner)
    prior = found.prior_ if is_prior else found.prior
    show(f"{folder}: {'a prior' if is_prior else 'an adapted model'} ({type(found).__name__})")
    arrays = prior.arrays if prior is not None else {}
    if not is_prior:
        show(plain_table(("this model", ""), _model_lines(found)))
        arrays = dict(found.adapted_.state) if hasattr(found, "adapted_") else {}
    if prior is None:
        show("It was learned without a prior.")
    else:
        show(plain_table(("its prior", ""), _prior_lines(prior)), "", f"Chosen: {chosen(prior)}.")
    if is_prior and "experience" in prior.settings:
        show(*_settings_lines(found.experience_, largest, plain_table))
    elif is_prior:
        report = list(prior.settings.get("report", []))
        kernels = prior.settings.get("outer", {}).get("kernels", [])
        if kernels:
            show("", "Forms of expectation, on tasks that they had not seen:", candidate_table(report))
            show("", "Kernels around them, on tasks that they had not seen:", candidate_table(kernels))
        elif report and "best_step" in prior.settings["outer"]:
            best = sorted(report, key=lambda entry: entry["loss"])[:BEST]
            show("", f"Best of {len(report)} looks at held-out tasks:", candidate_table(best))
        elif report:
            show("", "Candidates, on tasks that they had not seen:", candidate_table(report))
        if "params/map" in prior.arrays and prior.arrays["params/map"].ndim == 1:
            show(*_scales(found, largest, plain_table))
        if prior.settings["rule"] == "bayesian-linear":
            what, cells = prior_weights(prior)
            if cells:
                show("", f"Largest weights of the prior ({what}):", weight_table(cells[:largest]))
        if prior.settings["rule"] == "tree":
            show(*_tree("The tree that tasks share", found.adapt_zero()))
    if hasattr(found, "export_text"):
        show(*_tree("The tree", found))
    sizes = [(name, " x ".join(map(str, array.shape)) or "1", str(array.dtype)) for name, array in arrays.items()]
    total = sum(array.nbytes for array in arrays.values()) / 1024
    show(
        "",
        f"Arrays{'' if is_prior else ' learned on this task'}, {total:.1f} KiB:",
        plain_table(("array", "shape", "type"), sizes),
    )


def _tree(title: str, model: Any) -> list[str]:
    return ["", f"{title}, {model.n_leaves_} leaves:", *([model.export_text()] if model.n_leaves_ <= LEAVES else [])]


def _prior_lines(prior: Any) -> list[tuple[str, str]]:
    settings = prior.settings
    if settings["kind"] == "loss":
        return _loss_lines(prior)
    if "experience" in settings:
        return _tuner_lines(prior)
    columns = [
        column["name"] + (" (category)" if column["kind"] == "category" else "")
        for column in settings["encoder"]["columns"]
    ]
    lines = [
        ("hash", prior.hash),
        ("family", prior.family),
        ("kind", settings["kind"] + (f", {settings['labels']} labels" if settings.get("labels") else "")),
        ("rule", settings["rule"]),
        (
            "learned from",
            f"{prior.provenance.get('tasks', '?')} {_units(settings)}, {prior.provenance.get('rows', '?')} rows",
        ),
        ("support rows", _shots(settings.get("shots"))),
        ("columns", f"{len(columns)}: {_some(columns)}"),
    ]
    if "net" in settings:
        lines.append(("network", _network(settings["net"])))
    if settings["classes"]:
        lines.append(("classes", _some([str(label) for label in settings["classes"]])))
    return lines


def _loss_lines(prior: Any) -> list[tuple[str, str]]:
    settings = prior.settings
    families = [_some([name for name, _ in shapes]) for shapes in settings["shapes"]]
    drawn = [
        "as many problems as were needed" if count is None else f"{count} problems"
        for count in prior.provenance["problems"]
    ]
    return [
        ("hash", prior.hash),
        ("family", prior.family),
        ("kind", "losses"),
        ("rule", f"{settings['descent']['is']}, {settings['steps']} steps"),
        ("gradient", settings["gradient"]),
        *(("weights", f"{names}; {said}") for names, said in zip(families, drawn, strict=True)),
    ]


def _tuner_lines(prior: Any) -> list[tuple[str, str]]:
    said, estimator = prior.provenance, prior.settings["estimator"]
    lines = [
        ("hash", prior.hash),
        ("family", prior.family),
        ("kind", prior.settings["kind"]),
        ("estimator", estimator["name"] or estimator["class"]),
        ("learned from", f"{said['tasks']} data sets in {said['groups']} groups, {said['settings']} settings"),
        ("measured by", said["measure"]),
        *((name.replace("_", " "), f"{value:g}") for name, value in prior.settings.get("fixed", {}).items()),
    ]
    return lines + ([("date", said["date"])] if "date" in said else [])


def _scales(meta: Any, largest: int, plain_table: Any) -> list[Any]:
    """Name the features that the kernel looks at most finely."""
    from upstairs.report.prior_contents import kernel_scales

    rows = [(name, f"{value:.3f}") for name, value in kernel_scales(meta, largest)]
    return [
        "",
        "Finest scales of the kernel (a standard deviation of the column is so many widths):",
        plain_table(("feature", "scale"), rows),
    ]


def _settings_lines(table: Any, largest: int, plain_table: Any) -> list[Any]:
    """Name the settings that are best over all data sets."""
    import numpy as np

    means = table.full_losses.mean(axis=0)
    rows = [
        (", ".join(f"{k}={v}" for k, v in table.settings[n].items()) or "(the estimator's own)", f"{means[n]:.3f}")
        for n in np.argsort(means, kind="stable")[:largest]
    ]
    return [
        "",
        "Best settings over all data sets (mean loss, 0 is the best of each):",
        plain_table(("settings", "loss"), rows),
    ]


def _network(net: Any) -> str:
    if net["name"] == "own":
        return f"{net['class']} of your own, {len(net['shapes'])} arrays"
    widths = [" x ".join(map(str, net["inputs"])), *map(str, net["sizes"])] + (
        [str(net["outputs"])] if net["outputs"] else []
    )
    return f"{net['name']}, {' - '.join(widths)}"


def _units(settings: Any) -> str:
    return "classes" if settings.get("labels") == "own" else "tasks"


def _shots(shots: Any) -> str:
    if shots is None:
        return "as many as came"
    return " to ".join(map(str, shots)) if isinstance(shots, list) else str(shots)


def _some(names: list[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _model_lines(model: Any) -> list[tuple[str, str]]:
    if not hasattr(model, "adapted_"):
        return _recommended_lines(model)
    adapted = model.adapted_
    lines = [
        ("rows", str(adapted.rows)),
        ("used the prior", "yes" if adapted.used_prior else "no"),
        ("familiarity", "unknown" if adapted.familiarity is None else f"{adapted.familiarity:.0f} of 100"),
        ("numbers kept", str(sum(array.size for array in adapted.state.values()))),
    ]
    if adapted.reason:
        lines.append(("guard", adapted.reason))
    if getattr(model, "settings_", None):
        lines.append(("settings", ", ".join(f"{name}={value}" for name, value in model.settings_.items())))
    if hasattr(model, "classes_"):
        lines.append(("classes", _some([str(label) for label in model.classes_])))
    return lines


def _recommended_lines(model: Any) -> list[tuple[str, str]]:
    familiar = "unknown" if model.familiarity_ is None else f"{model.familiarity_:.0f} of 100"
    lines = [
        ("estimator", type(model.estimator_).__name__),
        ("settings", ", ".join(f"{name}={value}" for name, value in model.settings_.items()) or "its own"),
        ("used the prior", "yes" if model.used_prior_ else "no"),
        ("familiarity", familiar),
    ]
    return lines + ([("guard", model.guard_reason_)] if model.guard_reason_ else [])
