"""A user's own Flax NNX module as a network; Flax is loaded only for an object that comes from it."""

from __future__ import annotations

import functools
import importlib
import re
from dataclasses import dataclass, field
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from upstairs.errors import PriorMismatchError
from upstairs.nets.build import Arrays, TemplateNet, outputs_of, unflatten

__all__ = ["NnxNet", "is_nnx"]


def is_nnx(template: Any) -> bool:
    """Whether an object is a Flax NNX module; loads nothing.

    Examples
    --------
    >>> is_nnx(len)
    False
    """
    return any(f"{cls.__module__}.{cls.__qualname__}" == "flax.nnx.module.Module" for cls in type(template).__mro__)


@final
@dataclass(frozen=True, eq=False, repr=False)
class NnxNet(TemplateNet):
    """A user's own Flax NNX module as template: its structure is used, and its arrays are where learning starts.

    The module is called on one example of shape ``inputs`` and returns a vector; all its variables must be parameters
    (``nnx.Param``) of floating point: no random streams, no running averages. Arrays are named by their paths
    (``"layers.0.kernel"``) and stand in the order in which a call first uses them, so that the last layer, which some
    rules treat on its own, is the last one used; NNX itself keeps attributes in the order of the alphabet. Two templates
    are equal where structure, shapes and all that is not an array are.

    Parameters
    ----------
    template : flax.nnx.Module
    inputs : tuple of int
        Shape of one example.
    outputs : int
        Length of the vector.
    names : tuple of str
        Of the arrays, in the order of their use.

    References
    ----------
    Flax NNX, the functional interface: ``nnx.split`` and ``nnx.merge``.
    """

    template: Any
    inputs: tuple[int, ...]
    outputs: int
    names: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, template: Any, inputs: tuple[int, ...]) -> NnxNet:
        """Look at a template once.

        Raises
        ------
        PriorMismatchError
            If the module holds a variable that is no parameter, or does not map one example of that shape to a vector.
        """
        fresh = cls(template, inputs, 1, tuple(_variables(template)))
        arrays = fresh.init(jax.random.key(0))
        outputs = outputs_of(fresh.module(arrays), inputs)
        return cls(template, inputs, outputs, _by_use(fresh, arrays))

    @staticmethod
    def shapes_of(template: Any) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a template by path.

        Raises
        ------
        PriorMismatchError
            If the module holds a variable that is no parameter.
        """
        return {name: tuple(variable.shape) for name, (_, variable) in _variables(template).items()}

    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the template's own arrays, whatever the key."""
        _, variables = self._parts
        return {name: jnp.asarray(variables[name][1][...]) for name in self.names}

    def module(self, arrays: Arrays) -> Any:
        """Put arrays into the structure."""
        _, variables = self._parts
        return unflatten(_Filled(self, [variables[name][1][...] for name in self.names]), arrays)

    @functools.cached_property
    def _parts(self) -> tuple[Any, dict[str, tuple[Any, Any]]]:
        """Structure, and paths and variables by name."""
        return _nnx().split(self.template)[0], _variables(self.template)

    def _shapes(self) -> tuple[Any, ...]:
        arrays = ((name, self._parts[1][name][1]) for name in self.names)
        return self.inputs, tuple((name, array.shape, str(array.dtype)) for name, array in arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NnxNet) or self._shapes() != other._shapes():
            return False
        return bool(self._parts[0] == other._parts[0])

    def __hash__(self) -> int:
        return hash(self._shapes())

    def __repr__(self) -> str:
        structure = re.sub(r" at 0x[0-9a-f]+", "", repr(self._parts[0]))  # the same in another process
        return f"NnxNet({type(self.template).__qualname__}, {self._shapes()}, {structure})"


@final
@jax.tree_util.register_pytree_with_keys_class
class _Filled:
    """The module of a net with arrays in it, as a tree whose leaves have the arrays' names."""

    def __init__(self, net: NnxNet, values: Any) -> None:
        self.net, self.values = net, tuple(values)

    def __call__(self, x: Array) -> Array:
        graph, variables = self.net._parts
        arrays = dict(zip(self.net.names, self.values, strict=True))
        flat = {path: variable.replace(arrays[name]) for name, (path, variable) in variables.items()}
        nnx = _nnx()
        return nnx.merge(graph, nnx.from_flat_state(flat))(x)

    def tree_flatten_with_keys(self) -> tuple[Any, NnxNet]:
        named = zip(self.net.names, self.values, strict=True)
        return [(jax.tree_util.GetAttrKey(name), value) for name, value in named], self.net

    @classmethod
    def tree_unflatten(cls, net: NnxNet, values: Any) -> _Filled:
        return cls(net, values)


def _nnx() -> Any:
    return importlib.import_module("flax.nnx")


def _variables(template: Any) -> dict[str, tuple[Any, Any]]:
    """Paths and variables of a module by name; refuses all but parameters."""
    nnx = _nnx()
    found = {}
    for path, leaf in nnx.to_flat_state(nnx.state(template)):
        name = ".".join(map(str, path))
        if not isinstance(leaf, nnx.Param):
            raise PriorMismatchError(
                f"net: the module holds {name!r} of the type {type(leaf).__name__}, but may hold nothing but parameters (nnx.Param); "
                "leave out random streams (Dropout, a kept nnx.Rngs), use LayerNorm or GroupNorm in place of BatchNorm, and make "
                "constants a part of the code."
            )
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise PriorMismatchError(
                f"net: the parameter {name!r} of the module is of the type {leaf.dtype}, but must be of floating point; make it a "
                "part of the code."
            )
        found[name] = (path, leaf)
    return found


def _by_use(net: NnxNet, arrays: Arrays) -> tuple[str, ...]:
    """Names of the arrays in the order in which a call first uses them; those that it does not use come first."""
    example = jax.ShapeDtypeStruct(net.inputs, jnp.float32)
    traced = jax.make_jaxpr(lambda values, x: _Filled(net, values)(x))([arrays[name] for name in net.names], example)
    variables = traced.jaxpr.invars[: len(net.names)]
    first: dict[int, int] = {}
    for number, equation in enumerate(traced.jaxpr.eqns):
        for variable in equation.invars:
            first.setdefault(id(variable), number)
    place = {name: first.get(id(variable), -1) for name, variable in zip(net.names, variables, strict=True)}
    return tuple(sorted(net.names, key=lambda name: place[name]))
