import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.certificate import Certificate, betting_bound, certify, empirical_bernstein, hoeffding


def scattered(repetitions, tasks=40, seed=0):
    return np.clip(np.random.default_rng(seed).normal(0.1, 0.05, size=(repetitions, tasks)), 0, 1)


def coin(rate):
    return lambda rng, shape: (rng.random(shape) < rate).astype(np.float64)


DRAWS = {
    "coin .02": (coin(0.02), 0.02),
    "coin .1": (coin(0.1), 0.1),
    "coin .3": (coin(0.3), 0.3),
    "uniform": (lambda rng, shape: rng.random(shape), 0.5),
    "skewed": (lambda rng, shape: rng.beta(0.2, 1.8, shape), 0.1),
    "rare disasters": (lambda rng, shape: np.where(rng.random(shape) < 0.05, 1.0, rng.beta(2, 38, shape)), 0.0975),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_bound_at_95_percent_fails_in_at_most_5_percent(name):
    draw, mean = DRAWS[name]
    losses = draw(np.random.default_rng(1), (600, 30))
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    for bound in (betting_bound, empirical_bernstein, hoeffding):
        assert (bound(losses) < mean).mean() <= allowed


def test_forty_tasks_with_small_losses_are_enough():
    losses = scattered(500)
    assert betting_bound(losses).mean() == pytest.approx(0.186, abs=0.001)
    assert betting_bound(losses, truncation=0.5).mean() == pytest.approx(0.222, abs=0.001)
    assert empirical_bernstein(losses).mean() == pytest.approx(0.342, abs=0.002)
    assert hoeffding(losses).mean() == pytest.approx(0.294, abs=0.002)


def test_capital_by_hand():
    # one loss of 0: the first bet is sqrt(2 log(2) / .25) = 2.35, at most .75 / (1 - m);
    # 1 + .75 m / (1 - m) = 2 at m = 4/7
    assert betting_bound(np.zeros(1), 0.5) == pytest.approx(4 / 7, abs=1e-12)
    # ten zeros: every bet is cut, (1 + .75 m / (1 - m)) ** 10 = 20
    gain = 20 ** (1 / 10) - 1
    assert betting_bound(np.zeros(10)) == pytest.approx(gain / (0.75 + gain), abs=1e-12)


def test_the_capital_ever_held_counts():
    good, bad = np.zeros(60), np.ones(3)
    assert betting_bound(np.concatenate([good, bad])) < betting_bound(np.concatenate([bad, good]))
    # the number of tasks stands in the bets; apart from that the bad end costs nothing
    assert betting_bound(np.concatenate([good, bad])) == pytest.approx(betting_bound(good), abs=2e-3)


def test_other_bounds_by_hand():
    losses = np.array([0.1, 0.3, 0.2, 0.2])
    variance = (0.1**2 + 0.1**2) / 3
    expected = 0.2 + np.sqrt(2 * variance * np.log(2 / 0.5) / 4) + 7 * np.log(2 / 0.5) / (3 * 3)
    assert empirical_bernstein(losses, 0.5) == pytest.approx(min(expected, 1.0))
    assert hoeffding(losses, 0.5) == pytest.approx(0.2 + np.sqrt(np.log(2) / 8))
    assert empirical_bernstein(np.zeros(1)) == 1.0


def test_a_range_is_rescaled():
    losses = scattered(1)[0]
    unit, wide = certify(losses), certify(10 * losses - 2, low=-2.0, high=8.0)
    for name, bound in unit.bounds.items():
        assert wide.bounds[name] == pytest.approx(10 * bound - 2)
    assert wide.bound == wide.bounds["betting"]
    assert certify(losses, method="Hoeffding").bound == unit.bounds["Hoeffding"]


def test_losses_outside_the_range_are_refused_or_clipped():
    losses = np.array([0.2, 1.5, 0.1])
    with pytest.raises(TaskError, match=r"loss of task 'b' is 1.5 \(1 lie outside\); give the range .*clip=True"):
        certify(losses, names=["a", "b", "c"])
    found = certify(losses, clip=True)
    assert (found.clipped, found.mean) == (1, pytest.approx(1.3 / 3))
    assert "Losses outside the range that were clipped: 1" in str(found)
    assert certify(losses, high=2.0).clipped == 0


def test_the_order_is_that_of_names_and_never_of_values():
    rng = np.random.default_rng(3)
    losses, names = rng.random(25), [f"t{number:02d}" for number in range(25)]
    order = rng.permutation(25)
    shuffled = certify(losses[order], names=[names[n] for n in order])
    assert shuffled == certify(losses, names=names) == certify(losses)
    assert certify(losses[order]).bound != certify(losses).bound


def test_tasks_of_a_cluster_are_one_unit():
    rng = np.random.default_rng(4)
    losses = rng.random(12)
    clusters = [f"c{number // 3}" for number in range(12)]
    found = certify(losses, clusters=clusters)
    alone = certify(losses.reshape(4, 3).mean(axis=1))
    assert (found.tasks, found.unit) == (4, "group")
    assert dict(found.bounds) == pytest.approx(dict(alone.bounds))
    assert "mean loss of new groups of tasks" in str(found)


def test_words_name_the_assumptions_and_round_upwards():
    found = certify(np.array([*scattered(1)[0], np.nan]), loss="error rate")
    said = found.in_words()
    assert (found.tasks, found.missing) == (40, 1)
    for words in (
        "With 95 % confidence the mean error rate",
        "independent and drawn like those of the future",
        "every loss lies in [0, 1]",
        "neither the prior nor the learner was chosen on these tasks",
        "Tasks that could not be measured: 1",
    ):
        assert words in said
    assert float(said.split("at most ")[1].split()[0]) >= found.bound
    assert "too few tasks" in str(certify(np.array([0.1, 0.2])))
    assert isinstance(found, Certificate)


def test_arguments_are_checked():
    losses = np.array([0.1, 0.2])
    with pytest.raises(TaskError, match="confidence must lie between 0 and 1"):
        certify(losses, confidence=95.0)
    with pytest.raises(TaskError, match="truncation must lie between 0 and 1"):
        certify(losses, truncation=1.0)
    with pytest.raises(TaskError, match="method must be one of"):
        certify(losses, method="bootstrap")
    with pytest.raises(TaskError, match="low and high must be finite"):
        certify(losses, high=np.inf)
    with pytest.raises(TaskError, match="names has 1 entries for 2 losses"):
        certify(losses, names=["a"])
    with pytest.raises(TaskError, match="at least one measured loss"):
        certify(np.array([np.nan]))
