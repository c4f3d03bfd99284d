"""Features of a network, learned over tasks so that a Bayesian linear last layer on them predicts well.

As with pooled predictions (`upstairs.outer.pooling`), what a task is told must not have been learned from its own
rows where its worth is judged: one network is trained for every set of folds that is asked for, and shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from upstairs.inner.hidden import from_mlp, hidden_features
from upstairs.outer.pooling import Data
from upstairs.outer.training import Training, train
from upstairs.tasks.batches import FlatRows

if TYPE_CHECKING:
    from upstairs.nets.build import Net

__all__ = ["NetworkFeatures", "mapped"]

DEFAULT = {"steps": 1500, "rate": 3e-3, "batch": 25, "queries": 20}
PATIENCE = 4
MOST_SHOTS = 20
HELD_OUT = 0.2
"""Share of the tasks that say when to stop (families differ: 300 steps are best for some, 1,500 for others)."""


@dataclass(frozen=True)
class NetworkFeatures:
    """Networks for sets of folds of a regression, trained when first asked for.

    Parameters
    ----------
    data : Data
    net : Net
        Maps encoded rows to features.
    training : Training, optional
    """

    data: Data
    net: Net
    training: Training | None = None
    learned: dict[frozenset[int], dict[str, np.ndarray]] = field(default_factory=dict)

    def arrays(self, folds: frozenset[int]) -> dict[str, np.ndarray]:
        """Return the network's arrays: ``hidden/...`` where NumPy can evaluate it, else ``net/...``."""
        if folds not in self.learned:
            self.learned[folds] = self._train(folds)
        return self.learned[folds]

    def _train(self, folds: frozenset[int]) -> dict[str, np.ndarray]:
        from upstairs.inner.heads import BayesianLinearHead
        from upstairs.inner.traced import Spec
        from upstairs.nets.precision import computing
        from upstairs.outer.augment import training_draw
        from upstairs.outer.draws import TaskDraw, flat_data

        part = self.data.part(folds)
        rng = np.random.default_rng([self.data.seed, len(part.fold)])
        held = rng.permutation(len(part.fold)) < HELD_OUT * len(part.fold)
        training = (self.training or Training(patience=PATIENCE)).filled(**DEFAULT)
        assert training.batch is not None
        assert training.queries is not None
        draw = TaskDraw(training.batch, (1, MOST_SHOTS), training.queries)
        room = (len(self.data.offsets) - 1, len(self.data.y))

        def rows(chosen: np.ndarray) -> dict[str, np.ndarray]:
            some = replace(part, fold=chosen.astype(np.int64)).part({1})
            return flat_data(FlatRows(some.x, some.y, some.offsets), room)

        name = "all" if len(folds) == len(set(self.data.fold.tolist())) else "-".join(map(str, sorted(folds)))
        outcome = train(
            BayesianLinearHead(computing(self.net, training.precision)),
            Spec(self.net.inputs),
            training_draw(draw, training, "regression"),
            rows(~held),
            training.within(f"features-{name}"),
            validation=(draw, rows(held)),
            judge_rule=BayesianLinearHead(self.net),
            seed=self.data.seed,
            title=f"network features ({'all tasks' if name == 'all' else f'folds {name}'})",
        )
        found = {key[4:]: array for key, array in outcome.params.items() if key.startswith("net/")}
        if plain(self.net):
            return from_mlp(found)
        return {f"net/{key}": array for key, array in found.items()}


def plain(net: Net) -> bool:
    """Whether NumPy can evaluate a network: layers that all end in tanh."""
    from upstairs.nets.build import NetSpec

    return (
        isinstance(net, NetSpec) and net.name == "mlp" and net.activation == "tanh" and net.final and not net.normalised
    )


def mapped(
    net: Net | None, arrays: Mapping[str, np.ndarray], x: Float[np.ndarray, "row feature"]
) -> Float[np.ndarray, "row hidden"]:
    """Features of rows, from arrays that `NetworkFeatures.arrays` gave."""
    if any(name.startswith("hidden/") for name in arrays):
        return hidden_features(arrays, x)
    from upstairs.inner.features import features_of

    assert net is not None
    return features_of(net, {name[4:]: array for name, array in arrays.items() if name.startswith("net/")}, x)
