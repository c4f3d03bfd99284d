"""The compiled stepper: draws on host and device, exact cuts, compilations, bad steps, sinusoids."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from upstairs.errors import TaskError, UpstairsError
from upstairs.inner.descent import SGD
from upstairs.inner.gradient import Maml
from upstairs.inner.heads import PrototypeHead
from upstairs.inner.traced import Spec, TaskRows
from upstairs.nets import NetSpec
from upstairs.outer import scan
from upstairs.outer.devices import shards
from upstairs.outer.draws import EpisodeDraw, TaskDraw, flat_data, pool_data
from upstairs.outer.loop import run
from upstairs.outer.optimiser import Optimiser, built
from upstairs.outer.outer_gradient import outer_gradient
from upstairs.outer.scan import ScanStepper, judge
from upstairs.outer.training import Training, _fitting
from upstairs.tasks.batches import FlatRows
from upstairs.tasks.sampler import choose_rows, choose_tasks, visits
from upstairs.tasks.synthetic import Sinusoids


def sinusoids(tasks: int, seed: int) -> dict[str, np.ndarray]:
    """Waves in units of about one."""
    found = Sinusoids().sample(tasks, 20, random_state=seed)
    offsets = np.concatenate([[0], np.cumsum(found.rows)])
    x, y = np.concatenate([task.X for task in found]) / 2.9, np.concatenate([task.y for task in found]) / 2.9
    return flat_data(FlatRows(x, y, offsets))


NET = NetSpec("mlp", (1,), (40, 40), 1)
TASKS = 1000
RULE = Maml(NET, steps=1, descent=SGD(0.2))
DRAW = TaskDraw(25, (10, 10), 10)
SPEC = Spec((1,))


def stepper(seed: int = 0, rule: Maml = RULE, batch: int = 25, **more: Any) -> ScanStepper:
    settings: dict[str, Any] = {"optimiser": Optimiser(rate=3e-3), "seed": seed} | more
    return ScanStepper(rule, SPEC, TaskDraw(batch, (10, 10), 10), sinusoids(TASKS, seed), **settings)


def test_tasks_and_rows_are_those_of_the_host_sampler() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 9, size=6)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = FlatRows(rng.normal(size=(offsets[-1], 2)), np.arange(float(offsets[-1])), offsets)
    tasks, support, query = jax.jit(TaskDraw(4, (2, 2), 3))(flat_data(rows), np.uint32(5), np.uint32(7))
    chosen = choose_tasks(5, 7, 6, 4)
    drawn = choose_rows(5, visits(7, 6, 4), chosen, counts[chosen], 2, 3)
    np.testing.assert_array_equal(tasks, chosen)
    np.testing.assert_array_equal(support.y, offsets[chosen][:, None] + drawn.support)
    np.testing.assert_array_equal(query.mask, drawn.query_mask)
    np.testing.assert_allclose(support.x, rows.x[offsets[chosen][:, None] + drawn.support], rtol=1e-6)
    ranged = TaskDraw(4, (1, 2), 3)
    sizes = [int(n) for s in range(8) for n in ranged(flat_data(rows), np.uint32(5), np.uint32(s))[1].mask.sum(axis=1)]
    assert set(sizes) == {1, 2}


def test_episodes_turn_images_and_keep_support_and_query_apart() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, size=(12, 3, 3), dtype=np.uint8)
    data = pool_data(images, np.repeat(np.arange(3), 4), (3, 3, 1))
    draw = jax.jit(EpisodeDraw(2, 5, (1, 1), 2, rotations=4))
    turned = {np.rot90(image, k).tobytes(): (n // 4, n % 4, k) for n, image in enumerate(images) for k in range(4)}
    seen = set()
    for step in range(6):
        _, support, query = draw(data, np.uint32(1), np.uint32(step))
        assert support.x.shape == (2, 5, 3, 3, 1)
        assert query.y[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        for episode in range(2):
            ways: dict[int, set] = {}
            for part in (support, query):
                for image, way in zip(part.x[episode], part.y[episode].tolist(), strict=True):
                    code, example, turn = turned[np.round(np.asarray(image) * 255).astype(np.uint8).tobytes()]
                    assert example not in {one[2] for one in ways.get(way, set())}
                    ways.setdefault(way, set()).add((code, turn, example))
            kinds = [{one[:2] for one in way} for way in ways.values()]
            assert all(len(kind) == 1 for kind in kinds)
            assert len(set.union(*kinds)) == 5
            seen |= {turn for kind in kinds for _, turn in kind}
    assert seen == {0, 1, 2, 3}
    with pytest.raises(TaskError, match="more classes than the pool has"):
        EpisodeDraw(1, 4, (1, 1), 1)(data, np.uint32(0), np.uint32(0))


def test_room_to_spare_changes_no_draw() -> None:
    rng = np.random.default_rng(0)
    rows = FlatRows(rng.normal(size=(12, 2)), np.arange(12.0), np.array([0, 4, 7, 12]))
    draw = jax.jit(TaskDraw(2, (1, 2), 2))
    for step in range(4):
        tight, roomy = (draw(flat_data(rows, room), np.uint32(0), np.uint32(step)) for room in (None, (6, 30)))
        jax.tree.map(np.testing.assert_array_equal, tight, roomy)
    assert draw._cache_size() == 2


def test_an_episode_takes_the_classes_of_one_task() -> None:
    codes = np.repeat(np.arange(7), 4)
    data = pool_data(np.arange(28.0)[:, None], codes, owners=np.array([0, 0, 0, 1, 1, 2, 2]))
    draw = jax.jit(EpisodeDraw(3, 3, (1, 2), 2))
    sizes, orders = set(), set()
    for step in range(12):
        tasks, support, query = draw(data, np.uint32(0), np.uint32(step))
        for n in range(3):
            wholly = {**{way: set() for way in range(3)}}
            for part in (support, query):
                real = np.asarray(part.mask[n])
                for value, way in zip(part.x[n, :, 0][real].tolist(), part.y[n][real].tolist(), strict=True):
                    wholly[way].add(int(value) // 4)
            classes = [next(iter(found)) for found in wholly.values() if found]
            assert all(len(found) <= 1 for found in wholly.values())
            assert set(classes) in ({0, 1, 2}, {3, 4}, {5, 6})
            assert int(tasks[n]) in set(classes)
            sizes.add(int(support.mask[n].sum()) / len(classes))
            orders.add(tuple(classes))
    assert sizes == {1, 2}
    assert len(orders) > 6


def test_cuts_give_the_same_bits_and_compile_once(tmp_path: pathlib.Path) -> None:
    whole, cut = stepper(), stepper()
    one, metrics = whole.advance(whole.start(), 0, 20)
    size = scan._advance._cache_size()
    state, losses = cut.start(), []
    for start, count in ((0, 1), (1, 7), (8, 12)):
        state, part = cut.advance(cut.unpack(cut.pack(state)), start, count)
        losses.append(part.losses)
    assert scan._advance._cache_size() == size
    np.testing.assert_array_equal(np.concatenate(losses), metrics.losses)
    for mine, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert metrics.losses[-1] < metrics.losses[0]
    assert whole.fingerprint() == cut.fingerprint() != stepper(seed=1).fingerprint()


def test_per_task_clipping_bounds_every_task() -> None:
    joint, sgd = Maml(NET, steps=0), Optimiser("sgd", rate=1.0, clip=None)
    plain = stepper(rule=joint, optimiser=sgd)
    tight = stepper(rule=joint, optimiser=sgd, task_clip=1e-3)
    loose = stepper(rule=joint, optimiser=sgd, task_clip=1e9)
    moved = []
    for one in (plain, tight, loose):
        start = one.start()
        after, _ = one.advance(start, 0, 1)
        moved.append({k: np.asarray(after[0][k] - start[0][k]) for k in start[0]})
    norm = np.sqrt(sum((v**2).sum() for v in moved[1].values()))
    assert 0 < norm <= 1e-3 * (1 + 1e-4)
    for name in moved[0]:
        np.testing.assert_allclose(moved[2][name], moved[0][name], rtol=2e-3, atol=1e-4)


def test_tasks_one_after_another_give_the_same_gradient() -> None:
    net = NetSpec("conv4", (4, 4, 1), (3,), 2)
    rule, rng = Maml(net, 2, 1, SGD(0.1)), np.random.default_rng(0)
    assert rule.sequential
    params = jax.jit(rule.init, static_argnums=1)(jax.random.key(0), Spec((4, 4, 1), 2))
    x, y = rng.normal(size=(3, 6, 4, 4, 1)).astype(np.float32), jnp.asarray(rng.integers(0, 2, (3, 6)))
    rows = TaskRows(jnp.asarray(x), y, jnp.ones((3, 6), bool))
    keys = jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def both(params: Any) -> Any:
        def mean(params: Any) -> Any:
            return jax.vmap(rule.outer_loss, (None, 0, 0, 0))(params, rows, rows, keys).mean()

        return outer_gradient(rule, params, rows, rows, keys)[1], jax.grad(mean)(params)

    for mine, theirs in zip(*map(jax.tree.leaves, both(params)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_bad_task_is_named_and_the_state_before_it_kept() -> None:
    data = sinusoids(TASKS, 0)
    data["y"][20 * 37 : 20 * 38] = np.inf
    bad = ScanStepper(RULE, SPEC, DRAW, data, optimiser=Optimiser(rate=3e-3), names=[f"wave {n}" for n in range(TASKS)])
    with pytest.raises(UpstairsError, match=r"Step \d+: the loss or gradient of task 'wave 37' is not finite"):
        run(bad, 40)


def test_adapted_beats_pooled_beats_not_adapted() -> None:
    """Sinusoids, 10 rows (the protocol of MAML, shortened); over three seeds with UPSTAIRS_LONG."""
    fitting = Optimiser(rate=3e-3, schedule="cosine", steps=1000)
    for seed in range(3 if os.environ.get("UPSTAIRS_LONG") else 1):
        maml = run(stepper(seed, optimiser=fitting), 1000, validate_every=1000)
        pooled = run(stepper(seed, Maml(NET, steps=0), optimiser=fitting), 1000, validate_every=1000)
        test = sinusoids(600, seed + 100)
        errors = {}
        for name, rule, params in (
            ("adapted", RULE, maml.params),
            ("pooled", Maml(NET, steps=0), pooled.params),
            ("not adapted", Maml(NET, steps=0), maml.params),
        ):
            errors[name] = judge(rule, TaskDraw(100, (10, 10), 10), test, params, batches=6, seed=1)[1].mean()
        assert errors["adapted"] < 0.9 * errors["pooled"]
        assert errors["pooled"] < errors["not adapted"]


def test_validation_and_a_rule_with_other_ways() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 6))
    x = centers.repeat(8, axis=0) + 0.5 * rng.normal(size=(160, 6))
    data = pool_data(x, np.repeat(np.arange(20), 8))
    net = NetSpec("mlp", (6,), (16,), 8)
    learner = ScanStepper(
        PrototypeHead(net, 10),
        Spec((6,), 10),
        EpisodeDraw(2, 10, (1, 1), 3),
        data,
        optimiser=optax.adam(1e-2),
        validation=(EpisodeDraw(10, 5, (1, 1), 5), data),
        judge_rule=PrototypeHead(net, 5),
    )
    found = run(learner, 60, validate_every=20)
    assert found.checks.shape == (3, 2)
    assert found.checks[-1, 1] < 0.4
    assert learner.fingerprint() == learner.fingerprint()


def test_schedules() -> None:
    linear = Optimiser("sgd", rate=1.0, schedule="linear", steps=10, warmup=2, clip=None)
    assert [linear.rate_at(step) for step in (0, 1, 2, 6, 10, 99)] == [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    rule = built(linear)
    weights, moments = np.zeros(1, np.float32), rule.init(np.zeros(1, np.float32))
    for _step in range(4):
        update, moments = rule.update(np.ones(1, np.float32), moments)
        weights = weights + np.asarray(update)
    assert weights[0] == pytest.approx(-sum(linear.rate_at(step) for step in range(4)))
    with pytest.raises(ValueError, match="needs steps"):
        Optimiser(schedule="cosine")


SHARED = textwrap.dedent(
    """
    import sys
    import jax
    jax.config.update("jax_num_cpu_devices", 2)
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    from test_scan import stepper
    from upstairs.outer.loop import run
    from upstairs.outer.devices import shards
    assert shards(24) == shards(25) == 2 and shards(1) == 1
    for batch, clip in ((24, None), (25, 1.0)):
        run(stepper(batch=batch, task_clip=clip), 20, checkpoint=f"{sys.argv[2]}{batch}", checkpoint_seconds=0)
    """
)


def test_devices_share_the_tasks_and_hand_over_checkpoints(tmp_path: pathlib.Path) -> None:
    """Two devices (with as many tasks, and with 13 and 12), then one that goes on, against one alone."""
    words = [sys.executable, "-c", SHARED, str(pathlib.Path(__file__).parent), str(tmp_path / "shared")]
    subprocess.run(words, check=True, env=dict(os.environ))
    assert shards(24) == shards(25) == 1
    for batch, clip in ((24, None), (25, 1.0)):
        folder = tmp_path / f"shared{batch}"
        shared, kept = (
            run(stepper(batch=batch, task_clip=clip), 30, checkpoint=folder, checkpoint_seconds=0) for _ in range(2)
        )
        alone = run(stepper(batch=batch, task_clip=clip), 30)
        assert shared.step == kept.step == alone.step == 30
        np.testing.assert_array_equal(kept.losses, shared.losses)
        np.testing.assert_allclose(shared.losses, alone.losses, rtol=1e-4)
        for name, array in alone.params.items():
            np.testing.assert_allclose(shared.params[name], array, atol=1e-5)


def test_few_tasks_at_once_need_less_memory_and_learn_the_same() -> None:
    whole, parts = stepper(), stepper(microbatch=7)  # 5 at once: the largest number up to 7 that divides 25
    both = [one.advance(one.start(), 0, 3)[0][0] for one in (whole, parts)]
    for name in both[0]:
        np.testing.assert_allclose(both[1][name], both[0][name], rtol=1e-4, atol=1e-6)
    needed, less = whole.memory(), parts.memory()
    assert needed is not None
    assert less is not None
    assert less < 0.6 * needed


@pytest.mark.parametrize(("asked", "most", "tried"), [(None, 8, [None, 4, 2, 1]), (3, 8, [3, 1]), (None, 1, [None])])
def test_what_does_not_fit_is_halved_down_to_one_task(asked: int | None, most: int, tried: list[int | None]) -> None:
    made: list[int | None] = []

    class Large:
        def memory(self) -> int:
            return 10**6

    def make(microbatch: int | None) -> Any:
        made.append(microbatch)
        return Large()

    with pytest.raises(TaskError, match=r"needs 1.0 MB of memory even with one task at a time, more than the 0.1 MB"):
        _fitting(make, Training(microbatch=asked, memory_limit=1e-4), most)
    assert made == tried
