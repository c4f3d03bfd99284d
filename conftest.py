"""Types and shapes are checked in one wrapper a function: jaxtyping's own, which makes three, doubles the time of the suite."""

from __future__ import annotations

import dataclasses
import functools
import gc
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping

_THOROUGH = jaxtyping.jaxtyped
_HINTS: dict[tuple[str, types.CodeType], dict[str, Any]] = {}
"""Resolved annotations of every function; one that is defined inside another is decorated at every call of that."""


def _lean(fn: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Check arguments and result as `jaxtyping.jaxtyped` does, sizes of axes held together where shapes are annotated."""
    if fn is None:
        return functools.partial(_lean, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and hasattr(vars(fn).get("__init__"), "__code__"):
            fn.__init__ = _lean(fn.__init__, typechecker=typechecker)
        return fn
    if not isinstance(fn, types.FunctionType) or any("{" in str(hint) for hint in fn.__annotations__.values()):
        return _THOROUGH(fn, typechecker=typechecker)  # sizes that are computed from arguments
    place = fn.__module__, fn.__code__
    if place not in _HINTS:
        _HINTS[place] = {name: _resolved(hint, fn.__globals__) for name, hint in fn.__annotations__.items()}
    hints = _HINTS[place]
    resolved = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    functools.update_wrapper(resolved, fn)
    del resolved.__wrapped__
    resolved.__kwdefaults__, resolved.__annotations__ = fn.__kwdefaults__, dict(hints)
    checked = typechecker(resolved)
    if not any(map(_has_shape, hints.values())):
        return checked

    @functools.wraps(fn)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with _THOROUGH("context"):
            return checked(*args, **kwargs)

    return scoped


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """What an annotation stands for; Any where a name in it is only known to type checkers or not yet defined."""
    stub = types.SimpleNamespace(__annotations__={"hint": hint})
    try:
        return typing.get_type_hints(stub, names, include_extras=True)["hint"]
    except Exception:
        return Any


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))


gc.set_threshold(100_000, 20, 100)  # traced functions are many objects that live long: 3 % of the suite
jaxtyping.jaxtyped = _lean
