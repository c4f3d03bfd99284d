"""From tasks to a prior by gradients: hold some tasks out, train on the others, keep what predicts the held-out best."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from upstairs.errors import PriorMismatchError
from upstairs.inner.rule import AdaptationRule
from upstairs.learners.learn import Plan
from upstairs.learners.learn_shared import SHARED_SHOTS, train_shared
from upstairs.learners.networks import net_from
from upstairs.learners.rules import check_serves, plain_rule, rule_from, traced_rule
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
from upstairs.learners.trained import check_solved, computing, described_outcome, effort, network, training_of
from upstairs.outer.calibrate import tables_from
from upstairs.outer.metric import Classes, draw_episodes
from upstairs.outer.training import train
from upstairs.prior import Prior
from upstairs.tasks.batches import concatenate_columns
from upstairs.tasks.encoder import Encoder
from upstairs.tasks.pool import ClassPool
from upstairs.tasks.taskset import TaskSet
from upstairs.values import restored, stored

if TYPE_CHECKING:
    from upstairs.inner.traced import TracedRule
    from upstairs.nets.build import Net

__all__ = ["SHOTS", "learn_by_gradients", "learn_on_by_gradients"]

SHOTS = {"shared": SHARED_SHOTS, "own": (1, 5)}
WAYS, PROTOTYPE_WAYS = 5, 20
EPISODES = 100


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
        return train_shared(seen, held, settings, plan, net), seen
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
        return train_shared(together, None, settings, plan, net, params), together
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
    turned = {"rotations", "affine"} & set(plan.training.strengths if plan.training is not None else ())
    if turned and not image:
        raise PriorMismatchError(
            f"Training: augment=({min(turned)!r},) turns images, but the tasks' rows have no image axes; pass a ClassPool of images "
            "of shape (row, height, width), or leave it out."
        )
    rule, judge, judged_ways = _own_rules(plan, net, ways, fit, judges, rotations)
    heavy = net is not None and len(net.inputs) > 1
    prototype = plan.method == "prototype"
    training = training_of(
        plan,
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
        check_solved(judge, *validation, outcome.params)
    settings |= described_outcome(plan, outcome, net, spec.inputs, ways, len(judges.owner), "classes")
    settings["outer"] = outcome.told
    params = outcome.params
    if prototype:
        assert net is not None
        params = _prototype_params(net, params, fit.x)
    adapted: AdaptationRule = rule_from(settings, plan.net)
    rng = np.random.default_rng([plan.seed, 1])
    episodes = [episode.whole for episode in draw_episodes(judges, shots, judged_ways, EPISODES, rng)]
    plain = plain_rule("prototype", "classification")
    tables = tables_from(adapted, [(params, episodes)], plain=plain, ways=0, seed=plan.seed, **effort(net))
    return prior_of(settings, params, tables, len(seen.names), len(seen.y))


def _own_rules(
    plan: Plan, net: Net | None, ways: int, fit: Classes, judges: Classes, rotations: int
) -> tuple[TracedRule, TracedRule, int]:
    """Rules to train and to judge with, and the number of classes that is judged; prototypes train on more classes."""
    judged = min(ways, int(np.bincount(judges.owner).max(initial=0)))
    half = computing(net, plan.training)
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
