"""From tasks to a prior by gradients: hold some tasks out, train on the others, keep what predicts the held-out best."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import PriorMismatchError, UnsolvedWarning
from upstairs.inner.rule import AdaptationRule
from upstairs.learners.learn import Plan
from upstairs.learners.networks import Purpose, check_alone, net_for, net_from, net_settings
from upstairs.learners.rules import check_serves, needs_net, plain_rule, rule_from, traced_class, traced_rule
from upstairs.learners.seen import (
    Seen,
    classes_of,
    encoded,
    held_out,
    held_rows,
    more_rows,
    prior_of,
    seen_of_classes,
)
from upstairs.outer.calibrate import interval_factors, tables_from
from upstairs.outer.loop import Outcome
from upstairs.outer.metric import Classes, draw_episodes
from upstairs.outer.training import Training, train
from upstairs.prior import Prior
from upstairs.tasks.batches import FlatRows, concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet
from upstairs.values import restored, stored

if TYPE_CHECKING:
    from upstairs.inner.traced import TracedRule
    from upstairs.nets.build import Net
    from upstairs.outer.draws import Draw, TaskDraw, WindowDraw
    from upstairs.outer.sources import Source

__all__ = ["Material", "learn_by_gradients", "learn_on_by_gradients", "network", "trained_prior"]

SHOTS = {"shared": (1, 20), "own": (1, 5)}
WAYS, PROTOTYPE_WAYS = 5, 20
EPISODES = 100
MOST_UNSOLVED = 0.1
"""Share of the first gradient of a task's problem that may be left where a rule relies on its solution."""
HEAVY_DRAWS = 40
"""Draws a size for the tables of a prior whose every prediction takes long."""


def learn_by_gradients(
    tasks: TaskSet | ClassPool, validation: TaskSet | ClassPool | None, plan: Plan
) -> tuple[Prior, Seen | None]:
    """Make a prior from tasks in canonical order.

    Parameters
    ----------
    tasks
        Training tasks.
    validation
        Tasks that say when to stop, and that familiarity, guard and intervals are measured on; None: a fifth of the
        training tasks (whole groups), which are then not trained on.
    plan
        For a method that is trained by gradients, or for "prototype" with a network.

    Returns
    -------
    prior
    seen
        Encoded rows of the tasks; None for a large store, whose rows are never all in memory.
    """
    from upstairs.learners.learn_store import is_streamed, learn_from_store

    own = isinstance(tasks, ClassPool) or tasks.labels == "own"
    kind = "own" if own else "regression" if getattr(tasks, "kind", "") == "regression" else "shared"
    if plan.method != "prototype":
        check_serves(plan.method, kind)
    settings: dict[str, Any] = {"rule": plan.method, "shots": plan.shots, "ways": plan.ways}
    settings["options"] = stored(dict(plan.options))
    if not own:
        assert isinstance(tasks, TaskSet)
        if is_streamed(tasks):
            return learn_from_store(tasks, validation, settings, plan), None
        described, seen, encoder = encoded(tasks, plan.categorical)
        settings |= described
        held = held_rows(validation, encoder, settings)
        net = network(plan, (encoder.width,), encoder, max(len(tasks.classes), 1))
        return _train_shared(seen, held, settings, plan, net), seen
    encoder, shape = _own_encoder(tasks, plan)
    classes, names = classes_of(tasks, encoder)
    settings |= {"kind": "classification", "labels": "own", "classes": [], "target": [0.0, 1.0]}
    settings["encoder"] = encoder.spec()
    most = int(np.bincount(classes.owner).max())
    ways = plan.ways or (min(WAYS, most) if isinstance(tasks, ClassPool) else most)
    if len(shape) > 1:
        settings["image"] = list(shape)
    net = network(plan, shape, encoder, ways)
    seen = _seen_classes(tasks, classes, names)
    judges = None if validation is None else classes_of(validation, encoder)[0]
    return _train_own(seen, classes.group, judges, settings, plan, net, ways), seen


def learn_on_by_gradients(prior: Prior, seen: Seen, tasks: TaskSet | ClassPool, plan: Plan) -> tuple[Prior, Seen]:
    """Train on from the params of a prior, on the tasks seen before and more."""
    settings = dict(prior.settings)
    encoder = Encoder.from_spec(settings["encoder"])
    plan = dataclasses.replace(plan, options=restored(settings["options"]))
    params = prior.group("params")
    net = net_from(settings["net"], plan.net) if "net" in settings else None
    if settings["labels"] != "own":
        together = seen.extended(more_rows(tasks, encoder, settings))
        return _train_shared(together, None, settings, plan, net, params), together
    classes, names = classes_of(tasks, encoder)
    together = seen.extended(_seen_classes(tasks, classes, names))
    if settings["rule"] == "prototype":
        params = {name: array for name, array in params.items() if name.startswith("net/")}
        learned = prior.group("params")
        params["temperature"] = np.log(learned["temperature"])
        if plan.options.get("diagonal"):
            params["scale"] = np.log(np.diag(learned["transform"]))
    ways = settings["spec"][1] if "spec" in settings else plan.ways or WAYS
    groups = np.arange(len(together.names))
    return _train_own(together, groups, None, settings, plan, net, ways, params), together


def network(plan: Plan, shape: tuple[int, ...], encoder: Encoder, outputs: int) -> Net | None:
    """Return the network that a plan asks for, or None for a method without."""
    if plan.method == "prototype":
        net = net_for(plan.net, shape, encoder.width, outputs, "prototype features")
        check_alone(net, plan.method)
        return net
    if not needs_net(plan.method):
        return None
    if plan.net is None:
        raise ValueError(
            f"method={plan.method!r} learns a network, but there is to be none (net=); use net='auto', or method='bayesian-linear'."
        )
    purpose: Purpose = "prototype features" if traced_class(plan.method).features else "predictions"
    return net_for(plan.net, shape, encoder.width, outputs, purpose)


def _own_encoder(tasks: TaskSet | ClassPool, plan: Plan) -> tuple[Encoder, tuple[int, ...]]:
    """Encode columns as always, but images by one centre and scale."""
    if isinstance(tasks, TaskSet):
        encoder = Encoder.fit(concatenate_columns(list(tasks)), categorical=plan.categorical)
        return encoder, (encoder.width,)
    shape = tasks.X.shape[1:]
    columns = int(np.prod(shape))
    if len(shape) == 1:
        return Encoder.fit(tasks.X.astype(np.float64), categorical=plan.categorical), shape
    if tasks.X.dtype == np.uint8:
        return Encoder.uniform(columns, scale=255.0), shape
    low, high = float(tasks.X.min()), float(tasks.X.max())
    return Encoder.uniform(columns, center=low, scale=(high - low) or 1.0), shape


def _seen_classes(tasks: TaskSet | ClassPool, classes: Classes, names: tuple[str, ...]) -> Seen:
    """Rows class after class; the group of a class is the task that it belongs to."""
    owners = ("pool",) * len(names) if isinstance(tasks, ClassPool) else tuple(n.rsplit("/", 1)[0] for n in names)
    return seen_of_classes(classes, names, owners)


def _train_shared(
    seen: Seen,
    held: Seen | None,
    settings: dict[str, Any],
    plan: Plan,
    net: Net | None,
    start: Mapping[str, np.ndarray] | None = None,
) -> Prior:
    from upstairs.outer.draws import TaskDraw, flat_data

    fit = seen
    if held is None:
        out = held_out(np.unique(seen.groups, return_inverse=True)[1], plan.seed)
        fit, held = seen.some(~out), seen.some(out)
    material = Material(
        TaskDraw,
        lambda _: flat_data(FlatRows(fit.x, fit.y, fit.offsets)),
        int(np.diff(fit.offsets).max()),
        fit.names,
        (len(seen.names), len(seen.y)),
    )
    return trained_prior(material, held, settings, plan, net, start)


class Material(NamedTuple):
    """What is trained on: how tasks are drawn, from which data (for a number of tasks a step), and how large it is."""

    draw: type[TaskDraw] | type[WindowDraw]
    data: Callable[[int], Mapping[str, np.ndarray] | Source]
    most_rows: int
    """Of a task."""
    names: Sequence[str]
    size: tuple[int, int]
    """Tasks and rows, those that were held out counted."""


def trained_prior(
    material: Material,
    held: Seen,
    settings: dict[str, Any],
    plan: Plan,
    net: Net | None,
    start: Mapping[str, np.ndarray] | None = None,
) -> Prior:
    """Train on tasks that share targets or labels, judge on those held out, and put the prior together."""
    from upstairs.inner.traced import Spec
    from upstairs.outer.augment import training_draw
    from upstairs.outer.draws import TaskDraw, flat_data

    kind, ways = settings["kind"], len(settings["classes"])
    low, high = plan.shots or SHOTS["shared"]
    high = max(low, min(high, material.most_rows - 1))
    training = (plan.training or Training()).filled(steps=3000, rate=3e-3, batch=25, queries=20)
    assert training.batch is not None
    assert training.queries is not None
    rule = traced_rule(plan.method, net, ways, plan.options)
    spec = Spec((held.x.shape[1],) if net is None else net.inputs, ways)
    judges = (
        TaskDraw(training.batch, (low, high), training.queries),
        flat_data(FlatRows(held.x, held.y, held.offsets)),
    )
    draw = material.draw(training.batch, (low, high), training.queries)
    outcome = train(
        traced_rule(plan.method, _computing(net, training), ways, plan.options),
        spec,
        training_draw(draw, training, "shared" if ways else "regression", ways),
        material.data(training.batch),
        training,
        validation=judges,
        judge_rule=rule,
        seed=plan.seed,
        start=start,
        names=material.names,
        gradient=plan.gradient,
    )
    _check_solved(rule, *judges, outcome.params)
    settings |= _described(plan, outcome, net, spec.inputs, ways, len(held.names), "tasks")
    settings["outer"] = {"steps": outcome.step, "best_step": outcome.best_step}
    adapted = rule_from(settings, plan.net)
    folds = [(outcome.params, [held.task(number) for number in range(len(held.names))])]
    tables = tables_from(adapted, folds, plain=plain_rule(plan.method, kind), ways=ways, seed=plan.seed, **_effort(net))
    if kind == "regression":
        tables |= interval_factors(adapted, folds, seed=plan.seed)
    return prior_of(settings, outcome.params, tables, *material.size)


def _train_own(
    seen: Seen,
    groups: Int[np.ndarray, " class"],
    judges: Classes | None,
    settings: dict[str, Any],
    plan: Plan,
    net: Net | None,
    ways: int,
    start: Mapping[str, np.ndarray] | None = None,
) -> Prior:
    from upstairs.inner.traced import Spec
    from upstairs.outer.augment import training_draw
    from upstairs.outer.draws import EpisodeDraw

    owner = np.unique(seen.groups, return_inverse=True)[1]
    counts = np.diff(seen.offsets)
    whole = Classes(seen.x, np.repeat(np.arange(len(counts)), counts), owner, groups)
    fit = whole
    if judges is None:
        by = groups if len(np.unique(owner)) == 1 else owner
        out = held_out(by, plan.seed)
        fit, judges = whole.select(np.flatnonzero(~out)), whole.select(np.flatnonzero(out))
    rotations = 4 if plan.training is not None and "rotations" in plan.training.strengths else 1
    image = tuple(settings.get("image", ()))
    if rotations > 1 and not image:
        raise PriorMismatchError(
            "Training: augment=('rotations',) turns images, but the tasks' rows have no image axes; pass a ClassPool of images of "
            "shape (row, height, width), or leave it out."
        )
    rule, judge, judged_ways = _own_rules(plan, net, ways, fit, judges, rotations)
    heavy = net is not None and len(net.inputs) > 1
    prototype = plan.method == "prototype"
    training = (plan.training or Training()).filled(
        steps=3000,
        rate=2e-3 if heavy else 1e-3,
        batch=1 if heavy and prototype else 4 if heavy else 8,
        queries=5 if prototype else 15,
    )
    assert training.batch is not None
    assert training.queries is not None
    shots = plan.shots or SHOTS["own"]
    spec = Spec((fit.x.shape[1],) if net is None else net.inputs, ways)
    validation = None
    if judged_ways >= 2:
        validation = EpisodeDraw(20, judged_ways, shots, 15), _pool(judges, image or spec.inputs)
    draw = EpisodeDraw(training.batch, rule.ways, shots, training.queries, rotations)  # type: ignore[attr-defined]
    outcome = train(
        rule,
        spec,
        training_draw(draw, training, "own"),
        _pool(fit, image or spec.inputs),
        training,
        validation=validation,
        judge_rule=judge,
        monitor="error" if prototype else "loss",
        seed=plan.seed,
        start=start,
        gradient=plan.gradient,
    )
    if validation is not None:
        _check_solved(judge, *validation, outcome.params)
    settings |= _described(plan, outcome, net, spec.inputs, ways, len(judges.owner), "classes")
    settings["outer"] = {"steps": outcome.step, "best_step": outcome.best_step}
    params = outcome.params
    if prototype:
        assert net is not None
        params = _prototype_params(net, params, fit.x)
    adapted: AdaptationRule = rule_from(settings, plan.net)
    rng = np.random.default_rng([plan.seed, 1])
    episodes = [episode.whole for episode in draw_episodes(judges, shots, judged_ways, EPISODES, rng)]
    plain = plain_rule("prototype", "classification")
    tables = tables_from(adapted, [(params, episodes)], plain=plain, ways=0, seed=plan.seed, **_effort(net))
    return prior_of(settings, params, tables, len(seen.names), len(seen.y))


def _computing(net: Net | None, training: Training | None) -> Net | None:
    """Return the network that is trained: one that computes in bfloat16, if that was asked for."""
    if training is None or training.precision == "float32":
        return net
    if net is None:
        raise ValueError("Training: precision='bfloat16' is for methods with a network (net=); leave it at 'float32'.")
    from upstairs.nets.precision import computing

    return computing(net, training.precision)


def _own_rules(
    plan: Plan, net: Net | None, ways: int, fit: Classes, judges: Classes, rotations: int
) -> tuple[TracedRule, TracedRule, int]:
    """Rules to train and to judge with, and the number of classes that is judged; prototypes train on more classes."""
    judged = min(ways, int(np.bincount(judges.owner).max(initial=0)))
    half = _computing(net, plan.training)
    if plan.method != "prototype":
        trained, rule = (traced_rule(plan.method, one, ways, plan.options) for one in (half, net))
        return trained, rule, judged
    from upstairs.inner.heads import PrototypeHead

    assert half is not None
    assert net is not None
    most = int(np.bincount(fit.owner).max()) * rotations
    diagonal = bool(plan.options.get("diagonal", False))
    return (
        PrototypeHead(half, min(PROTOTYPE_WAYS, most), diagonal),
        PrototypeHead(net, max(judged, 2), diagonal),
        judged,
    )


def _check_solved(rule: TracedRule, draw: Draw, data: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> None:
    """Warn where a rule is only right at the solution of a task's problem, and its steps do not reach it."""
    from upstairs.outer.scan import unsolved

    left = unsolved(rule, draw, data, params)
    if left > MOST_UNSOLVED:
        warnings.warn(
            f"The inner problem of held-out tasks is not solved: after the inner steps {100 * left:.0f} % of its first gradient is "
            f"left (at most {100 * MOST_UNSOLVED:.0f} % is right), so that the outer gradient is not that of the solution; use more "
            "steps, a larger regulariser, or another rate of descent (options=).",
            UnsolvedWarning,
            stacklevel=2,
        )


def _prototype_params(
    net: Net, params: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"]
) -> dict[str, np.ndarray]:
    from upstairs.inner.features import features_of
    from upstairs.inner.heads import prototype_params

    arrays = {name: array for name, array in params.items() if name.startswith("net/")}
    some = x[np.random.default_rng(0).permutation(len(x))[:1000]]
    return prototype_params(params, features_of(net, {name[4:]: arrays[name] for name in arrays}, some)) | arrays


def _pool(classes: Classes, inputs: tuple[int, ...]) -> dict[str, np.ndarray]:
    from upstairs.outer.draws import pool_data

    alone = len(np.unique(classes.owner)) == 1
    if len(inputs) == 2:
        inputs = (*inputs, 1)
    return pool_data(classes.x, classes.y, inputs, None if alone else classes.owner)


def _described(
    plan: Plan,
    outcome: Outcome,
    net: Net | None,
    inputs: tuple[int, ...],
    ways: int,
    judges: int,
    what: Literal["tasks", "classes"],
) -> dict[str, Any]:
    found: dict[str, Any] = {} if net is None else {"net": net_settings(net)}
    if plan.method != "prototype":
        found["spec"] = [list(inputs), ways]
    name = "" if net is None else f" with the network {net_settings(net)['name']}"
    best = "" if outcome.best_loss is None else f", where {judges} held-out {what} are predicted best"
    found["choice"] = f"{plan.method}{name}: {outcome.reason}; params of step {outcome.best_step}{best}"
    found["report"] = [
        {"name": f"step {step}", "loss": float(loss), "error": float(error)}
        for step, (loss, error) in zip(outcome.check_steps.tolist(), outcome.checks, strict=True)
    ]
    return found


def _effort(net: Net | None) -> dict[str, int]:
    return {"draws": HEAVY_DRAWS} if net is not None and len(net.inputs) > 1 else {}
