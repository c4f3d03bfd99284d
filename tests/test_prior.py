import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from upstairs.prior import Prior


@pytest.fixture
def prior():
    return Prior("neural-network", {"kind": "regression", "classes": ()}, {"params/mean": np.arange(3.0)})


def test_copies_are_the_same_object(prior):
    assert copy.copy(prior) is prior
    assert copy.deepcopy(prior) is prior
    assert clone(prior) is prior


def test_read_only_in_every_way(prior):
    with pytest.raises(ValueError, match="read-only"):
        prior.arrays["params/mean"][0] = 1.0
    with pytest.raises(TypeError):
        prior.arrays["params/mean"] = np.zeros(3)
    with pytest.raises(AttributeError, match="read-only"):
        prior.family = "svm"
    with pytest.raises(AttributeError, match="read-only"):
        del prior.family


def test_the_array_handed_in_can_change_without_harm():
    mine = np.zeros(2)
    prior = Prior("neural-network", {}, {"a": mine})
    mine[0] = 5.0
    assert prior.arrays["a"][0] == 0.0


def test_equality_is_by_content(prior):
    same = Prior("neural-network", {"classes": [], "kind": "regression"}, {"params/mean": np.arange(3.0)}, {"tasks": 9})
    other = Prior("neural-network", {"classes": [], "kind": "regression"}, {"params/mean": np.arange(3.0) + 1e-12})
    assert prior == same
    assert hash(prior) == hash(same)
    assert prior != other
    assert pickle.loads(pickle.dumps(prior)) == prior


def test_group_strips_the_prefix(prior):
    assert list(prior.group("params")) == ["mean"]
    assert prior.group("tables") == {}
