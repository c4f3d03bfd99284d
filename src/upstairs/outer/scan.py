"""The stepper of traced rules: many meta-steps in one compiled program, tasks and rows drawn inside it.

All data lie on the device. A step draws its tasks and rows from ``(seed, step)``, adapts to all of them at once,
and moves the params by the mean gradient. With several devices (GPUs, or a CPU's host devices, of one process or of
several) each takes its share of the tasks of every step; the result is the same but for rounding. The number of steps
is an argument of the program, so that any number up to `ScanStepper.most` runs without another compilation and gives
the same bits, however a run is cut into chunks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from upstairs.inner.traced import Arrays, Trainable, over_tasks
from upstairs.outer import processes
from upstairs.outer.devices import mesh, one_core_each, put, shards
from upstairs.outer.draws import Draw
from upstairs.outer.estimators import Estimator
from upstairs.outer.loop import Metrics, Validation
from upstairs.outer.memory import needed
from upstairs.outer.optimiser import AnyOptimiser, Optimiser, built
from upstairs.outer.outer_gradient import norm, outer_gradient
from upstairs.outer.sources import Source, Whole
from upstairs.outer.windows import Windows
from upstairs.storage import content_hash

__all__ = ["ScanStepper", "judge", "unsolved"]

MOST = 1000
_VALIDATION_SEED = 0x5EED


class _Program(NamedTuple):
    """Everything static in a compiled step."""

    rule: Trainable
    draw: Draw
    optimiser: AnyOptimiser
    task_clip: float | None
    devices: int
    microbatch: int | None
    gradient: Estimator | Windows | None


@final
class ScanStepper:
    """Learn a traced rule's params by gradients over tasks.

    Parameters
    ----------
    rule : Trainable
    spec
        Passed on to the rule's ``init``.
    draw : Draw
        Which tasks and rows a step uses.
    data : dict of arrays, or Source
        What ``draw`` draws from (`draws.flat_data`, `draws.pool_data`), at once or window after window.
    optimiser : Optimiser or optax.GradientTransformation
    task_clip : float, optional
        Most norm of the gradient of one task; costs one gradient a task in memory.
    validation : (Draw, dict of arrays), optional
        Where validation tasks come from; the same ones are drawn every time.
    validation_batches : int
        How many batches of ``draw.batch`` validation tasks.
    judge_rule : Trainable, optional
        The rule that validation adapts with (another number of ways); None: ``rule``.
    seed : int
    start : dict of arrays, optional
        Params to start from instead of fresh ones.
    names : sequence of str, optional
        Names of the tasks, for errors.
    steps : int, optional
        Length of the whole training, of which a rule that is ``scheduled`` is told the share that is over; None: it is
        trained as at the end.
    microbatch : int, optional
        Most tasks at once on a device, see `outer_gradient`.
    gradient : Estimator or Windows, optional
        How the gradient of a step comes about. None: in reverse mode. Windows run on one device.
    """

    most = MOST

    def __init__(
        self,
        rule: Trainable,
        spec: Any,
        draw: Draw,
        data: Mapping[str, Any] | Source,
        *,
        optimiser: AnyOptimiser | None = None,
        task_clip: float | None = None,
        validation: tuple[Draw, Mapping[str, Any]] | None = None,
        validation_batches: int = 4,
        judge_rule: Trainable | None = None,
        seed: int = 0,
        start: Mapping[str, Any] | None = None,
        names: Any = None,
        steps: int | None = None,
        microbatch: int | None = None,
        gradient: Estimator | Windows | None = None,
    ) -> None:
        self.rule, self.spec, self.draw = rule, spec, draw
        devices = 1 if isinstance(gradient, Windows) else shards(draw.batch)
        self._source = data if isinstance(data, Source) else Whole(data)
        self._put = functools.partial(put, devices=devices)
        first = self._source.at(0, self._put)[0]  # here, and not first while a program is traced
        self._first = first if isinstance(gradient, Windows) else None
        self.optimiser = Optimiser() if optimiser is None else optimiser
        self._program = _Program(rule, draw, self.optimiser, task_clip, devices, microbatch, gradient)
        self._validation = None if validation is None else (validation[0], jax.device_put(dict(validation[1])))
        self._batches = validation_batches
        self._judge = rule if judge_rule is None else judge_rule
        self.seed = int(seed)
        self._start = None if start is None else {key: np.asarray(value) for key, value in start.items()}
        self._names = names
        self._steps = np.float32(steps or 0) if _scheduled(rule) else None

    def fingerprint(self) -> str:
        """Name rule, draws, optimiser, seed, data and start."""
        named = self.optimiser if isinstance(self.optimiser, Optimiser) else jax.tree.structure(self._shapes()[1])
        document = {
            "rule": repr(self.rule),
            "spec": repr(self.spec),
            "draw": repr(self.draw),
            "optimiser": repr(named),
            "task_clip": self._program.task_clip,
            "validation": None if self._validation is None else repr((self._validation[0], self._batches, self._judge)),
            "seed": self.seed,
        }
        if self._program.gradient is not None:
            document["gradient"] = repr(self._program.gradient)
        if self._steps is not None:
            document["steps"] = int(self._steps)
        arrays = dict(self._source.named()) | {f"start/{name}": array for name, array in (self._start or {}).items()}
        if self._validation is not None:
            arrays |= {f"validation/{name}": np.asarray(array) for name, array in self._validation[1].items()}
        return content_hash(document, arrays)

    def start(self) -> Any:
        """Return fresh params and moments, and runs that begin where windows are cut from them."""
        return self._shared(self._fresh())

    def _fresh(self) -> Any:
        params = _init(self.rule, self.spec, self.seed) if self._start is None else jax.device_put(self._start)
        runs: Any = ()
        if isinstance(self._program.gradient, Windows):
            runs = _begun(self._program, self._first, params, np.uint32(self.seed))
        return params, _moments(self.optimiser, params), runs

    def advance(self, state: Any, start: int, count: int) -> tuple[Any, Metrics]:
        """Make steps."""
        assert 1 <= count <= self.most
        found: list[np.ndarray] = []
        step, end = start, start + count
        while step < end:
            data, until = self._source.at(step, self._put)
            wanted = min(end, until) - step
            state, made, losses, bad = self._advance(*self._arguments(data, state, step, wanted))
            made, bad = int(made), int(bad)
            found.append(np.asarray(losses)[:made])
            step += made
            if made < wanted:
                return state, Metrics(np.concatenate(found), step, bad if bad >= 0 else None)
        return state, Metrics(np.concatenate(found))

    def memory(self) -> int | None:
        """Bytes that the steps will need at their peak, on all devices of this process; compiles them. None: unknown."""
        data = self._source.at(0, self._put)[0]
        program = self._advance.lower(*self._arguments(data, self._shapes(), 0, 1)).compile()
        found = needed(program)
        return None if found is None else found * max(1, self._program.devices // processes.count())

    def validate(self, state: Any) -> Validation | None:
        """Judge params on the frozen validation tasks."""
        if self._validation is None:
            return None
        draw, data = self._validation
        params = state[0] if processes.count() == 1 else self.params(state)  # each process judges for itself
        losses, errors = judge(self._judge, draw, data, params, batches=self._batches, seed=_VALIDATION_SEED)
        return Validation(float(losses.mean()), float(errors.mean()))

    def params(self, state: Any) -> dict[str, np.ndarray]:
        """Return the prior's arrays."""
        return {name: np.asarray(array) for name, array in state[0].items()}

    def pack(self, state: Any) -> dict[str, np.ndarray]:
        """Lay out params, moments and runs by path."""
        leaves, _ = jax.tree_util.tree_flatten_with_path(state)
        return {jax.tree_util.keystr(path): np.asarray(_plain(leaf)) for path, leaf in leaves}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Undo `pack`."""
        leaves, tree = jax.tree_util.tree_flatten_with_path(self._shapes())
        found = [_as_was(jnp.asarray(arrays[jax.tree_util.keystr(path)]), leaf) for path, leaf in leaves]
        return self._shared(jax.tree.unflatten(tree, found))

    def name(self, task: int) -> str:
        """Name a task."""
        return str(task if self._names is None else self._names[task])

    @property
    def _advance(self) -> Any:
        return _advance_alone if one_core_each(self._program.devices) else _advance

    @property
    def waited(self) -> float:
        """Seconds that steps have waited for data."""
        return self._source.waited

    def _arguments(self, data: Any, state: Any, start: int, count: int) -> tuple[Any, ...]:
        numbers = (np.uint32(self.seed), np.uint32(start), np.uint32(count))
        return self._program, data, state, *numbers, self._steps

    def _shapes(self) -> Any:
        return jax.eval_shape(self._fresh)

    def _shared(self, state: Any) -> Any:
        """Let the devices of other processes have a state too."""
        return state if processes.count() == 1 or self._program.devices == 1 else self._put(state)


def judge(
    rule: Trainable, draw: Draw, data: Mapping[str, Any], params: Mapping[str, Any], *, batches: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Adapt to frozen tasks and predict their query rows.

    Parameters
    ----------
    rule, draw, data, params
    batches : int
        Of ``draw.batch`` tasks.
    seed : int
        The same number gives the same tasks and rows.

    Returns
    -------
    losses, errors : arrays of shape (batches * draw.batch,)
        Mean negative log-likelihood, and mean squared error or share of wrong rows, of each task.
    """
    losses, errors = _judged(rule, draw, batches, dict(data), dict(params), np.uint32(seed))
    return np.asarray(losses, np.float64).ravel(), np.asarray(errors, np.float64).ravel()


def unsolved(rule: Trainable, draw: Draw, data: Mapping[str, Any], params: Mapping[str, Any]) -> float:
    """Share of the first gradient of a task's problem that is left after adapting, mean over a batch of tasks.

    Zero for a rule without a ``residual``: it does not rely on a solution.
    """
    if not hasattr(rule, "residual"):
        return 0.0
    return float(_unsolved(rule, draw, dict(data), dict(params)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(rule: Trainable, spec: Any, seed: Any) -> Any:
    return _strong(rule.init(jax.random.key(seed), spec))


@functools.partial(jax.jit, static_argnums=0)
def _begun(program: _Program, data: Any, params: Any, seed: Any) -> Any:
    assert isinstance(program.gradient, Windows)
    return _strong(program.gradient.begin(program.rule, program.draw, data, params, seed))


def _plain(leaf: Any) -> Any:
    """Return the numbers of a random key."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _as_was(array: Array, like: Any) -> Array:
    """Undo `_plain`."""
    return jax.random.wrap_key_data(array) if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) else array


@functools.partial(jax.jit, static_argnums=0)
def _moments(optimiser: AnyOptimiser, params: Any) -> Any:
    return _strong(built(optimiser).init(params))


def _scheduled(rule: Trainable) -> bool:
    """Whether the outer loss of a rule takes ``progress``."""
    return getattr(rule, "scheduled", False)


def _strong(tree: Any) -> Any:
    """Give arrays that were made of Python numbers a fixed type, or the second call would compile again."""

    def fixed(leaf: Any) -> Any:
        key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if key else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(fixed, tree)


def _made(program: _Program, data: Any, state: Any, seed: Any, start: Any, count: Any, steps: Any = None) -> Any:
    if program.devices == 1:
        return _steps(program, None, data, state, seed, start, count, steps)
    everywhere = PartitionSpec()
    parts = jax.shard_map(
        functools.partial(_steps, program, "task"),
        mesh=mesh(program.devices),
        in_specs=everywhere,
        out_specs=everywhere,
        check_vma=False,
    )
    return parts(data, state, seed, start, count, steps)


_advance = jax.jit(_made, static_argnums=0)
_advance_alone = jax.jit(_made, static_argnums=0, compiler_options={"xla_cpu_multi_thread_eigen": False})


def _steps(
    program: _Program, axis: str | None, data: Any, state: Any, seed: Any, start: Any, count: Any, steps: Any
) -> Any:
    """Make steps; with an ``axis`` of devices each takes its share of the tasks, and gradients are averaged."""
    rule, draw, _, task_clip, devices, microbatch, how = program
    optimiser = built(program.optimiser)

    def gradients(params: Arrays, progress: Any, tasks: tuple[Any, Any, Array]) -> tuple[Array, Any]:
        assert not isinstance(how, Windows)
        if axis is None:
            return outer_gradient(rule, params, *tasks, task_clip, progress, microbatch, how)
        share = -(-draw.batch // devices)
        # where devices do not divide the tasks, the last shares begin earlier and count only what is their own
        own = jax.lax.axis_index(axis) * share
        first = jnp.minimum(own, draw.batch - share)
        support, query, keys = jax.tree.map(lambda part: jax.lax.dynamic_slice_in_dim(part, first, share), tasks)
        counted = None if draw.batch % devices == 0 else first + jnp.arange(share) >= own
        weights = None if counted is None else counted.astype(jnp.float32)
        each, gradient = outer_gradient(
            rule, params, support, query, keys, task_clip, progress, microbatch, how, weights
        )
        if counted is None:
            return jax.lax.all_gather(each, axis, tiled=True), jax.lax.pmean(gradient, axis)
        losses = jnp.zeros(draw.batch, each.dtype).at[first + jnp.arange(share)].add(jnp.where(counted, each, 0.0))
        total = jax.lax.psum((losses, gradient), axis)
        return total[0], jax.tree.map(lambda part: part * (share / draw.batch), total[1])

    def step(number: Array, state: Any) -> tuple[Any, Array, Array, Array]:
        params, moments, runs = state
        if isinstance(how, Windows):
            tasks, each, gradient, runs = how.step(rule, draw, data, params, runs, task_clip, seed, number)
        else:
            tasks, support, query = draw(data, seed, number)
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), len(tasks))
            progress = (
                None if steps is None else jnp.where(steps > 0, jnp.minimum(number / jnp.maximum(steps, 1), 1.0), 1.0)
            )
            each, gradient = gradients(params, progress, (support, query, keys))
        loss = each.mean()
        finite = jnp.isfinite(loss) & jnp.isfinite(norm(gradient))
        lost = ~jnp.isfinite(each)
        bad = jnp.where(lost.any(), tasks[jnp.argmax(lost)], -1)
        update, moments = optimiser.update(gradient, moments, params)
        return (optax.apply_updates(params, update), moments, runs), loss, finite, bad

    def body(carry: Any) -> Any:
        made, state, losses, _, _ = carry
        new, loss, finite, bad = step(start + made, state)
        state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        losses = losses.at[made].set(loss.astype(losses.dtype))
        return made + finite.astype(made.dtype), state, losses, bad.astype(jnp.int32), finite

    carry = (jnp.uint32(0), state, jnp.zeros(MOST, jnp.float32), jnp.int32(-1), jnp.bool_(True))
    made, state, losses, bad, _ = jax.lax.while_loop(lambda carry: (carry[0] < count) & carry[4], body, carry)
    return state, made, losses, bad


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _judged(rule: Trainable, draw: Draw, batches: int, data: Any, params: Any, seed: Any) -> Any:
    one = functools.partial(rule.judged, params)

    def batch(number: Array) -> tuple[Array, Array]:
        _, support, query = draw(data, seed, number)
        return over_tasks(rule, one, support, query)

    return jax.lax.map(batch, jnp.arange(batches, dtype=jnp.uint32))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _unsolved(rule: Any, draw: Draw, data: Any, params: Any) -> Array:
    _, support, _ = draw(data, np.uint32(_VALIDATION_SEED), np.uint32(0))
    first, last = (
        over_tasks(rule, functools.partial(one.residual, params), *support) for one in (replace(rule, steps=0), rule)
    )
    return (last / jnp.maximum(first, 1e-30)).mean()
