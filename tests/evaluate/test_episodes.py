import numpy as np
import pytest

from upstairs.errors import TaskError
from upstairs.evaluate.episodes import freeze
from upstairs.tasks import ClassPool, Table, Task, TaskSet


def regression(sizes, seed=0, prefix="t"):
    rng = np.random.default_rng(seed)
    return TaskSet(
        [
            Task(rng.normal(size=(n, 2)), rng.normal(size=n), name=f"{prefix}{i}", group=f"g{i % 2}")
            for i, n in enumerate(sizes)
        ]
    )


def own(classes, rows, tasks=2):
    rng = np.random.default_rng(0)
    y = np.repeat([f"c{number}" for number in range(classes)], rows)
    return TaskSet([Task(rng.normal(size=(len(y), 3)), y, name=f"t{i}") for i in range(tasks)], labels="own")


def pool(classes=12, rows=8):
    rng = np.random.default_rng(0)
    return ClassPool(rng.normal(size=(classes * rows, 2, 2)), np.repeat(np.arange(classes), rows))


def rows_of(episodes):
    return {(episodes.names[p.task], p.shots, p.draw): (p.support.tolist(), p.query.tolist()) for p in episodes.places}


def test_support_and_query_are_disjoint_and_nested_over_shots():
    episodes = freeze(regression([30, 30, 8]), shots=[1, 5], queries=10, draws=3)
    found = rows_of(episodes)
    for support, query in found.values():
        assert not set(support) & set(query)
    for name in ("t0", "t1"):
        for draw in range(3):
            assert found[name, 1, draw][0] == found[name, 5, draw][0][:1]
            assert found[name, 1, draw][1] == found[name, 5, draw][1]
            assert len(found[name, 5, draw][1]) == 10
    assert len(found["t2", 5, 0][1]) == 3
    assert found["t0", 5, 0] != found["t0", 5, 1]


def test_all_remaining_rows_are_query_rows():
    (place,) = freeze(regression([9]), shots=[4], queries=None).places
    assert sorted([*place.support, *place.query]) == list(range(9))


def test_rows_depend_on_the_name_of_the_task_alone():
    tasks = regression([20, 20, 20])
    whole = freeze(tasks, shots=[5], draws=2)
    turned = freeze(tasks[[2, 0, 1]], shots=[5], draws=2)
    assert turned.hash == whole.hash
    assert rows_of(turned) == rows_of(whole)
    part = rows_of(freeze(tasks[[1]], shots=[2, 5]))
    assert part["t1", 5, 0] == rows_of(whole)["t1", 5, 0]
    assert rows_of(freeze(tasks, shots=[5], random_state=1)) != rows_of(freeze(tasks, shots=[5]))


def test_the_hash_sees_names_rows_and_data():
    tasks = regression([20, 20])
    start = freeze(tasks, shots=[5]).hash
    assert freeze(tasks, shots=[5]).hash == start
    others = [freeze(tasks, shots=[5], random_state=1), freeze(tasks, shots=[4]), freeze(tasks, shots=[5], draws=2)]
    moved = [Task(t.X + (t.name == "t1"), t.y, name=t.name) for t in tasks]
    target = [Task(t.X, t.y + (t.name == "t1"), name=t.name) for t in tasks]
    renamed = [Task(t.X, t.y, name=f"{t.name}x") for t in tasks]
    others += [freeze(TaskSet(changed), shots=[5]) for changed in (moved, target, renamed)]
    assert len({start, *(other.hash for other in others)}) == 7


def test_the_hash_sees_cells_of_tables():
    def table(cell):
        X = Table(["a", "b"], [np.arange(4.0), np.array(["u", None, "v", cell], dtype=object)])
        return freeze(TaskSet([Task(X, np.arange(4.0), name="t")]), shots=[1]).hash

    assert table("v") != table("w")
    assert table("v") == table("v")


def test_small_tasks_are_counted():
    episodes = freeze(regression([3, 6, 20]), shots=[2, 5, 10], draws=2)
    assert [(entry.shots, entry.count, entry.tasks) for entry in episodes.left_out] == [
        (5, 2, ("t0",)),
        (10, 4, ("t0", "t1")),
    ]
    assert str(episodes.left_out[0]) == "5 shots: 2 episodes left out, fewer than 6 rows (t0)"
    with pytest.raises(TaskError, match=r"large enough: 50 shots: 3 episodes left out"):
        freeze(regression([3, 6, 20]), shots=[50])


def test_own_labels_are_drawn_a_class():
    episodes = freeze(own(6, 10), shots=[1, 4], ways=3, queries=2, draws=2)
    tasks = {task.name: task for task in own(6, 10)}
    for place in episodes.places:
        y = tasks[episodes.names[place.task]].y
        classes, counts = np.unique(y[place.support], return_counts=True)
        assert len(classes) == 3
        assert set(counts) == {place.shots}
        assert np.unique(y[place.query], return_counts=True)[1].tolist() == [2, 2, 2]
    found = rows_of(episodes)
    assert set(found["t0", 1, 0][0]) < set(found["t0", 4, 0][0])
    assert found["t0", 1, 0][1] == found["t0", 4, 0][1]


def test_own_labels_with_a_small_class():
    y = np.array(["a"] * 9 + ["b"] * 9 + ["c"] * 2)
    tasks = TaskSet([Task(np.ones((20, 1)), y, name="t")], labels="own")
    episodes = freeze(tasks, shots=[1, 5])
    assert [str(entry) for entry in episodes.left_out] == [
        "5 shots: 1 episodes left out, a class of fewer than 6 rows (t)"
    ]
    chosen = freeze(tasks, shots=[5], ways=2)
    assert set(y[chosen.places[0].support]) == {"a", "b"}
    with pytest.raises(TaskError, match="fewer than 3 classes of 6 rows"):
        freeze(tasks, shots=[5], ways=3)


def test_pools_give_episodes():
    episodes = freeze(pool(), shots=[1, 3], queries=4, draws=7)
    assert len(episodes) == 14
    assert episodes.names[0] == "episode-0"
    for place in episodes.places:
        read = episodes.read(place)
        assert read.support.X.shape == (5 * place.shots, 4)
        assert read.query.X.shape == (20, 4)
        assert set(read.support.classes) == set(read.query.classes)
        np.testing.assert_array_equal(read.support.X[0], pool().X[place.support[0]].ravel())
    assert len(freeze(pool(3), shots=[1]).read(freeze(pool(3), shots=[1]).places[0]).support.classes) == 3
    assert len(freeze(pool(), shots=[1])) == 200
    assert freeze(pool(), shots=[1], draws=7).hash != freeze(pool(rows=9), shots=[1], draws=7).hash


def test_order_puts_early_rows_into_the_support():
    time = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    X = Table(["time"], [time])
    tasks = TaskSet([Task(X, time, name="t")])
    for order in ("time", lambda task: task.y):
        (place,) = freeze(tasks, shots=[2], queries=2, order=order).places
        assert (time[place.support].tolist(), time[place.query].tolist()) == ([1.0, 2.0], [3.0, 4.0])
    (place,) = freeze(tasks, shots=[2], queries=None, order=True).places
    assert place.query.tolist() == [2, 3, 4]


def test_chunks_have_equal_shots():
    episodes = freeze(regression([20] * 5), shots=[1, 2])
    assert [[place.shots for place in chunk] for chunk in episodes.chunks(3)] == [[1] * 3, [1] * 2, [2] * 3, [2] * 2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shots": []}, "shots must be whole numbers"),
        ({"shots": [0]}, "shots must be whole numbers"),
        ({"shots": [1.5]}, "shots must be whole numbers"),
        ({"queries": 0}, "queries must be"),
        ({"draws": 0}, "draws must be"),
        ({"ways": 2}, "ways=2 has a meaning only"),
        ({"order": "time"}, "pass a function"),
        ({"order": lambda task: [1]}, "one value a row"),
        ({"order": True, "draws": 2}, "use draws=1"),
    ],
)
def test_errors(settings, said):
    with pytest.raises(TaskError, match=said):
        freeze(regression([20, 20]), **{"shots": [1], **settings})


def test_errors_of_pools_and_sets():
    with pytest.raises(TaskError, match="order has no meaning for a class pool"):
        freeze(pool(), shots=[1], order=True)
    with pytest.raises(TaskError, match="ways must be"):
        freeze(pool(), shots=[1], ways=1)
    with pytest.raises(TaskError, match="test holds no task"):
        freeze(TaskSet([]), shots=[1])
    with pytest.raises(TaskError, match="is a list"):
        freeze([1, 2], shots=[1])
