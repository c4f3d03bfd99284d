"""Which update rule a name stands for, and which way to its gradient suits a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upstairs.inner.descent import Descent
    from upstairs.outer.estimators import Estimator
    from upstairs.outer.windows import Windows

__all__ = ["GRADIENTS", "RULES", "descent_for", "gradient_for"]

RULES = ("sgd", "adam", "kronecker", "network", "lstm")
GRADIENTS = ("reverse", "forward", "truncated", "es", "nres", "pes", "implicit")
FEW, LONG, LONGEST = 8, 100, 300
"""Numbers that forward mode is for, steps from which it is better, and steps up to which reverse mode is."""
WINDOW = 20


def descent_for(rule: Any, options: Mapping[str, Any], steps: int) -> Descent:
    """Make the update rule that a user named.

    Parameters
    ----------
    rule : str or Descent
    options : mapping
        Fields of its class; ``schedule=True`` gives every one of ``steps`` its own numbers.
    steps : int

    Raises
    ------
    ValueError
        For a rule or an option that there is not.

    Examples
    --------
    >>> descent_for("sgd", {"per": "array", "schedule": True}, 10)
    LearnedSGD(rate=0.1, momentum=0.9, nesterov=False, per='array', steps=10)
    """
    from upstairs.inner.descent import Descent
    from upstairs.inner.learned_rates import LearnedAdam, LearnedSGD
    from upstairs.inner.preconditioner import Kronecker
    from upstairs.inner.update_lstm import UpdateLSTM
    from upstairs.inner.update_network import UpdateNetwork

    if isinstance(rule, Descent):
        if options:
            raise ValueError(f"options: rule={rule!r} is complete already; leave options out, or name the rule.")
        return rule
    classes: dict[str, Any] = {
        "sgd": LearnedSGD,
        "adam": LearnedAdam,
        "kronecker": Kronecker,
        "network": UpdateNetwork,
        "lstm": UpdateLSTM,
    }
    if rule not in classes:
        raise ValueError(
            f"rule must be 'auto', {', '.join(map(repr, RULES))} or an update rule of upstairs.inner, but is {rule!r}."
        )
    cls = classes[rule]
    known = {field.name for field in dataclasses.fields(cls)}
    if "steps" in known:
        known = known - {"steps"} | {"schedule"}
    odd = sorted(set(options) - known)
    if odd:
        raise ValueError(
            f"options: rule={rule!r} has no option {odd[0]!r}; its options are {', '.join(sorted(known))}."
        )
    given = dict(options)
    if given.pop("schedule", False):
        given["steps"] = steps
    made: Descent = cls(**given)
    return made


def gradient_for(gradient: str, numbers: int, steps: int, *, windows: bool) -> tuple[Estimator | Windows | None, str]:
    """Choose how the gradient over runs comes about.

    Parameters
    ----------
    gradient : str
        "auto", or one of `GRADIENTS`.
    numbers : int
        How many are learned.
    steps : int
        Of a run.
    windows : bool
        Whether runs can be cut into windows.

    Returns
    -------
    estimator : Estimator, Windows or None (reverse mode)
    reason : str

    Raises
    ------
    ValueError
        For a name that there is not, or that does not go with the tasks.
    """
    from upstairs.outer.estimators import EvolutionStrategies, Forward
    from upstairs.outer.windows import Windows

    if gradient not in ("auto", *GRADIENTS):
        raise ValueError(f"gradient must be 'auto', {', '.join(map(repr, GRADIENTS))}, but is {gradient!r}.")
    reason = "as asked for"
    if gradient == "auto":
        if numbers <= FEW and steps >= LONG:
            gradient, reason = "forward", f"{numbers} numbers over {steps} steps, without memory for the steps"
        elif steps <= LONGEST:
            gradient, reason = "reverse", f"{numbers} numbers over {steps} steps, exact in one pass"
        else:
            gradient = "nres" if windows else "es"
            reason = f"{numbers} numbers over {steps} steps, too long to go back through"
    if gradient == "implicit" and not windows:
        raise ValueError(
            "gradient='implicit' is for losses with a penalty; for tasks of rows use MetaNeuralNetwork('imaml'), or 'reverse'."
        )
    if gradient in ("reverse", "implicit"):
        return None, f"{gradient} ({reason})"
    if gradient in ("forward", "es"):
        return (Forward() if gradient == "forward" else EvolutionStrategies()), f"{gradient} ({reason})"
    if not windows:
        raise ValueError(
            f"gradient={gradient!r} cuts runs into windows, which is for losses (Problems, or a list of functions); use "
            "'reverse', 'forward' or 'es' for tasks of rows."
        )
    kind: Any = gradient
    return Windows(kind, min(WINDOW, steps)), f"{gradient} ({reason})"
