import numpy as np
import pytest

from upstairs.outer.metric import Classes, choose_metric, relearn_metric


def noisy_classes(seed, classes=24, rows=12):
    """Classes differ in the first 3 of 12 columns; the other 9 are strong noise."""
    rng = np.random.default_rng(seed)
    scale = np.array([0.3] * 3 + [3.0] * 9)
    means = np.concatenate([rng.normal(size=(classes, 3)), np.zeros((classes, 9))], axis=1)
    x = np.repeat(means, rows, axis=0) + rng.normal(size=(classes * rows, 12)) * scale
    labels = np.repeat(np.arange(classes), rows)
    return Classes(x, labels, np.zeros(classes, dtype=int), np.arange(classes))


def test_noise_directions_are_found_and_used():
    choice = choose_metric(noisy_classes(0), raw_scale=np.ones(12), shots=(1, 3), ways=5, seed=0)
    assert choice.settings["share"] < 1.0, choice.sentence
    plain = next(entry for entry in choice.report if entry["metric"] == "plain" and entry["pull"] == 0.0)
    best = min(choice.report, key=lambda entry: entry["log_loss"])
    assert best["log_loss"] < 0.8 * plain["log_loss"]
    weight = np.square(choice.params["transform"]).sum(axis=1)
    assert weight[:3].min() > 8 * weight[3:].max()


def test_plain_distances_where_there_is_nothing_to_learn():
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(20, 4)), 8, axis=0) + 0.5 * rng.normal(size=(160, 4))
    labels = np.repeat(np.arange(20), 8)
    classes = Classes(x, labels, np.zeros(20, dtype=int), np.arange(20))
    choice = choose_metric(classes, raw_scale=np.ones(4), shots=(1, 5), ways=5, seed=0)
    assert choice.settings["share"] == 1.0, choice.sentence


def test_same_seed_same_choice_and_relearning_gives_the_same_params():
    classes = noisy_classes(3)
    first = choose_metric(classes, raw_scale=np.ones(12), shots=(1, 1), ways=None, seed=4)
    again = choose_metric(classes, raw_scale=np.ones(12), shots=(1, 1), ways=None, seed=4)
    assert first.sentence == again.sentence
    relearned = relearn_metric(classes, first.settings, np.ones(12))
    for name in first.params:
        np.testing.assert_array_equal(first.params[name], again.params[name])
        np.testing.assert_array_equal(first.params[name], relearned[name])


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_to_compare_fall_back_to_plain_distances(rows):
    x = np.random.default_rng(0).normal(size=(3 * rows, 2))
    classes = Classes(x, np.repeat(np.arange(3), rows), np.arange(3), np.arange(3))
    choice = choose_metric(classes, raw_scale=np.ones(2), shots=(2, 2), ways=None, seed=0)
    assert "too few" in choice.sentence
    assert choice.folds == []
