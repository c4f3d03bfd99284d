"""Types and shapes of the library's functions are checked while the tests run."""

from __future__ import annotations

import numpy as np
import pytest

from upstairs.inner.gaussian import posterior
from upstairs.inner.rule import Gaussian, Rows
from upstairs.tasks.batches import FlatRows, bucket
from upstairs.tasks.hidden_rule import _rotation

ONE, EYE = np.zeros(1), np.eye(1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bucket("4"),
        lambda: posterior(ONE, EYE, "1.0", np.ones((3, 1)), np.ones(3)),
        lambda: posterior(ONE, EYE, 1.0, np.ones((3, 1)), np.ones((3, 1))),  # not the axes
        lambda: posterior(ONE, EYE, 1.0, np.ones((3, 1)), np.ones(4)),  # rows that differ in number
        lambda: posterior(ONE, EYE, 1.0, np.ones((3, 1)), np.ones(3, dtype=bool)),
        lambda: FlatRows(np.ones((3, 1)), np.ones(4), np.array([0, 3])),  # fields of a frozen dataclass
        lambda: Gaussian(np.ones((1, 3)), np.ones((1, 4))),
        lambda: Rows(np.ones((1, 3, 1)), np.ones((1, 3)), np.ones((1, 4), dtype=bool)),
        lambda: _rotation(3.0, np.random.default_rng(0)),
    ],
)
def test_what_does_not_fit_is_caught(call):
    with pytest.raises(Exception, match=r"type hint|Type-check"):
        call()


def test_sizes_are_those_of_one_call():
    for rows in (3, 4):
        mean, _ = posterior(ONE, EYE, 1.0, np.ones((rows, 1)), np.ones(rows))
        assert mean.shape == (1,)
