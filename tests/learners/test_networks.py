"""What a user says about a network becomes a description, or one clear error."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import upstairs as up
from upstairs.errors import PriorMismatchError
from upstairs.learners.networks import asked_net, net_for, net_from, net_settings
from upstairs.nets import NetSpec
from upstairs.values import restored, stored

NORMALISED = NetSpec("mlp", (3,), (4, 4), 2, normalised=True)


@pytest.mark.parametrize(
    "net",
    [
        None,
        "auto",
        "mlp",
        "conv4",
        "resnet12",
        {"name": "resnet12", "sizes": (4, 8)},
        {"name": "conv4", "statistics": "example"},
    ],
)
def test_what_can_be_asked_for(net: Any) -> None:
    asked_net(net)
    if net is not None:
        found = net_for(net, (28, 28), 784, 5, "predictions")
        assert isinstance(found, NetSpec)
        assert found.name == {"auto": "conv4"}.get(str(net), net if isinstance(net, str) else net["name"])
        assert found.outputs == 5


@pytest.mark.parametrize("net", ["resnet", 3, {"name": "resnet12", "size": (4,)}, {"sizes": (4,)}])
def test_what_is_no_network_is_refused(net: Any) -> None:
    with pytest.raises(ValueError, match=r"'resnet12', a dictionary.*, but is " + re.escape(repr(net))):
        asked_net(net)


def test_a_residual_network_for_images() -> None:
    found = net_for("resnet12", (28, 28), 784, 5, "predictions")
    assert found == NetSpec("resnet12", (28, 28, 1), (64, 160, 320, 640), 5)
    small = {"name": "resnet12", "sizes": (16, 32, 64, 128)}
    features = net_for(small, (20, 32, 3), 1920, 5, "prototype features")
    assert features == NetSpec("resnet12", (20, 32, 3), (16, 32, 64, 128))
    assert features.outputs == 128
    together = net_for(small | {"statistics": "batch"}, (20, 32, 3), 1920, 5, "prototype features")
    assert isinstance(together, NetSpec)
    assert together.statistics == "batch"
    with pytest.raises(ValueError, match=r"resnet12 halves the image 4 times, and \(8, 8\) is too small"):
        net_for("resnet12", (8, 8), 64, 5, "predictions")
    with pytest.raises(PriorMismatchError, match=r"net='resnet12' needs images, but one example has the shape \(3,\)"):
        net_for("resnet12", (3,), 3, 1, "predictions")
    with pytest.raises(
        ValueError, match=r"activation is for 'mlp'; 'conv4' has its own, so leave activation='tanh' out"
    ):
        net_for({"name": "conv4", "activation": "tanh"}, (28, 28), 784, 1, "predictions")
    with pytest.raises(ValueError, match=r"normalised is for 'mlp'; 'conv4' has its own, so leave normalised=True out"):
        net_for({"name": "conv4", "normalised": True}, (28, 28), 784, 1, "predictions")
    with pytest.raises(ValueError, match=r"net: normalised must be True or False, but is 'no'"):
        net_for({"name": "mlp", "normalised": "no"}, (3,), 3, 1, "predictions")
    with pytest.raises(ValueError, match=r"statistics='batch' is for .*name='mlp'"):
        net_for({"name": "mlp", "statistics": "batch"}, (3,), 3, 1, "predictions")


@pytest.mark.parametrize("method", ["anil", "bayesian-linear"])
def test_a_normalised_network_learns_adapts_and_is_stored(method: str, tmp_path: pathlib.Path) -> None:
    tasks = up.tasks.synthetic.Sinusoids().sample(8, 12, random_state=0)
    meta = up.MetaNeuralNetwork(
        method, net={"name": "mlp", "sizes": (4,), "normalised": True}, training=up.Training(steps=2), shots=5
    ).meta_fit(tasks)
    assert meta.prior_.settings["net"]["normalised"] is True
    up.save(meta, tmp_path / "prior")
    again = up.load(tmp_path / "prior")
    x, y = tasks[0].X, tasks[0].y
    np.testing.assert_array_equal(meta.adapt(x[:5], y[:5]).predict(x), again.adapt(x[:5], y[:5]).predict(x))


def test_a_prior_of_before_networks_were_normalised_is_read() -> None:
    plain = NetSpec("mlp", (3,), (4,), 1)
    assert "normalised" not in plain.settings()
    assert NetSpec.from_settings(plain.settings()) == plain


def test_settings_go_round() -> None:
    spec = NetSpec("resnet12", (4, 4, 1), (3,), 2, statistics="batch")
    for each in (spec, NetSpec("conv4", (8, 8, 1), (4, 4)), NetSpec("mlp", (3,), (4,), 1), NORMALISED):
        assert net_from(net_settings(each)) == each
        assert restored(stored(each)) == each
    template = eqx.nn.MLP(3, 4, 4, 1, key=jax.random.key(0))
    own = net_for(template, (3,), 3, 2, "predictions")
    assert net_settings(own)["name"] == "own"
    assert net_from(net_settings(own), template) == own
    with pytest.raises(PriorMismatchError, match=r"'layers.2.bias' that the prior's does not"):
        net_from(net_settings(own), eqx.nn.MLP(3, 4, 4, 2, key=jax.random.key(0)))
