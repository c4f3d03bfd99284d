"""A Flax NNX module is a template like any other: named arrays, no state, stored by its shapes."""

from __future__ import annotations

import copy
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.anil import last_layer
from upstairs.nets import NnxNet
from upstairs.nets.build import flatten
from upstairs.tasks.synthetic import Sinusoids

nnx = pytest.importorskip("flax.nnx")


def tanh(x: Any) -> Any:
    return jnp.tanh(x)


class Mlp(nnx.Module):
    """Its attributes are in another order in the alphabet than in use."""

    def __init__(self, inputs: int, width: int, outputs: int, bend: Callable = tanh, seed: int = 0) -> None:
        rngs = nnx.Rngs(seed)
        self.under = nnx.Linear(inputs, width, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(width, width, use_bias=False, rngs=rngs)])
        self.head = nnx.Linear(width, outputs, rngs=rngs)
        self.bend = bend

    def __call__(self, x: Any) -> Any:
        for layer in (self.under, *self.layers):
            x = self.bend(layer(x))
        return self.head(x)


class With(nnx.Module):
    def __init__(self, part: Any) -> None:
        self.part = part

    def __call__(self, x: Any) -> Any:
        return x


def test_arrays_have_names_in_the_order_of_their_use_and_go_round() -> None:
    net = NnxNet.of(Mlp(3, 4, 2), (3,))
    assert net.outputs == 2
    assert not net.heavy
    assert net.names == ("under.kernel", "under.bias", "layers.0.kernel", "head.kernel", "head.bias")
    assert last_layer(net) == {"head.kernel", "head.bias"}
    arrays = net.init(jax.random.key(5))
    assert flatten(net.module(arrays)).keys() == arrays.keys()
    for name, array in flatten(net.module({name: 2.0 * array for name, array in arrays.items()})).items():
        np.testing.assert_array_equal(array, 2.0 * arrays[name])
    np.testing.assert_array_equal(arrays["under.kernel"], Mlp(3, 4, 2).under.kernel[...])
    with pytest.raises(up.PriorMismatchError, match=r"'under.bias' has shape \(4,\), and the stored one \(5,\)"):
        net.module(arrays | {"under.bias": jnp.zeros(5)})


def test_rows_are_mapped_one_by_one_and_have_derivatives() -> None:
    template = Mlp(3, 4, 2)
    net = NnxNet.of(template, (3,))
    arrays = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    out = net(arrays, x)
    np.testing.assert_allclose(out, np.stack([template(row) for row in x]), rtol=1e-6)
    slope = jax.jit(jax.grad(lambda arrays: net(arrays, x)[:, 0].sum()))(arrays)
    np.testing.assert_allclose(slope["head.bias"], [5.0, 0.0])
    twice = jax.vmap(net, (0, None))({name: jnp.stack([array, array]) for name, array in arrays.items()}, x)
    np.testing.assert_allclose(twice[1], out, rtol=1e-6)


def test_nets_of_one_structure_are_equal() -> None:
    template = Mlp(3, 4, 2)
    net = NnxNet.of(template, (3,))
    for same in (NnxNet.of(Mlp(3, 4, 2, seed=1), (3,)), NnxNet.of(copy.deepcopy(template), (3,))):
        assert net == same
        assert hash(net) == hash(same)
        assert repr(net) == repr(same)
    assert " at 0x" not in repr(net)
    assert net != NnxNet.of(Mlp(3, 4, 2, bend=nnx.relu), (3,))
    assert net != NnxNet.of(Mlp(3, 5, 2), (3,))
    assert net != "net"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (lambda: nnx.BatchNorm(3, rngs=nnx.Rngs(0)), r"'part\.mean' of the type BatchStat.*LayerNorm"),
        (lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)), r"'part\.rngs\.count' of the type RngCount.*Dropout"),
        (lambda: nnx.Param(jnp.arange(3)), r"'part' of the module is of the type int32"),
        (lambda: jnp.ones(3), r"'part' of the type .*Array.*constants"),
    ],
)
def test_what_is_no_parameter_is_refused(part: Callable, message: str) -> None:
    with pytest.raises(up.PriorMismatchError, match=message):
        NnxNet.of(With(part()), (3,))


def test_a_module_that_takes_other_rows_is_refused() -> None:
    with pytest.raises(up.PriorMismatchError, match=r"one example of shape \(4,\) to a vector, and calling it failed"):
        NnxNet.of(Mlp(3, 4, 2), (4,))
    with pytest.raises(up.PriorMismatchError, match=r"gives shape \(2, 3\)"):
        NnxNet.of(With(nnx.Param(jnp.ones(3))), (2, 3))


@pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")
def test_a_prior_is_learned_stored_and_read_with_the_template(tmp_path: pathlib.Path) -> None:
    tasks = Sinusoids().sample(12, 12, random_state=0)
    training = up.Training(steps=3, validate_every=3)
    meta = up.MetaNeuralNetwork("maml", net=Mlp(1, 4, 1), training=training, options={"steps": 1}, shots=5)
    meta.meta_fit(tasks)
    described = meta.prior_.settings["net"]
    assert (described["name"], described["class"]) == ("own", "Mlp")
    assert described["shapes"]["head.kernel"] == [4, 1]
    started = Mlp(1, 4, 1).under.kernel[...]
    assert np.abs(meta.prior_.arrays["params/net/under.kernel"] - started).max() > 0
    task = tasks[0]
    model = meta.adapt(task.X[:5], task.y[:5])
    up.save(meta, tmp_path / "prior")
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "prior", net=Mlp(1, 4, 1, seed=7)).adapt(task.X[:5], task.y[:5])
    np.testing.assert_array_equal(again.predict(task.X), model.predict(task.X))
    np.testing.assert_array_equal(
        up.load(tmp_path / "model", net=Mlp(1, 4, 1, seed=8)).predict(task.X), model.predict(task.X)
    )
    with pytest.raises(up.PriorMismatchError, match=r"network of your own \(Mlp\), which is code"):
        up.load(tmp_path / "model")
    with pytest.raises(up.PriorMismatchError, match=r"'head.kernel' of the prior's network has shape \(4, 1\)"):
        up.load(tmp_path / "model", net=Mlp(1, 5, 1))


def test_nothing_loads_flax_but_a_module_of_it() -> None:
    code = (
        "import sys, equinox, jax, upstairs.nets; from upstairs.learners.networks import net_for;"
        "net_for(equinox.nn.MLP(3, 1, 2, 1, key=jax.random.key(0)), (3,), 3, 1, 'predictions');"
        "sys.exit('flax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
