"""Draws are uniform, even, disjoint, resumable, and the same on host and device."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from upstairs.errors import TaskError
from upstairs.tasks.sampler import (
    choose_rows,
    choose_tasks,
    integers,
    permutation,
    random_bits,
    shuffled,
    uniform,
    visits,
)
from upstairs.tasks.splits import class_members, draw_episode, folds, split_support_query, task_streams
from upstairs.tasks.task import Task
from upstairs.tasks.taskset import TaskSet

WORDS = st.integers(0, 2**32 - 1)


# The hash ---------------------------------------------------------------------------------------------------------


def test_avalanche_has_the_published_values() -> None:
    from upstairs.tasks.sampler import _avalanche

    def by_hand(x: int) -> int:
        x = ((x ^ (x >> 16)) * 0x85EBCA6B) % 2**32
        x = ((x ^ (x >> 13)) * 0xC2B2AE35) % 2**32
        return x ^ (x >> 16)

    inputs = [0, 1, 2, 0x9E3779B9, 2**31, 2**32 - 1]
    assert _avalanche(np.array(inputs, np.uint32)).tolist() == [by_hand(x) for x in inputs]
    assert by_hand(1) == 0x514E28B7


@pytest.mark.parametrize("axis", ["seed", "step", "task", "index"])
def test_bits_are_equally_distributed_along_every_counter(axis: str) -> None:
    run = np.arange(2**16, dtype=np.uint32)
    zero = np.zeros(1, np.uint32)
    if axis == "index":
        bits = random_bits(3, 1, 2, size=2**16)
    else:
        counters = {"seed": zero, "step": zero, "task": zero} | {axis: run}
        bits = random_bits(*counters.values(), size=1)[:, 0]
    for shift in (0, 8, 16, 24):
        cells = np.bincount((bits >> np.uint32(shift)) & np.uint32(255), minlength=256)
        assert stats.chisquare(cells).pvalue > 1e-4
    pairs = np.bincount((bits[:-1] >> 28) * 16 + (bits[1:] >> 28), minlength=256)
    assert stats.chisquare(pairs).pvalue > 1e-4


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_changed_input_bit_changes_half_of_the_output_bits(place: int) -> None:
    rng = np.random.default_rng(place)
    inputs = rng.integers(0, 2**32, size=(3, 4000), dtype=np.uint32)
    before = random_bits(*inputs, size=2)
    for bit in range(32):
        changed = inputs.copy()
        changed[place] ^= np.uint32(1 << bit)
        flipped = np.unpackbits((before ^ random_bits(*changed, size=2)).view(np.uint8), axis=-1)
        assert abs(flipped.mean() - 0.5) < 5 / np.sqrt(4 * flipped.size)


def test_neighbouring_streams_are_uncorrelated() -> None:
    draws = uniform(np.arange(50)[:, None], np.arange(40), size=250).reshape(2000, 250).astype(float)
    correlation = np.corrcoef(draws)[np.triu_indices(2000, 1)]
    assert abs(correlation.mean()) < 5 / np.sqrt(250 * len(correlation))
    assert abs(correlation.std() * np.sqrt(250) - 1) < 0.02


def test_the_number_of_counters_counts() -> None:
    assert len({int(random_bits(*zeros, size=1)[0]) for zeros in ([0], [0, 0], [0, 0, 0])}) == 3


def test_uniform_is_below_one_and_even() -> None:
    draw = uniform(0, 1, size=100_000)
    assert draw.dtype == np.float32
    assert draw.min() >= 0
    assert draw.max() < 1
    assert stats.kstest(draw, "uniform").pvalue > 1e-4


def test_integers_cover_their_range_evenly_and_per_task() -> None:
    draw = integers(0, np.arange(3), low=np.array([0, 5, 7]), high=np.array([9, 5, 8]), size=20_000)
    assert stats.chisquare(np.bincount(draw[0], minlength=10)).pvalue > 1e-4
    assert set(draw[1].tolist()) == {5}
    assert set(draw[2].tolist()) == {7, 8}


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_seeds_out_of_range_are_refused(bad: int) -> None:
    with pytest.raises(TaskError, match=str(bad)):
        random_bits(bad, size=1)


# Orders -----------------------------------------------------------------------------------------------------------


@given(WORDS, WORDS, st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_orders_are_orders(seed: int, step: int, n: int) -> None:
    assert sorted(permutation(seed, step, size=n).tolist()) == list(range(n))
    assert sorted(shuffled(seed, step, index=np.arange(n), n=n).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("how", ["sorted", "shuffled"])
def test_every_order_is_equally_likely(n: int, how: str) -> None:
    steps = np.arange(60_000)
    orders = permutation(11, steps, size=n)
    if how == "shuffled":
        orders = shuffled(11, steps, index=np.arange(n), n=np.full(len(steps), n))
    codes = orders @ (n ** np.arange(n))
    every = [sum(x * n**i for i, x in enumerate(order)) for order in itertools.permutations(range(n))]
    assert stats.chisquare([np.count_nonzero(codes == code) for code in every]).pvalue > 1e-4


def test_pairs_of_a_longer_order_are_equally_likely() -> None:
    n, steps = 17, np.arange(100_000)
    drawn = shuffled(5, steps, index=np.array([0, 1, n - 1]), n=np.full(len(steps), n))
    for other in (1, 2):
        cells = np.bincount(drawn[:, 0] * n + drawn[:, other], minlength=n * n).reshape(n, n)
        assert np.trace(cells) == 0
        assert stats.chisquare(cells[~np.eye(n, dtype=bool)]).pvalue > 1e-4


def test_large_orders_stay_one_to_one() -> None:
    n = 100_003
    assert len(np.unique(shuffled(1, 2, index=np.arange(n), n=n))) == n
    huge = shuffled(1, 2, index=np.arange(1000), n=2**31 - 1)
    assert len(np.unique(huge)) == 1000
    assert huge.min() >= 0


# Tasks and rows of a step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_tasks", "batch"), [(7, 3), (12, 4), (3, 10), (1, 2), (50, 1)])
def test_coverage_is_even_after_any_number_of_steps(n_tasks: int, batch: int) -> None:
    used, seen = np.zeros(n_tasks, int), set()
    for step in range(40):
        tasks, visit = choose_tasks(4, step, n_tasks, batch), visits(step, n_tasks, batch)
        np.add.at(used, tasks, 1)
        assert used.max() - used.min() <= 1
        seen |= set(zip(tasks.tolist(), visit.tolist(), strict=True))
    assert len(seen) == 40 * batch


def test_epochs_differ_and_a_run_of_steps_equals_its_steps() -> None:
    epochs = choose_tasks(0, np.arange(20), n_tasks=9, batch=9)
    assert len({tuple(row) for row in epochs.tolist()}) == 20
    for step in (19, 3, 0):
        assert np.array_equal(choose_tasks(0, step, 9, 9), epochs[step])


def test_each_task_is_as_likely_in_each_place() -> None:
    epochs = choose_tasks(2, np.arange(20_000), n_tasks=6, batch=6)
    for place in (0, 3, 5):
        assert stats.chisquare(np.bincount(epochs[:, place], minlength=6)).pvalue > 1e-4


def test_steps_beyond_the_counter_are_refused() -> None:
    assert choose_tasks(0, 2**28 - 1, 5, 16).shape == (16,)
    with pytest.raises(TaskError, match=r"2\*\*32"):
        choose_tasks(0, 2**28, 5, 16)
    with pytest.raises(TaskError, match="n_tasks=0"):
        choose_tasks(0, 0, 0, 16)


@given(WORDS, WORDS, st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 8), st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_support_and_query_are_disjoint_rows(seed: int, step: int, counts: list[int], support: int, query: int) -> None:
    draw = choose_rows(seed, step, np.arange(len(counts)), np.array(counts), support, query)
    for t, n in enumerate(counts):
        rows = np.concatenate([draw.support[t][draw.support_mask[t]], draw.query[t][draw.query_mask[t]]])
        assert len(set(rows.tolist())) == len(rows) == min(n, support + query)
        every = np.concatenate([draw.support[t], draw.query[t]])
        assert np.all((every >= 0) & (every < n))
        if query:
            assert draw.query_mask[t].sum() >= 1
            assert draw.support_mask[t].sum() == min(support, n - 1)


def test_a_task_draws_the_same_rows_in_any_batch() -> None:
    task, counts = np.array([4, 9, 2]), np.array([30, 8, 11])
    together = choose_rows(1, 6, task, counts, 3, 5)
    for t in range(3):
        alone = choose_rows(1, 6, int(task[t]), int(counts[t]), 3, 5)
        assert np.array_equal(alone.support, together.support[t])
        assert np.array_equal(alone.query, together.query[t])


def test_query_rows_do_not_depend_on_shots() -> None:
    counts = np.full(4, 25)
    few = choose_rows(0, 3, np.arange(4), counts, 10, 5, shots=np.array([1, 2, 5, 10]))
    many = choose_rows(0, 3, np.arange(4), counts, 10, 5)
    assert few.support_mask.sum(axis=1).tolist() == [1, 2, 5, 10]
    assert np.array_equal(few.query, many.query)
    assert np.array_equal(few.support, many.support)


def test_every_row_is_as_likely_in_support_and_query() -> None:
    steps = np.arange(30_000)
    draw = choose_rows(8, steps, np.zeros_like(steps), np.full(len(steps), 13), 2, 3)
    for rows in (draw.support, draw.query):
        for place in range(rows.shape[1]):
            assert stats.chisquare(np.bincount(rows[:, place], minlength=13)).pvalue > 1e-4


def test_episodes_can_be_drawn_inside_a_program() -> None:
    """Classes by `shuffled`, rows by `choose_rows` with one number for each (episode, class)."""
    counts = np.array([6, 8, 5, 9, 7, 6])
    episode = np.arange(4)
    classes = shuffled(0, 77, episode, index=np.arange(3)[None], n=len(counts))
    rows = choose_rows(0, 77, episode[:, None] * len(counts) + classes, counts[classes], 2, 3)
    assert rows.support.shape == (4, 3, 2)
    assert rows.query_mask.all()
    assert all(len(set(row)) == 3 for row in classes.tolist())
    assert np.all(rows.query.max(axis=2) < counts[classes])


def test_host_and_compiled_program_agree_bit_for_bit() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, 2**32, size=6, dtype=np.uint32)
    steps = np.concatenate([[0, 1, 2, 2**28 - 1], rng.integers(0, 2**28, size=4)]).astype(np.uint32)

    @jax.jit
    def draw(seed, step):  # type: ignore[no-untyped-def]
        return everything(seed, step, jnp)

    def everything(seed, step, xp):  # type: ignore[no-untyped-def]
        task, counts, shots = (xp.asarray(np.array(values, np.int32)) for values in ([0, 5, 9], [40, 3, 17], [5, 1, 2]))
        rows = choose_rows(seed, step, task, counts, 5, 6, xp, shots=shots)
        parts = {
            "bits": random_bits(seed, step, 3, size=33, xp=xp),
            "uniform": uniform(seed, step, size=9, xp=xp),
            "integers": integers(seed, step, low=3, high=20, size=9, xp=xp),
            "permutation": permutation(seed, step, size=21, xp=xp),
            "tasks": choose_tasks(seed, step, 11, 16, xp),
            "visits": visits(step, 11, 16, xp),
        }
        return parts | {name: getattr(rows, name) for name in ("support", "support_mask", "query", "query_mask")}

    for seed, step in itertools.product(seeds, steps):
        on_device = draw(seed, step)
        for name, value in everything(seed, step, np).items():
            assert np.asarray(on_device[name]).dtype == value.dtype, name
            assert np.array_equal(on_device[name], value), name


# Draws on the host ------------------------------------------------------------------------------------------------


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_regression_split_takes_all_rows_once() -> None:
    support, query = split_support_query(np.arange(10.0), "regression", None, 3, None, rng())
    assert len(support) == 3
    assert sorted([*support, *query]) == list(range(10))
    support, query = split_support_query(np.arange(10.0), "regression", None, (2, 4), 5, rng())
    assert 2 <= len(support) <= 4
    assert len(query) == 5


def test_shared_labels_are_split_by_rows_not_by_class() -> None:
    y = np.array([0] * 9 + [1])
    support, query = split_support_query(y, "classification", "shared", 9, None, rng())
    assert (len(support), len(query)) == (9, 1)
    assert split_support_query(y, "classification", "shared", 10, 0, rng())[0].size == 10


def test_order_puts_first_rows_into_the_support() -> None:
    time = np.array([3, 1, 2, 1, 0])
    support, query = split_support_query(np.zeros(5), "regression", None, 3, None, rng(), order=time)
    assert support.tolist() == [4, 1, 3]
    assert query.tolist() == [2, 0]


def test_order_holds_inside_each_class_for_own_labels() -> None:
    y, time = np.tile(["a", "b"], 4), np.arange(8)[::-1]
    support, query = split_support_query(y, "classification", "own", 1, 2, rng(), order=time)
    assert {(str(y[row]), int(row)) for row in support} == {("a", 6), ("b", 7)}
    assert set(query.tolist()) == {2, 4, 3, 5}


def test_own_labels_give_shots_and_queries_a_class() -> None:
    y = np.repeat(["a", "b", "c", "d"], [5, 6, 7, 8])
    support, query = split_support_query(y, "classification", "own", 2, 3, rng())
    assert {c: (y[support] == c).sum() for c in "abcd"} == dict.fromkeys("abcd", 2)
    assert {c: (y[query] == c).sum() for c in "abcd"} == dict.fromkeys("abcd", 3)
    assert not set(support.tolist()) & set(query.tolist())
    support, _ = split_support_query(y, "classification", "own", 1, None, rng(), ways=3)
    assert len(set(y[support].tolist())) == 3


def test_ranges_of_shots_and_ways_reach_both_ends() -> None:
    members = [np.arange(10) + 10 * c for c in range(6)]
    ways, shots = set(), set()
    generator = rng()
    for _ in range(200):
        episode = draw_episode(members, (2, 4), (1, 3), 2, generator)
        ways.add(len(episode.classes))
        shots |= set(np.bincount(episode.support_way).tolist())
        assert np.array_equal(episode.support // 10, episode.classes[episode.support_way])
        assert np.array_equal(episode.query // 10, episode.classes[episode.query_way])
        assert np.bincount(episode.query_way).tolist() == [2] * len(episode.classes)
    assert ways == {2, 3, 4}
    assert shots == {1, 2, 3}


def test_small_classes_are_passed_over_unless_all_are_asked_for() -> None:
    y = np.repeat(["a", "b", "c"], [5, 5, 1])
    _, members = class_members(y)
    chosen = {tuple(sorted(draw_episode(members, 2, 1, 1, np.random.default_rng(i)).classes)) for i in range(20)}
    assert chosen == {(0, 1)}
    with pytest.raises(TaskError, match=r"Task 'site_07' \(11 rows, 3 classes\): shots=1.*the smallest has 1"):
        split_support_query(y, "classification", "own", 1, 1, rng(), name="site_07")


def test_too_many_shots_name_task_rows_shots_and_remedy() -> None:
    with pytest.raises(TaskError, match=r"Task 'site_07' \(4 rows\): shots=4 .* 5 rows.*fewer shots.*min_rows=5"):
        split_support_query(np.arange(4.0), "regression", None, 4, None, rng(), name="site_07")
    with pytest.raises(TaskError, match="shots="):
        split_support_query(np.arange(4.0), "regression", None, (3, 1), None, rng())
    with pytest.raises(TaskError, match="ways=2"):
        split_support_query(np.arange(4.0), "regression", None, 1, None, rng(), ways=2)


def test_folds_leave_groups_out_evenly_in_any_order() -> None:
    groups = np.repeat(list("abcdefg"), [5, 1, 1, 2, 2, 3, 1])
    parts = folds(groups.tolist(), 3, seed=1)
    assert [len(test) for _, test in parts] == [5, 5, 5]
    for train, test in parts:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(15))
    names = np.array([f"{group}{number}" for number, group in enumerate(groups)])
    mixed = np.random.default_rng(0).permutation(15)
    again = folds(groups[mixed].tolist(), 3, seed=1)
    for (_, test), (_, moved) in zip(parts, again, strict=True):
        assert set(names[test]) == set(names[mixed][moved])
    assert any(
        set(a[1].tolist()) != set(b[1].tolist()) for a, b in zip(parts, folds(groups.tolist(), 3, seed=2), strict=True)
    )


def test_folds_take_the_groups_of_a_task_set() -> None:
    tasks = TaskSet(
        [Task(np.zeros((3, 1)), np.arange(3.0), name=f"t{i}", group="a" if i < 2 else None) for i in range(5)]
    )
    for train, test in folds(tasks.groups, 4, seed=0):
        assert not set(tasks[train].groups) & set(tasks[test].groups)
    with pytest.raises(TaskError, match="n_folds=5"):
        folds(tasks.groups, 5, seed=0)


def test_streams_depend_on_the_name_alone() -> None:
    names = [f"task{i}" for i in range(20)]
    first = {name: stream.random() for name, stream in task_streams(3, names).items()}
    again = {name: stream.random() for name, stream in task_streams(3, names[::-2]).items()}
    assert all(first[name] == value for name, value in again.items())
    assert len(set(first.values())) == 20
    assert task_streams(4, names)["task0"].random() != first["task0"]


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_streams_take_generators_which_move_on(make) -> None:  # type: ignore[no-untyped-def]
    state = make(0)
    one, two = (task_streams(state, ["a"])["a"].random() for _ in range(2))
    assert one != two
    assert task_streams(make(0), ["a"])["a"].random() == one
    assert task_streams(None, ["a"])["a"].random() != task_streams(None, ["a"])["a"].random()
