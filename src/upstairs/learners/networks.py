"""From what a user says about a network to its description, for the shape that the tasks have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from upstairs.errors import PriorMismatchError

if TYPE_CHECKING:
    from upstairs.nets.build import Net, TemplateNet

__all__ = ["Purpose", "asked_net", "check_alone", "net_for", "net_from", "net_settings"]

Purpose: TypeAlias = Literal["linear features", "prototype features", "predictions"]

_SIZES = {"linear features": (32,), "prototype features": (64,), "predictions": (40, 40)}
_OUTPUTS = {"linear features": 16, "prototype features": 64}
_CHANNELS, _MOST_BLOCKS = 64, 4
_RESIDUAL = (64, 160, 320, 640)
_NAMES = ("mlp", "conv4", "resnet12")
_KEYS = {"name", "sizes", "activation", "normalised", "statistics"}


def asked_net(net: Any) -> None:
    """Check what was asked for.

    Raises
    ------
    ValueError
        If it is no network.
    """
    if net is None or net in ("auto", *_NAMES) if isinstance(net, str | None) else False:
        return
    if isinstance(net, Mapping) and net.get("name") in _NAMES and set(net) <= _KEYS:
        return
    if callable(net):  # a description, or a module of Equinox or Flax NNX
        return
    raise ValueError(
        "net must be 'auto', None, 'mlp', 'conv4', 'resnet12', a dictionary such as {'name': 'mlp', 'sizes': (64, 64)}, a NetSpec, "
        f"or an Equinox or Flax NNX module, but is {net!r}."
    )


def net_for(net: Any, shape: tuple[int, ...], columns: int, outputs: int, purpose: Purpose) -> Net:
    """Describe the network for tasks of this shape.

    Parameters
    ----------
    net
        What the user said: "auto", "mlp", "conv4", "resnet12", a dictionary (``name``, ``sizes``, ``activation``,
        ``normalised``, ``statistics``), a description, or a module of Equinox or Flax NNX.
    shape : tuple of int
        Shape of one example: ``(columns,)``, or that of an image.
    columns : int
        Encoded columns.
    outputs : int
        Width of the result for predictions.
    purpose : {"linear features", "prototype features", "predictions"}

    Raises
    ------
    PriorMismatchError
        If an image network meets rows that are no images, or a given network does not fit.
    """
    from upstairs.nets.build import Net, NetSpec

    if isinstance(net, Net):
        return net
    if callable(net):
        return _kind(net).of(net, shape if len(shape) > 1 else (columns,))
    said = dict(net) if isinstance(net, Mapping) else {"name": net}
    if said["name"] == "auto":
        said["name"] = "conv4" if len(shape) > 1 and min(shape[:2]) >= 8 else "mlp"
    width = outputs if purpose == "predictions" else _OUTPUTS[purpose]
    if said["name"] == "mlp":
        bounded = purpose == "linear features"
        sizes = tuple(said.get("sizes", _SIZES[purpose]))
        bend = said.get("activation", "tanh" if bounded else "relu")
        statistics, normalised = said.get("statistics", "example"), said.get("normalised", False)
        if not isinstance(normalised, bool):
            raise ValueError(f"net: normalised must be True or False, but is {normalised!r}.")
        return NetSpec("mlp", (columns,), sizes, width, bend, bounded, statistics, normalised)
    name = said["name"]
    for choice in ("activation", "normalised"):
        if choice in said:
            raise ValueError(
                f"net: {choice} is for 'mlp'; {name!r} has its own, so leave {choice}={said[choice]!r} out."
            )
    if len(shape) not in (2, 3):
        raise PriorMismatchError(
            f"net={name!r} needs images, but one example has the shape {shape}; use net='mlp', or a ClassPool of images of shape "
            "(row, height, width)."
        )
    blocks = min(_MOST_BLOCKS, min(shape[:2]).bit_length() - 1)
    sizes = tuple(said.get("sizes", _RESIDUAL if name == "resnet12" else (_CHANNELS,) * blocks))
    channels = shape[2] if len(shape) == 3 else 1
    return NetSpec(
        name,
        (shape[0], shape[1], channels),
        sizes,
        width if purpose == "predictions" else 0,
        statistics=said.get("statistics", "example"),
    )


def check_alone(net: Net, method: str) -> None:
    """Refuse statistics that rows share for a method that maps the rows of all tasks at once.

    Raises
    ------
    ValueError
        If a feature of a row depends on the rows beside it.
    """
    if getattr(net, "statistics", "example") == "batch":
        raise ValueError(
            f"net: method={method!r} maps rows of all tasks at once, so that statistics='batch' would mix tasks; use "
            "statistics='example', or a method that is trained by gradients, such as 'maml', 'proto-maml' or 'ridge'."
        )


def net_settings(net: Net) -> dict[str, Any]:
    """Describe a network for a prior; a user's own is code, and only its shapes and its name are written down."""
    from upstairs.nets.build import NetSpec, TemplateNet

    if isinstance(net, NetSpec):
        return net.settings()
    assert isinstance(net, TemplateNet)
    shapes = {name: list(shape) for name, shape in net.shapes_of(net.template).items()}
    return {"name": "own", "class": type(net.template).__qualname__, "inputs": list(net.inputs), "shapes": shapes}


def net_from(settings: Mapping[str, Any], template: Any = None) -> Net:
    """Read what `net_settings` wrote.

    Parameters
    ----------
    settings
    template : module of Equinox or Flax NNX, optional
        Needed for a user's own network.

    Raises
    ------
    PriorMismatchError
        If the template is missing or has other arrays; the first is named.
    """
    from upstairs.nets.build import NetSpec

    if settings["name"] != "own":
        return NetSpec.from_settings(settings)
    if template is None:
        raise PriorMismatchError(
            f"This prior was learned with a network of your own ({settings['class']}), which is code and not stored; pass it as "
            "net=, to load or to the estimator."
        )
    kind = _kind(template)
    have = {name: list(shape) for name, shape in kind.shapes_of(template).items()}
    for name, shape in settings["shapes"].items():
        if have.get(name) != shape:
            said = f"has shape {tuple(have[name])}" if name in have else "does not exist"
            raise PriorMismatchError(
                f"net: the array {name!r} of the prior's network has shape {tuple(shape)}, but in the given one it {said}; build "
                "the network as it was when the prior was learned."
            )
    extra = sorted(set(have) - set(settings["shapes"]))
    if extra:
        raise PriorMismatchError(f"net: the given network has an array {extra[0]!r} that the prior's does not.")
    return kind.of(template, tuple(settings["inputs"]))


def _kind(template: Any) -> type[TemplateNet]:
    """Return the class of nets that a user's own module is a template of."""
    from upstairs.nets.build import OwnNet
    from upstairs.nets.nnx import NnxNet, is_nnx

    return NnxNet if is_nnx(template) else OwnNet
