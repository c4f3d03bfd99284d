"""Which adaptation rule a method stands for, and how a stored prior is read back into one."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from upstairs.errors import TaskError
from upstairs.inner.gaussian import BayesianLinear
from upstairs.inner.logistic import BayesianLogistic
from upstairs.inner.prior_machine import PriorMachine
from upstairs.inner.prior_tree import PriorTree
from upstairs.inner.prototype import Prototype
from upstairs.inner.rule import AdaptationRule, PlainRule
from upstairs.inner.smoothed_tree import SmoothedTree
from upstairs.inner.support_vectors import SupportVectors
from upstairs.learners.networks import net_from
from upstairs.values import restored, stored

if TYPE_CHECKING:
    from upstairs.inner.traced import Spec, TracedRule
    from upstairs.nets.build import Net

__all__ = [
    "CLOSED",
    "DESCENT",
    "MACHINE",
    "METHODS",
    "TREE",
    "check_options",
    "check_serves",
    "needs_net",
    "plain_rule",
    "rule_from",
    "traced_class",
    "traced_rule",
]

_PLAIN: dict[tuple[str, str], PlainRule] = {
    ("bayesian-linear", "regression"): BayesianLinear(),
    ("bayesian-linear", "classification"): BayesianLogistic(),
    ("prototype", "classification"): Prototype(),
    ("machine", "regression"): SupportVectors("regression"),
    ("machine", "classification"): SupportVectors("classification"),
    ("tree", "regression"): SmoothedTree("regression"),
    ("tree", "classification"): SmoothedTree("classification"),
}
_TRACED: dict[str, str] = {
    "maml": "upstairs.inner.gradient:Maml",
    "fomaml": "upstairs.inner.fomaml:FirstOrderMaml",
    "meta-sgd": "upstairs.inner.meta_sgd:MetaSGD",
    "maml++": "upstairs.inner.maml_plus:MamlPlusPlus",
    "anil": "upstairs.inner.anil:Anil",
    "boil": "upstairs.inner.anil:Boil",
    "imaml": "upstairs.inner.implicit:ImplicitMaml",
    "proto-maml": "upstairs.inner.proto_maml:ProtoMaml",
    "reptile": "upstairs.inner.gradient:Reptile",
    "ridge": "upstairs.inner.ridge:RidgeHead",
    "svm": "upstairs.inner.svm_head:SvmHead",
    "in-context": "upstairs.inner.context:InContext",
    "descent": "upstairs.inner.row_descent:RowDescent",
}
"""Rules that are trained by gradients, and where their classes are."""
CLOSED = ("bayesian-linear", "prototype")
_OF_CLOSED = {"prototype": ("diagonal",)}
"""Options of the methods that are not always trained by gradients."""
DESCENT = "descent"
"""The rule of `MetaGradientDescent`."""
MACHINE = "machine"
"""The rule of `MetaSVM`."""
TREE = "tree"
"""The rule of `MetaDecisionTree`; all others are methods of `MetaNeuralNetwork`."""
METHODS = (*CLOSED, *(name for name in _TRACED if name != DESCENT))


def plain_rule(method: str, kind: str, labels: str | None = None) -> PlainRule:
    """Return the base learner without a prior: that of the method, or the closed form for its kind of tasks."""
    if method not in (*CLOSED, MACHINE, TREE):
        method = "prototype" if labels == "own" else "bayesian-linear"
    return _PLAIN[method, kind]


def traced_class(method: str) -> type[TracedRule]:
    """Return the class of a rule that is trained by gradients."""
    place, _, name = _TRACED[method].partition(":")
    found: type[TracedRule] = getattr(importlib.import_module(place), name)
    return found


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a method does not have, or that a prior could not hold.

    Raises
    ------
    ValueError
        Naming the first, and those that there are.
    """
    known = sorted(set(_fields(method)) - {"net", "ways"}) if method in _TRACED else list(_OF_CLOSED.get(method, ()))
    odd = sorted(set(options) - set(known))
    if odd:
        said = f"its options are {', '.join(known)}" if known else "it has none"
        raise ValueError(f"options: method={method!r} has no option {odd[0]!r}; {said}.")
    for name, value in options.items():
        if value is not None and stored(value) is None:
            raise ValueError(
                f"options: {name}={value!r} cannot be stored with a prior; use numbers, words, or an update rule of "
                "upstairs.inner.descent."
            )


def check_serves(method: str, situation: str) -> None:
    """Refuse tasks that a method is not for (``situation`` is "regression", "shared" or "own" labels)."""
    serves = traced_class(method).serves
    if situation not in serves:
        names = {
            "regression": "a regression",
            "shared": "labels that tasks share",
            "own": "labels of a task's own",
        }
        raise TaskError(
            f"method={method!r} is for {' and '.join(names[entry] for entry in sorted(serves))}, but these tasks are or have "
            f"{names[situation]}; use method='auto'."
        )


def traced_rule(method: str, net: Net | None, ways: int, options: Mapping[str, Any]) -> TracedRule:
    """Make a rule that is trained by gradients."""
    cls = traced_class(method)
    given = {name: value for name, value in (("net", net), ("ways", ways)) if name in _fields(method)}
    return cls(**given, **options)


def needs_net(method: str) -> bool:
    """Whether a rule that is trained by gradients has a network."""
    return "net" in _fields(method)


def rule_from(settings: Mapping[str, Any], template: Any = None) -> AdaptationRule:
    """Read the rule of a prior.

    Parameters
    ----------
    settings
        Of the prior.
    template : Equinox module, optional
        The user's own network, if the prior was learned with one.
    """
    method = settings["rule"]
    described = settings.get("net")
    if method == MACHINE:
        if settings["outer"].get("solver") == "libsvm":
            return SupportVectors(settings["kind"])
        return PriorMachine(settings["kind"], settings["labels"] == "own")
    if method == TREE:
        return PriorTree(settings["kind"], settings["outer"]["grows"])
    if method in CLOSED:
        rule = plain_rule(method, settings["kind"])
        if described is None:
            return rule
        from upstairs.inner.features import OnFeatures

        return OnFeatures(rule, net_from(described, template), raw=method == "bayesian-linear")
    from upstairs.inner.traced import Spec, Traced

    net = None if described is None else net_from(described, template)
    inputs, ways = settings["spec"]
    spec: Spec = Spec(tuple(inputs), ways)
    return Traced(traced_rule(method, net, ways, restored(settings["options"])), spec, settings["labels"] == "own")


def _fields(method: str) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(traced_class(method)) if field.init)  # type: ignore[arg-type]
