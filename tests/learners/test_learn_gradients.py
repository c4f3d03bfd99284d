"""MetaNeuralNetwork trained by gradients: what it learns, keeps and refuses, and that a kill leaves no trace."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import equinox as eqx
import jax
import numpy as np
import pytest

import upstairs as up
from upstairs.inner.descent import SGD
from upstairs.tasks.synthetic import SharedSubspace, Sinusoids

pytestmark = pytest.mark.filterwarnings("ignore::upstairs.errors.FamiliarityWarning")
SHORT = up.Training(steps=60, validate_every=30)


def waves(tasks: int, seed: int, rows: int = 20) -> up.TaskSet:
    return Sinusoids().sample(tasks, rows, random_state=seed)


def shapes(classes: int, seed: int, rows: int = 12) -> up.ClassPool:
    """Images of 8 x 8: a bright bar somewhere for each class, and noise."""
    rng = np.random.default_rng(seed)
    images = 80 * rng.random((classes, rows, 8, 8))
    for number in range(classes):
        row, column = rng.integers(0, 6, 2)
        images[number, :, row : row + 2, column : column + 3] += 150
    labels = np.repeat([f"{seed}-{number}" for number in range(classes)], rows)
    return up.ClassPool(images.reshape(-1, 8, 8).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def maml() -> up.MetaNeuralNetwork:
    training = up.Training(steps=500, validate_every=100)
    return up.MetaNeuralNetwork("maml", options={"descent": SGD(0.03)}, training=training).meta_fit(waves(400, 0))


def test_maml_beats_its_own_start(maml: up.MetaNeuralNetwork) -> None:
    errors = {"adapted": [], "start": []}
    for task in Sinusoids().sample(40, 40, random_state=1):
        for name, model in (("adapted", maml.adapt(task.X[:10], task.y[:10])), ("start", maml.adapt_zero())):
            errors[name].append(np.square(model.predict(task.X[10:]) - task.y[10:]).mean())
    assert np.mean(errors["adapted"]) < 0.8 * np.mean(errors["start"])
    assert "held-out tasks are predicted best" in maml.prior_.settings["choice"]
    assert maml.prior_.settings["options"] == {"descent": {"is": "SGD", "rate": 0.03, "learned": False, "clip": None}}


def test_a_prior_and_a_model_survive_a_folder(maml: up.MetaNeuralNetwork, tmp_path: pathlib.Path) -> None:
    task = waves(1, 2)[0]
    model = maml.adapt(task.X[:7], task.y[:7])
    up.save(maml, tmp_path / "prior", resume=True)
    up.save(model, tmp_path / "model")
    again = up.load(tmp_path / "prior")
    assert again.prior_ == maml.prior_
    assert again.get_params() == maml.get_params()
    np.testing.assert_array_equal(again.adapt(task.X[:7], task.y[:7]).predict(task.X), model.predict(task.X))
    np.testing.assert_array_equal(up.load(tmp_path / "model").predict(task.X), model.predict(task.X))
    more = Sinusoids().sample(460, 20, random_state=5)[400:]
    before = again.prior_
    again.set_params(training=SHORT).meta_partial_fit(more)
    assert again.prior_ != before
    assert again.prior_.provenance["tasks"] == 460


def test_a_network_of_your_own(tmp_path: pathlib.Path) -> None:
    net = eqx.nn.MLP(1, 1, 8, 1, key=jax.random.key(0))
    meta = up.MetaNeuralNetwork("maml", net=net, training=SHORT).meta_fit(waves(40, 0, rows=5))
    assert meta.prior_.settings["net"]["class"] == "MLP"
    task = waves(1, 1)[0]
    model = meta.adapt(task.X[:5], task.y[:5])
    up.save(meta, tmp_path / "prior")
    up.save(model, tmp_path / "model")
    with pytest.raises(up.PriorMismatchError, match=r"network of your own \(MLP\), which is code"):
        up.load(tmp_path / "prior").adapt(task.X[:5], task.y[:5])
    fresh = eqx.nn.MLP(1, 1, 8, 1, key=jax.random.key(9))
    again = up.load(tmp_path / "prior", net=fresh).adapt(task.X[:5], task.y[:5])
    np.testing.assert_array_equal(again.predict(task.X), model.predict(task.X))
    np.testing.assert_array_equal(up.load(tmp_path / "model", net=fresh).predict(task.X), model.predict(task.X))
    wider = eqx.nn.MLP(1, 1, 9, 1, key=jax.random.key(0))
    with pytest.raises(up.PriorMismatchError, match=r"'layers.0.bias' of the prior's network has shape \(8,\)"):
        up.load(tmp_path / "model", net=wider)
    linear = up.MetaNeuralNetwork(net=eqx.nn.MLP(1, 6, 8, 1, final_activation=jax.nn.tanh, key=jax.random.key(0)))
    linear.set_params(training=SHORT).meta_fit(waves(40, 0))
    assert linear.prior_.settings["choice"].startswith("network")
    assert np.isfinite(linear.adapt(task.X[:5], task.y[:5]).predict(task.X)).all()
    linear.meta_partial_fit(waves(44, 0)[40:])


@pytest.mark.skipif(not os.environ.get("UPSTAIRS_LONG"), reason="half a minute; UPSTAIRS_LONG")
def test_network_features_are_used_where_they_help() -> None:
    meta = up.MetaNeuralNetwork(random_state=1).meta_fit(waves(120, 0))
    plain = up.MetaNeuralNetwork(net=None).meta_fit(waves(120, 0))
    assert meta.prior_.settings["choice"].startswith("network")
    errors = np.zeros((40, 2))
    for number, task in enumerate(Sinusoids().sample(40, 40, random_state=1)):
        for k, each in enumerate((meta, plain)):
            errors[number, k] = np.square(each.adapt(task.X[:5], task.y[:5]).predict(task.X[5:]) - task.y[5:]).mean()
    assert errors[:, 0].mean() < 0.8 * errors[:, 1].mean()
    few = waves(1, 3)[0]
    whole = meta.adapt(few.X[:9], few.y[:9])
    parts = meta.adapt(few.X[:4], few.y[:4]).partial_fit(few.X[4:9], few.y[4:9])
    np.testing.assert_allclose(parts.predict(few.X), whole.predict(few.X), rtol=1e-8)


def test_image_networks_on_a_class_pool(tmp_path: pathlib.Path) -> None:
    pool, test = shapes(24, 0), shapes(12, 1)
    training = up.Training(steps=40, validate_every=20, augment=("rotations",))
    net = {"name": "conv4", "sizes": (8, 8)}
    meta = up.MetaNeuralNetwork("prototype", net=net, training=training, ways=3, shots=1).meta_fit(pool)
    tasks = test.episodes(30, ways=3, shots=1, queries=5, random_state=0)
    result = up.evaluate({"net": meta}, tasks, shots=[1], ways=3, queries=5, baselines=["nearest prototype"])
    assert result.ratio("net", "nearest prototype", 1).value < 1.0
    up.save(meta, tmp_path / "prior", resume=True)
    again = up.load(tmp_path / "prior")
    task = tasks[0]
    first = np.array([np.flatnonzero(task.y == label)[0] for label in task.classes])
    model = meta.adapt(task.X[first], task.y[first])
    np.testing.assert_array_equal(
        again.adapt(task.X[first], task.y[first]).predict_proba(task.X), model.predict_proba(task.X)
    )
    again.set_params(net="auto").meta_partial_fit(test.select(range(6)))  # the prior says what it was learned with
    assert again.prior_.provenance["tasks"] == 30


def test_maml_with_labels_of_its_own_has_a_number_of_classes() -> None:
    meta = up.MetaNeuralNetwork("maml", net="mlp", training=SHORT, ways=3).meta_fit(shapes(12, 0, rows=4))
    task = shapes(6, 1, rows=4).episodes(1, ways=4, shots=1, queries=3, random_state=0)[0]
    two = np.isin(task.y, task.classes[:2])
    model = meta.adapt(task.X[two], task.y[two])
    assert model.predict_proba(task.X).shape == (len(task), 2)
    np.testing.assert_allclose(model.predict_proba(task.X).sum(axis=1), 1.0)
    with pytest.raises(up.PriorMismatchError, match="at most 3 classes, but the task has 4"):
        meta.adapt(task.X, task.y)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "maml", "options": {"step": 3}}, "method='maml' has no option 'step'; its options are descent"),
        ({"options": {"steps": 3}}, "has no option 'steps'; it has none"),
        ({"method": "maml", "options": {"descent": abs}}, "descent=<built-in function abs> cannot be stored"),
        ({"net": "resnet"}, "net must be 'auto', None, 'mlp', 'conv4'"),
        ({"net": {"name": "mlp", "size": 3}}, "net must be"),
        ({"method": "maml", "net": None}, "method='maml' learns a network"),
        ({"method": "maml", "net": "conv4"}, r"net='conv4' needs images, but one example has the shape \(1,\)"),
        ({"training": 3}, "training must be an upstairs.Training"),
        ({"net": "mlp", "prior_mean": "boosting"}, "prior_mean='boosting' cannot be used together with net"),
    ],
)
def test_what_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        up.MetaNeuralNetwork(**settings).meta_fit(waves(10, 0))


def test_network_features_for_shared_labels_are_refused() -> None:
    tasks = SharedSubspace().sample(10, 20, random_state=0)
    labelled = tasks.map(lambda task: up.Task(task.X, (task.y > 0).astype(int), name=task.name, kind="classification"))
    with pytest.raises(up.TaskError, match="network features for regressions only"):
        up.MetaNeuralNetwork(net="mlp").meta_fit(labelled)
    with pytest.raises(ValueError, match="Training: augment must be a sequence"):
        up.Training(augment="rotations")
    turned = up.Training(augment=("rotations",))
    flat = up.ClassPool(shapes(6, 0).X.reshape(72, -1), shapes(6, 0).y)
    with pytest.raises(up.PriorMismatchError, match="turns images"):
        up.MetaNeuralNetwork("prototype", net="mlp", training=turned).meta_fit(flat)


SCRIPT = textwrap.dedent(
    """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from test_learn_gradients import kill_me

    def tell(event):
        if event.kind == "progress":
            print("step", event.step, flush=True)

    for _ in sys.stdin:  # imports are made once; every line asks for a process that learns
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)
            kill_me(sys.argv[2], tell)
            print("done", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print("gone", flush=True)
    """
)


def kill_me(folder: str | None = None, callback: object = None) -> up.Prior:
    training = up.Training(steps=3000, validate_every=500, checkpoint=folder, checkpoint_seconds=0, callback=callback)  # type: ignore[arg-type]
    net = {"name": "mlp", "sizes": (8,)}
    return up.MetaNeuralNetwork("maml", net=net, training=training, shots=5).meta_fit(waves(50, 0, rows=6)).prior_


def test_kills_at_random_moments_leave_no_trace(tmp_path: pathlib.Path) -> None:
    """Twice kill -9 (twenty with UPSTAIRS_LONG), each in the run that the one before left; then a call that ends."""
    kills = 20 if os.environ.get("UPSTAIRS_LONG") else 2
    command = [sys.executable, "-c", SCRIPT, str(pathlib.Path(__file__).parent), str(tmp_path / "run")]
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    rng, killed = np.random.default_rng(1), 0
    environment = dict(os.environ) | compiled
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(kills):
            nursery.stdin.write("learn\n")
            nursery.stdin.flush()
            learner = int(nursery.stdout.readline())
            said = [nursery.stdout.readline()]
            time.sleep(float(rng.uniform(0.0, 0.25)))
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.kill(learner, signal.SIGKILL)
            while said[-1] != "gone\n":
                said.append(nursery.stdout.readline())
                assert said[-1], "the process that starts the others has died"
            killed += "done\n" not in said
        nursery.stdin.close()
    assert 2 * killed >= kills
    assert kill_me(str(tmp_path / "run")) == kill_me()
