"""From a plain description of a network to the module, and from the module to named arrays and back.

A description is hashable, so that a compiled program can be kept for it, and turns into JSON for a prior. The arrays
of a module are a flat dictionary by leaf path (``"layers.0.weight"``); a user's own module is a template that only
code can give, and a stored prior fills it.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from upstairs.errors import PriorMismatchError
from upstairs.nets.conv import Conv4
from upstairs.nets.mlp import MLP, Activation
from upstairs.nets.resnet import ResNet, normalise_together

__all__ = ["Arrays", "Net", "NetSpec", "OwnNet", "Statistics", "TemplateNet", "flatten", "forward", "unflatten"]

Arrays: TypeAlias = Mapping[str, Any]
"""A flat dictionary of named arrays."""
Statistics: TypeAlias = Literal["example", "batch"]
"""Whose mean and variance normalise a map: each row's own (inductive), or those of all rows together (transductive)."""
AnyTemplate = TypeVar("AnyTemplate", bound="TemplateNet")


class Net(abc.ABC):
    """Where a module comes from: hashable, and equal to another one that builds the same structure."""

    inputs: tuple[int, ...]
    outputs: int

    @property
    def heavy(self) -> bool:
        """Whether tasks with weights of their own go one after another: on a CPU many windows at once are slow."""
        return False

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Draw fresh arrays."""

    @abc.abstractmethod
    def module(self, arrays: Arrays) -> Any:
        """Put arrays into the structure."""

    @final
    def __call__(
        self, arrays: Arrays, x: Float[Array, "row ..."], mask: Bool[Array, " row"] | None = None
    ) -> Float[Array, "row output"]:
        """Map rows through the network with these arrays; flat rows of an image net are brought into shape.

        Parameters
        ----------
        arrays : dict of arrays
        x : array of shape (row, ...)
        mask : array of shape (row,), optional
            Rows that count: padding has no part in the statistics of a network that normalises rows together, which
            must be told. The rows of other networks do not see each other.

        Raises
        ------
        ValueError
            If a network that normalises rows together is not told which rows count.
        """
        return self._map(self.module(arrays), x.reshape(x.shape[0], *self.inputs), mask)

    def _map(self, module: Any, x: Array, mask: Array | None) -> Array:
        return forward(module, x)


@final
@dataclass(frozen=True)
class NetSpec(Net):
    """One of the library's own networks.

    Parameters
    ----------
    name : {"mlp", "conv4", "resnet12"}
    inputs : tuple of int
        ``(features,)`` for an MLP, ``(height, width, channels)`` for a convolution.
    sizes : tuple of int
        Widths of hidden layers, or channels of the blocks.
    outputs : int
        Width of the result. 0 means features: for ``"conv4"`` the flattened map, for ``"resnet12"`` its mean over
        places; `outputs` then tells their width.
    activation : {"relu", "tanh"}
        For an MLP.
    final : bool
        Whether an MLP's outputs go through the activation too (features do, predictions do not).
    statistics : {"example", "batch"}
        What normalises the maps of ``"conv4"`` and ``"resnet12"``. "example": each image's own mean and variance, so
        that a prediction depends on the prior, the support and its own row only (inductive). "batch": mean and variance
        of each channel over all rows that are passed together, at prediction too, as in the code of the MAML paper
        (transductive): a prediction then depends on the other query rows, on how many they are and on which are asked
        for in one call, and figures are not comparable with inductive ones.
    normalised : bool
        Whether an MLP normalises what goes through an activation, each row by its own mean and variance.
    flat : bool
        Filled in: whether `outputs` was 0.

    Examples
    --------
    >>> spec = NetSpec("mlp", (3,), (8,), 2)
    >>> arrays = spec.init(jax.random.key(0))
    >>> sorted(arrays)
    ['layers.0.bias', 'layers.0.weight', 'layers.1.bias', 'layers.1.weight']
    >>> spec(arrays, jnp.zeros((5, 3))).shape
    (5, 2)
    >>> NetSpec.from_settings(spec.settings()) == spec
    True
    """

    name: Literal["mlp", "conv4", "resnet12"]
    inputs: tuple[int, ...]
    sizes: tuple[int, ...]
    outputs: int = 0
    activation: Activation = "relu"
    final: bool = False
    statistics: Statistics = "example"
    normalised: bool = False
    flat: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        wanted = {"mlp": 1, "conv4": 3, "resnet12": 3}
        if self.name not in wanted:
            names = ", ".join(map(repr, wanted))
            raise ValueError(f"net must be {names}, or an Equinox or Flax NNX module, but is {self.name!r}.")
        if len(self.inputs) != wanted[self.name]:
            shape = "(features,)" if self.name == "mlp" else "(height, width, channels)"
            raise ValueError(f"A net of the kind {self.name!r} takes rows of shape {shape}, but inputs={self.inputs}.")
        self._check_statistics()
        if self.name != "mlp" and min(self.inputs[:2]) >> len(self.sizes) == 0:
            raise ValueError(
                f"{self.name} halves the image {len(self.sizes)} times, and {self.inputs[:2]} is too small for that; use "
                "fewer sizes or larger images."
            )
        object.__setattr__(self, "flat", self.name != "mlp" and (self.flat or self.outputs == 0))
        if self.flat:
            height, width = (side >> len(self.sizes) for side in self.inputs[:2])
            places = height * width if self.name == "conv4" else 1
            object.__setattr__(self, "outputs", places * self.sizes[-1])
        if self.outputs < 1:
            raise ValueError(f"outputs must be at least 1, but is {self.outputs}.")

    @property
    def heavy(self) -> bool:
        """Whether tasks with weights of their own go one after another."""
        return self.name != "mlp" and jax.default_backend() == "cpu"

    def settings(self) -> dict[str, Any]:
        """JSON values from which `from_settings` makes the same description."""
        values = dataclasses.asdict(self)
        if values.pop("flat"):
            values["outputs"] = 0
        if self.name == "mlp":
            del values["statistics"]
        if not self.normalised:
            del values["normalised"]
        return values | {"inputs": list(self.inputs), "sizes": list(self.sizes)}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> NetSpec:
        """Read what `settings` wrote."""
        values = dict(settings)
        return cls(**values | {"inputs": tuple(values["inputs"]), "sizes": tuple(values["sizes"])})

    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Draw fresh arrays."""
        return flatten(self._fresh(key))

    def module(self, arrays: Arrays) -> Any:
        """Put arrays into the structure."""
        return unflatten(_shapes(self), arrays)

    def _map(self, module: Any, x: Array, mask: Array | None) -> Array:
        if self.statistics == "example":
            return forward(module, x)
        if mask is None:
            raise ValueError(
                f"net: {self.name} with statistics='batch' normalises rows together and must be told which of them count, but no "
                "mask was passed; pass one (all true, if every row counts), or use statistics='example'."
            )
        return module(x, functools.partial(normalise_together, mask=mask))

    def _check_statistics(self) -> None:
        if self.statistics not in ("example", "batch"):
            raise ValueError(f"statistics must be 'example' or 'batch', but is {self.statistics!r}.")
        if self.statistics == "batch" and self.name == "mlp":
            raise ValueError(
                "statistics='batch' is for 'conv4' and 'resnet12', but name='mlp', whose rows do not see each other; leave it out, or "
                "use normalised=True."
            )
        if self.normalised and self.name != "mlp":
            raise ValueError(
                f"normalised=True is for 'mlp', but name={self.name!r}, which always normalises; leave it out."
            )

    def _fresh(self, key: PRNGKeyArray) -> eqx.Module:
        if self.name == "mlp":
            return MLP(
                self.inputs[0],
                self.sizes,
                self.outputs,
                key=key,
                activation=self.activation,
                final=self.final,
                normalised=self.normalised,
            )
        outputs = 0 if self.flat else self.outputs
        if self.name == "resnet12":
            return ResNet(self.inputs[2], self.sizes, outputs, key=key)
        return Conv4((self.inputs[0], self.inputs[1], self.inputs[2]), self.sizes, outputs, key=key)


class TemplateNet(Net):
    """A user's own module as template: its structure is used, and its arrays are where learning starts.

    It is code, which a prior does not hold: only the shapes and the name of its class are written down.
    """

    template: Any

    @classmethod
    @abc.abstractmethod
    def of(cls: type[AnyTemplate], template: Any, inputs: tuple[int, ...]) -> AnyTemplate:
        """Look at a template once, for rows of this shape.

        Raises
        ------
        PriorMismatchError
            If the module cannot be used.
        """

    @staticmethod
    @abc.abstractmethod
    def shapes_of(template: Any) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a template by path."""


@final
@dataclass(frozen=True, eq=False)
class OwnNet(TemplateNet):
    """A user's own Equinox module as template: its structure is used, and its arrays are where learning starts.

    The module is called on one example of shape ``inputs`` and returns a vector; it must not draw random numbers or
    keep state. Two templates are equal where structure, shapes and all that is not an array are.

    Examples
    --------
    >>> template = eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))
    >>> net = OwnNet.of(template, (3,))
    >>> net.outputs, net(net.init(jax.random.key(1)), jnp.zeros((5, 3))).shape
    (2, (5, 2))
    """

    template: eqx.Module
    inputs: tuple[int, ...]
    outputs: int

    @classmethod
    def of(cls, template: eqx.Module, inputs: tuple[int, ...]) -> OwnNet:
        """Look at a template once.

        Raises
        ------
        PriorMismatchError
            If the module does not map one example of that shape to a vector.
        """
        return cls(template, inputs, outputs_of(template, inputs))

    @staticmethod
    def shapes_of(template: Any) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays of a template by path."""
        return flatten_shapes(template)

    def init(self, key: PRNGKeyArray) -> dict[str, Array]:
        """Return the template's own arrays, whatever the key."""
        return flatten(self.template)

    def module(self, arrays: Arrays) -> Any:
        """Put arrays into the structure."""
        return unflatten(self.template, arrays)

    def _identity(self) -> tuple[Any, ...]:
        arrays, rest = eqx.partition(self.template, eqx.is_inexact_array)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays))
        leaves = tuple(
            (leaf.shape, leaf.tobytes()) if isinstance(leaf, np.ndarray | jax.Array) else leaf
            for leaf in jax.tree.leaves(jax.tree.map(_plain, rest))
        )
        return self.inputs, jax.tree.structure(self.template), shapes, leaves

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnNet) and self._identity() == other._identity()

    def __hash__(self) -> int:
        inputs, _, shapes, _ = self._identity()
        return hash((inputs, shapes))


def forward(module: Any, x: Float[Array, "row ..."]) -> Float[Array, "row output"]:
    """Map rows through a module that is called on one example (ours take many at once)."""
    if isinstance(module, MLP | Conv4 | ResNet):
        return module(x)
    return jax.vmap(module)(x)


def outputs_of(call: Any, inputs: tuple[int, ...]) -> int:
    """Width of the vector that a module gives for one example.

    Raises
    ------
    PriorMismatchError
        If the module does not map one example of that shape to a vector.
    """
    try:
        shape = jax.eval_shape(call, jax.ShapeDtypeStruct(inputs, jnp.float32)).shape
    except Exception as error:
        raise PriorMismatchError(
            f"net must map one example of shape {inputs} to a vector, and calling it failed with '{error}'."
        ) from error
    if len(shape) != 1:
        raise PriorMismatchError(f"net must map one example of shape {inputs} to a vector, but gives shape {shape}.")
    return int(shape[0])


def flatten(module: Any) -> dict[str, Any]:
    """Name the floating-point arrays of a module by their paths, in the order of the module."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(module, eqx.is_inexact_array))
    return {_name(path): leaf for path, leaf in leaves}


def unflatten(template: Any, arrays: Arrays) -> Any:
    """Fill the floating-point arrays of a template by name.

    Raises
    ------
    PriorMismatchError
        If an array is missing, too many, or of another shape; the message names the first.
    """
    wanted = flatten_shapes(template)
    for name, shape in wanted.items():
        if name not in arrays:
            raise PriorMismatchError(f"The net has an array {name!r} of shape {shape}, and the stored arrays do not.")
        if tuple(arrays[name].shape) != shape:
            raise PriorMismatchError(
                f"The net's array {name!r} has shape {shape}, and the stored one {tuple(arrays[name].shape)}; build "
                "the net with the sizes that the prior was learned with."
            )
    odd = sorted(set(arrays) - set(wanted))
    if odd:
        raise PriorMismatchError(
            f"The stored array {odd[0]!r} has no place in the net; build the net as it was learned."
        )

    def fill(path: Any, leaf: Any) -> Any:
        name = _name(path)
        return arrays[name] if name in wanted else leaf

    return jax.tree_util.tree_map_with_path(fill, template)


def flatten_shapes(template: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of the floating-point arrays of a module (or of the shapes of one) by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(template)
    return {_name(path): tuple(leaf.shape) for path, leaf in leaves if _is_float(leaf)}


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _plain(leaf: Any) -> Any:
    return np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf


def _name(path: Any) -> str:
    return ".".join(str(getattr(part, "name", getattr(part, "idx", getattr(part, "key", part)))) for part in path)


@functools.cache
def _shapes(spec: NetSpec) -> Any:
    """Return the module with shapes in place of arrays; made once for each description."""
    return jax.eval_shape(spec._fresh, jax.random.key(0))
