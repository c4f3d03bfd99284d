"""Training from a store that is read window after window: every task in turn, none that is held out, and the same bits again."""

import jax
import numpy as np
import pandas as pd
import pytest

import upstairs as up
from upstairs.errors import PriorMismatchError, StorageError, TaskError
from upstairs.learners import learn_store
from upstairs.outer.draws import WindowDraw
from upstairs.outer.feed import Feed
from upstairs.outer.training import Training
from upstairs.tasks import TaskSet, store_write, write_store


def waves(number, seed, group=False):
    for n, task in enumerate(up.tasks.synthetic.Sinusoids().sample(number, 24, random_state=seed)):
        yield up.Task(task.X, task.y, name=f"w{n:04d}", group=f"g{n // 2}" if group else None)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "waves"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store_write, "GROUP_ROWS", 480)  # 20 tasks
        write_store(path, waves(400, 0, group=True))
    return path


@pytest.fixture(autouse=True)
def _always_streamed(monkeypatch):
    monkeypatch.setattr(learn_store, "STREAM_CELLS", 1)


def drawn(feed, draw, steps, seed=0):
    found, draw = [], jax.jit(draw)
    for step in range(steps):
        data, until = feed.at(step, jax.device_put)
        assert step < until
        found.append(draw(data, np.uint32(seed), np.uint32(step)))
    return found


def test_every_task_in_turn_in_a_new_order_each_pass(store):
    tasks = TaskSet.from_store(store).canonical()
    entries = tasks._entries
    chosen = np.ones(400, dtype=bool)
    chosen[::10] = False
    encode = lambda X, y: (X.astype(np.float32), y.astype(np.float32))  # noqa: E731
    feed = Feed(entries, chosen, encode, batch=8, seed=1, at_once=3)
    draw = WindowDraw(8, (5, 5), 6)
    assert feed.steps == 6 * 6 + 4  # six windows of 54 tasks, and one of 36
    passes = [drawn(feed, draw, feed.steps)]
    ids = np.concatenate([np.asarray(step[0]) for step in passes[0]])
    assert len(ids) == len(set(ids.tolist())) == 8 * feed.steps
    assert chosen[ids].all()
    again = np.concatenate([np.asarray(step[0]) for step in drawn(feed, draw, 2 * feed.steps)])[len(ids) :]
    assert ids.tolist() != again.tolist()
    assert len(set(again.tolist())) == len(again)
    for number, support, query in passes[0][:3]:
        for place, one in enumerate(number.tolist()):
            task = tasks[one]
            rows = {row.tobytes() for row in np.column_stack([task.X, task.y]).astype(np.float32)}
            for part in (support, query):
                shown = np.column_stack([part.x[place], part.y[place]])[np.asarray(part.mask[place])]
                assert {row.tobytes() for row in shown} <= rows
    other = drawn(Feed(entries, chosen, encode, batch=8, seed=1, at_once=3), draw, 20)[-1]
    np.testing.assert_array_equal(other[1].x, passes[0][19][1].x)
    with pytest.raises(TaskError, match="fewer than batch=1000 training tasks"):
        Feed(entries, chosen, encode, batch=1000, seed=1, at_once=3)


def test_a_prior_from_a_store_predicts_and_resumes_with_the_same_bits(store, tmp_path):
    def meta(steps, **settings):
        training = Training(steps=steps, batch=16, validate_every=60, checkpoint_seconds=0, optimiser=None, **settings)
        return up.MetaNeuralNetwork("maml", net={"name": "mlp", "sizes": (16, 16)}, shots=10, training=training)

    tasks = TaskSet.from_store(store)
    events = []
    whole = meta(120, callback=events.append).meta_fit(tasks)
    assert whole.prior_.provenance == {"tasks": 400, "rows": 9600}
    assert "held-out tasks are predicted best" in whole.prior_.settings["choice"]
    assert events[-1].waited > 0
    assert whole.prior_.settings["report"][-1]["loss"] < whole.prior_.settings["report"][0]["loss"] + 0.1

    class Stop(Exception):
        pass

    def stop(event):
        if event.step >= 60:
            raise Stop

    with pytest.raises(Stop):
        meta(120, checkpoint=tmp_path, callback=stop).meta_fit(tasks)
    assert meta(120, checkpoint=tmp_path).meta_fit(tasks).prior_.hash == whole.prior_.hash
    test = list(waves(30, 1))
    errors = []
    for model in (whole.learner(), whole.plain_learner("regression")):
        gaps = [np.square(model.fit(t.X[:10], t.y[:10]).predict(t.X[10:]) - t.y[10:]).mean() for t in test]
        errors.append(np.mean(gaps))
    assert errors[0] < errors[1]


def test_what_is_held_out_is_never_trained_on(store, monkeypatch):
    seen = {}

    def kept(material, held, *_):
        seen["held"], seen["feed"] = held, material.data(4)
        raise StopIteration

    monkeypatch.setattr(learn_store, "trained_prior", kept)
    meta = up.MetaNeuralNetwork("maml", net={"name": "mlp", "sizes": (16, 16)})
    with pytest.raises(StopIteration):
        meta.meta_fit(TaskSet.from_store(store))
    groups = set(seen["held"].groups)
    trained = np.flatnonzero(seen["feed"]._chosen)
    names = TaskSet.from_store(store).canonical()
    assert len(seen["held"].names) == 80
    assert not groups & {names.groups[n] for n in trained.tolist()}
    held = list(waves(10, 7))
    with pytest.raises(StopIteration):
        meta.meta_fit(
            TaskSet.from_store(store), validation=TaskSet([up.Task(t.X, t.y, name=f"v{t.name}") for t in held])
        )
    assert seen["feed"]._chosen.all()
    assert len(seen["held"].names) == 10


def test_labels_and_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(store_write, "GROUP_ROWS", 200)
    rng = np.random.default_rng(0)
    for n in range(2):
        frame = [pd.DataFrame({"a": rng.normal(size=20), "b": rng.choice(["u", "v"], 20)}) for _ in range(40)]
        write_store(
            tmp_path / "s",
            (up.Task(f, rng.choice(["no", "yes"], 20), name=f"t{n}{k}") for k, f in enumerate(frame)),
            append=True,
        )
    tasks = TaskSet.from_store(tmp_path / "s")
    assert tasks.classes == ("no", "yes")
    training = Training(steps=2, batch=4)
    meta = up.MetaNeuralNetwork("maml", net={"name": "mlp", "sizes": (4,)}, training=training).meta_fit(tasks)
    assert meta.prior_.settings["classes"] == ["no", "yes"]
    write_store(tmp_path / "s", [up.Task(np.ones((4, 2)), ["no", "yes", "no", "no"], name="odd")], append=True)
    with pytest.raises(PriorMismatchError, match="the same columns"):
        meta.meta_fit(TaskSet.from_store(tmp_path / "s"))
    file = sorted((tmp_path / "s").glob("part-000000*"))[0]
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(StorageError, match="damaged or gone"):
        meta.meta_fit(TaskSet.from_store(tmp_path / "s")[:80])
