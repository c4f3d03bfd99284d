"""The classic first example, and what changes when there is a family of such tasks.

    python examples/classic.py

First one task: scikit-learn's ``make_classification`` and a network with 32 hidden units, in plain JAX, Equinox and Optax.

Then a family of tasks: `upstairs.tasks.synthetic.HiddenRule(hidden=2)`. As in ``make_classification``, each class is two clusters
at corners of a square, here opposite ones, in a plane of the 20 features that all tasks share; each task turns the square in its
own way. Tasks to learn from are drawn with ``random_state=1``, tasks to test on with ``random_state=2``. On every test task rows 0 to
199 are there to learn from (the first 10, 50, or all) and rows 200 to 499 are what everybody is tested on.
"""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import upstairs as up
from upstairs.tasks.synthetic import HiddenRule


def train_net(key: Any, X: Any, y: Any, epochs: int = 10, batch: int = 32) -> Any:
    """Fit a network with 32 hidden units: binary cross-entropy, Adam with a rate of .01."""
    start, order = jax.random.split(key)
    net = eqx.nn.MLP(X.shape[1], "scalar", 32, 1, key=start)
    weights, rest = eqx.partition(net, eqx.is_inexact_array)
    adam = optax.adam(0.01)
    batch = min(batch, len(X))

    def loss(weights: Any, rows: Any) -> Any:
        logits = jax.vmap(eqx.combine(weights, rest))(X[rows])
        return optax.sigmoid_binary_cross_entropy(logits, y[rows]).mean()

    def step(state: Any, rows: Any) -> Any:
        weights, memory = state
        updates, memory = adam.update(jax.grad(loss)(weights, rows), memory)
        return (optax.apply_updates(weights, updates), memory), None

    steps = len(X) // batch  # an epoch; the last, smaller batch is left out
    shuffled = jax.vmap(lambda k: jax.random.permutation(k, len(X))[: steps * batch])(jax.random.split(order, epochs))
    (weights, _), _ = jax.lax.scan(step, (weights, adam.init(weights)), shuffled.reshape(epochs * steps, batch))
    return eqx.combine(weights, rest)


def accuracy(net: Any, X: Any, y: Any) -> Any:
    """Share of right labels."""
    return ((jax.vmap(net)(X) > 0) == (y > 0.5)).mean()


def one_task() -> float:
    """Print the test accuracy of the classic example for five starts of the network, and return their mean.

    The split keeps the shares of the classes; one of the same size that does not was harder (.845).
    """
    X, y = make_classification(n_samples=1000, n_features=20, n_classes=2, random_state=42)
    X, X_test, y, y_test = train_test_split(X.astype(np.float32), y, test_size=0.2, stratify=y, random_state=42)
    data = jnp.asarray(X), jnp.asarray(y, jnp.float32), jnp.asarray(X_test), jnp.asarray(y_test)
    run = jax.jit(jax.vmap(lambda key: accuracy(train_net(key, *data[:2]), *data[2:])))
    found = np.asarray(run(jax.random.split(jax.random.key(0), 5)))
    print(
        f"One task, {len(X)} rows: test accuracy of the network {found.mean():.3f} ({found.min():.3f} to {found.max():.3f})"
    )
    return float(found.mean())


def family(
    tasks: int = 2000,
    steps: int = 2000,
    test_tasks: int = 40,
    seeds: int = 3,
    lengths: Any = (10, 100),
    plain_rows: Any = (10, 50, 200),
    our_rows: Any = (5, 10, 20),
) -> dict[str, np.ndarray]:
    """Print accuracies on test tasks of the family; each array has the shape (seed, task)."""
    rule = HiddenRule(hidden=2)
    start = time.perf_counter()
    training = up.Training(steps=steps, batch=32, rate=0.003, validate_every=max(1, steps // 10))
    train = rule.sample(tasks, rows=60, random_state=1)
    priors = [
        up.MetaNeuralNetwork("ridge", net="mlp", shots=(10, 10), training=training, random_state=seed).meta_fit(train)
        for seed in range(seeds)
    ]
    print(f"\nA family: {tasks} tasks to learn from ({time.perf_counter() - start:.0f} s for {seeds} seeds)")

    test = list(rule.sample(test_tasks, rows=500, random_state=2))
    X = jnp.asarray(np.stack([task.X for task in test]), jnp.float32)
    y = jnp.asarray(np.stack([task.y for task in test]), jnp.float32)
    found: dict[str, np.ndarray] = {}
    for rows in plain_rows:
        fit = [LogisticRegression().fit(task.X[:rows], task.y[:rows]) for task in test]
        score = [model.score(task.X[200:], task.y[200:]) for model, task in zip(fit, test, strict=True)]
        found[f"logistic regression, {rows} rows"] = np.array([score])
        for epochs in lengths:

            def run(key: Any, X: Any, y: Any, rows: int = rows, epochs: int = epochs) -> Any:
                return accuracy(train_net(key, X[:rows], y[:rows], epochs), X[200:], y[200:])

            keys = jax.random.split(jax.random.key(0), (seeds, test_tasks))
            each = jax.jit(jax.vmap(jax.vmap(run), in_axes=(0, None, None)))(keys, X, y)
            found[f"network, {epochs} epochs, {rows} rows"] = np.asarray(each)
    for rows in our_rows:
        supports = [up.Task(task.X[:rows], task.y[:rows], name=task.name, kind="classification") for task in test]
        score = []
        for meta in priors:
            models = meta.adapt_many(up.TaskSet(supports, labels="shared"))
            score.append([float((m.predict(t.X[200:]) == t.y[200:]).mean()) for m, t in zip(models, test, strict=True)])
        found[f"upstairs, {rows} rows"] = np.array(score)
    found["someone who knows the family, 10 rows"] = np.array(
        [[(rule.best(t.X[:10], t.y[:10], t.X[200:], turns=500).argmax(axis=1) == t.y[200:]).mean() for t in test]]
    )

    print(
        f"accuracy on {test_tasks} test tasks: mean, standard deviation over tasks, lowest and highest mean of a seed"
    )
    for name, values in found.items():
        means = values.mean(axis=1)
        print(
            f"{name:40s} {values.mean():.3f}  {values.mean(axis=0).std():.3f}  {means.min():.3f} to {means.max():.3f}"
        )
    return found


if __name__ == "__main__":
    one_task()
    family()
