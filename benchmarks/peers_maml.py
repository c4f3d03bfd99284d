"""Second-order MAML steps beside PyTorch: a loop over tasks with ``higher``, and ``torch.func`` with ``vmap``.

    python -m pip install torch higher   # besides upstairs with its own dependencies
    python benchmarks/peers_maml.py

All run in one process on the same numbers; a first step of each is compared before anything is timed. Every figure is
the median of seven rounds, in each of which all take their turn. Writes ``peers_maml.md`` beside itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
ROUNDS = 7
RATE, OUTER = 0.1, 0.01


def mlp_problem() -> dict[str, np.ndarray]:
    """32 tasks of five classes, 25 support and 75 query rows, 20 features."""
    rng = np.random.default_rng(0)
    return {
        "xs": rng.normal(size=(32, 25, 20)).astype(np.float32),
        "ys": rng.integers(0, 5, (32, 25)),
        "xq": rng.normal(size=(32, 75, 20)).astype(np.float32),
        "yq": rng.integers(0, 5, (32, 75)),
    }


def conv_problem() -> dict[str, np.ndarray]:
    """4 tasks, 5-way 1-shot, 15 query rows a class, 28 x 28 images."""
    rng = np.random.default_rng(0)
    return {
        "xs": (rng.random((4, 5, 28, 28, 1)) < 0.1).astype(np.float32),
        "ys": np.tile(np.arange(5), (4, 1)),
        "xq": (rng.random((4, 75, 28, 28, 1)) < 0.1).astype(np.float32),
        "yq": np.tile(np.repeat(np.arange(5), 15), (4, 1)),
    }


# Ours -------------------------------------------------------------------------------------------------------------


def net_of(kind: str) -> Any:
    from upstairs.nets import NetSpec

    if kind == "mlp":
        return NetSpec("mlp", (20,), (32, 32), 5)
    return NetSpec("conv4", (28, 28, 1), (64, 64, 64, 64), 5)


def fresh(kind: str) -> dict[str, np.ndarray]:
    import jax

    arrays = jax.jit(net_of(kind).init)(jax.random.key(0))
    return {name: np.asarray(array) for name, array in arrays.items()}


def fixed_draw(batch: int) -> Any:
    """Every step sees the same tasks, those of the problem."""
    import jax.numpy as jnp

    from upstairs.inner.traced import TaskRows
    from upstairs.outer.draws import Draw

    @dataclass(frozen=True)
    class Fixed(Draw):
        batch: int

        def __call__(self, data: Any, seed: Any, step: Any) -> Any:
            parts = [TaskRows(data[f"x{p}"], data[f"y{p}"], jnp.ones(data[f"y{p}"].shape, bool)) for p in "sq"]
            return jnp.arange(self.batch), *parts

    return Fixed(batch)


class Ours:
    """The library's stepper on the tasks of the problem: one meta-step a call, or many in one program."""

    def __init__(self, kind: str, problem: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> None:
        from upstairs.inner.descent import SGD
        from upstairs.inner.gradient import Maml
        from upstairs.inner.traced import Spec
        from upstairs.outer.optimiser import Optimiser
        from upstairs.outer.scan import ScanStepper

        net = net_of(kind)
        self._stepper = ScanStepper(
            Maml(net, 5, 1, SGD(RATE)),
            Spec(net.inputs, 5),
            fixed_draw(len(problem["ys"])),
            {name: np.asarray(array, np.int32 if name[0] == "y" else np.float32) for name, array in problem.items()},
            optimiser=Optimiser("sgd", OUTER, clip=None),
            start={f"net/{name}": array for name, array in start.items()},
        )
        self._state, self._step = self._stepper.start(), 0

    @property
    def params(self) -> dict[str, Any]:
        return self._stepper.params(self._state)

    def one(self) -> float:
        return self.many(1)

    def many(self, count: int) -> float:
        self._state, metrics = self._stepper.advance(self._state, self._step, count)
        self._step += count
        return float(metrics.losses[-1])


class Bare:
    """The step alone, many in one program: what the peers do, without checks for finite numbers."""

    def __init__(self, kind: str, problem: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> None:
        import jax
        import jax.numpy as jnp

        from upstairs.inner.descent import SGD
        from upstairs.inner.gradient import Maml
        from upstairs.outer.outer_gradient import outer_gradient

        rule, draw = Maml(net_of(kind), 5, 1, SGD(RATE)), fixed_draw(len(problem["ys"]))

        def step(params: Any, data: Any) -> Any:
            tasks, support, query = draw(data, 0, 0)
            keys = jax.random.split(jax.random.key(0), len(tasks))  # this rule draws nothing: no work is done
            _, gradient = outer_gradient(rule, params, support, query, keys)
            return jax.tree.map(lambda a, b: a - OUTER * b, params, gradient)

        alone = {"xla_cpu_multi_thread_eigen": len(os.sched_getaffinity(0)) > 1}  # as the library's stepper has it
        self._many = jax.jit(
            lambda params, data, count: jax.lax.fori_loop(0, count, lambda i, now: step(now, data), params),
            compiler_options=alone,
        )
        self._data = {name: jnp.asarray(array) for name, array in problem.items()}
        self._params = {f"net/{name}": jnp.asarray(array) for name, array in start.items()}
        self._block = jax.block_until_ready

    def many(self, count: int) -> float:
        self._params = self._block(self._many(self._params, self._data, count))
        return 0.0


class Drawn:
    """The library's own stepper: tasks and rows drawn on the device, Adam, checks for finite numbers."""

    def __init__(self, kind: str) -> None:
        from upstairs.inner.descent import SGD
        from upstairs.inner.gradient import Maml
        from upstairs.inner.traced import Spec
        from upstairs.outer.draws import EpisodeDraw, TaskDraw
        from upstairs.outer.scan import ScanStepper

        rng = np.random.default_rng(0)
        draw: Any
        if kind == "mlp":
            data = {
                "x": rng.normal(size=(200 * 120, 20)).astype(np.float32),
                "y": rng.integers(0, 5, 200 * 120).astype(np.int32),
                "offsets": (np.arange(201) * 120).astype(np.int32),
                "tasks": np.int32(200),
            }
            draw, spec = TaskDraw(32, (25, 25), 75), Spec((20,), 5)
        else:
            images = (255 * (rng.random((100, 20, 28, 28, 1)) < 0.1)).astype(np.uint8)
            data = {"x": images, "counts": np.full(100, 20, np.int32), "owners": np.array([0, 100], np.int32)}
            draw, spec = EpisodeDraw(4, 5, (1, 1), 15, rotations=4), Spec((28, 28, 1), 5)
        self._stepper = ScanStepper(Maml(net_of(kind), 5, 1, SGD(RATE)), spec, draw, data)
        self._state, self._step = self._stepper.start(), 0

    def many(self, count: int) -> float:
        self._state, metrics = self._stepper.advance(self._state, self._step, count)
        self._step += count
        return float(metrics.losses[-1])


# PyTorch ----------------------------------------------------------------------------------------------------------


def torch_forward(kind: str) -> Callable[[dict, Any], Any]:
    """The same network as a function of named tensors."""
    import torch
    from torch.nn import functional as F

    def mlp(p: dict, x: Any) -> Any:
        for number in range(3):
            x = x @ p[f"layers.{number}.weight"] + p[f"layers.{number}.bias"]
            x = torch.relu(x) if number < 2 else x
        return x

    def conv(p: dict, x: Any) -> Any:
        x = x.permute(0, 3, 1, 2)
        for number in range(4):
            weight = p[f"blocks.{number}.weight"]
            window = weight.reshape(3, 3, -1, weight.shape[1]).permute(3, 2, 0, 1)
            x = F.max_pool2d(F.conv2d(x, window, padding=1), 2)
            x = F.group_norm(x, 1, p[f"blocks.{number}.scale"], p[f"blocks.{number}.shift"], eps=1e-5)
            x = torch.relu(x)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        return x @ p["last.weight"] + p["last.bias"]

    return mlp if kind == "mlp" else conv


class Func:
    """torch.func: grad of a loss that takes an inner grad, vmapped over tasks."""

    def __init__(self, kind: str, problem: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> None:
        import torch
        from torch.func import grad, grad_and_value, vmap
        from torch.nn import functional as F

        forward = torch_forward(kind)
        self._data = [torch.from_numpy(problem[name]) for name in ("xs", "ys", "xq", "yq")]
        self.params = {name: torch.from_numpy(array.copy()) for name, array in start.items()}

        def loss(p: dict, x: Any, y: Any) -> Any:
            return F.cross_entropy(forward(p, x), y)

        def task(p: dict, xs: Any, ys: Any, xq: Any, yq: Any) -> Any:
            slope = grad(loss)(p, xs, ys)
            return loss({name: p[name] - RATE * slope[name] for name in p}, xq, yq)

        def outer(p: dict, *data: Any) -> Any:
            return vmap(task, (None, 0, 0, 0, 0))(p, *data).mean()

        self._step = grad_and_value(outer)

    def one(self) -> float:
        gradient, value = self._step(self.params, *self._data)
        self.params = {name: (array - OUTER * gradient[name]).detach() for name, array in self.params.items()}
        return float(value)


class Higher:
    """The loop over tasks that PyTorch libraries use, with ``higher``'s differentiable optimiser."""

    def __init__(self, kind: str, problem: dict[str, np.ndarray], start: dict[str, np.ndarray]) -> None:
        import higher
        import torch
        from torch.nn import functional as F

        forward = torch_forward(kind)
        self._data = [torch.from_numpy(problem[name]) for name in ("xs", "ys", "xq", "yq")]

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.named = [name.replace(".", "_") for name in start]
                for name, array in start.items():
                    self.register_parameter(name.replace(".", "_"), torch.nn.Parameter(torch.from_numpy(array.copy())))

            def forward(self, x: Any) -> Any:
                return forward({name: getattr(self, name.replace(".", "_")) for name in start}, x)

        self._module = Module()
        self._inner = torch.optim.SGD(self._module.parameters(), lr=RATE)
        self._outer = torch.optim.SGD(self._module.parameters(), lr=OUTER)
        self._higher, self._loss, self._start = higher, F.cross_entropy, start

    @property
    def params(self) -> dict[str, Any]:
        return {name: getattr(self._module, name.replace(".", "_")).detach() for name in self._start}

    def one(self) -> float:
        self._outer.zero_grad()
        total, tasks = 0.0, len(self._data[0])
        for number in range(tasks):
            xs, ys, xq, yq = (part[number] for part in self._data)
            with self._higher.innerloop_ctx(self._module, self._inner, copy_initial_weights=False) as (net, inner):
                inner.step(self._loss(net(xs), ys))
                value = self._loss(net(xq), yq) / tasks
                value.backward()
                total += float(value.detach())
        self._outer.step()
        return total


# Measuring --------------------------------------------------------------------------------------------------------


def seconds(job: Callable[[], Any], repeats: int) -> float:
    begun = time.perf_counter()
    for _ in range(repeats):
        job()
    return (time.perf_counter() - begun) / repeats


def matrix_rate() -> float:
    """GFLOP a second of a batched 32 x 100 x 32 product (256 of them), the better of both libraries."""
    import jax
    import jax.numpy as jnp
    import torch

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(256, 100, 32)).astype(np.float32), rng.normal(size=(256, 32, 32)).astype(np.float32)
    flop = 2 * 256 * 100 * 32 * 32
    product = jax.jit(lambda a, b: a @ b)
    left, right, ta, tb = jnp.asarray(a), jnp.asarray(b), torch.from_numpy(a), torch.from_numpy(b)
    jobs = (lambda: jax.block_until_ready(product(left, right)), lambda: torch.bmm(ta, tb))
    best = min(statistics.median(seconds(job, 20) for _ in range(ROUNDS)) for job in jobs)
    return flop / best / 1e9


def step_flop(kind: str) -> float:
    """Multiplications and additions of one meta-step at the least: products of matrices only.

    Support rows: forward and backward (1 + 2), and once more backward through both (3). Query rows: 1 + 2.
    """
    if kind == "mlp":
        row = 20 * 32 + 32 * 32 + 32 * 5
        tasks, support, query = 32, 25, 75
    else:
        row = 28 * 28 * 9 * 64 + (14 * 14 + 7 * 7 + 3 * 3) * 576 * 64 + 64 * 5
        tasks, support, query = 4, 5, 75
    return 2.0 * row * tasks * (6 * support + 3 * query)


def peak(which: str, kind: str) -> float:
    """Peak memory of a process that only makes steps of one kind, in MB."""
    import jax

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (which, kind, jax.local_device_count()))


def _peak(which: str, kind: str, devices: int) -> float:
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    problem, start = (mlp_problem() if kind == "mlp" else conv_problem()), fresh(kind)
    if which == "drawn":
        Drawn(kind).many(5)
    elif which == "ours":
        Ours(kind, problem, start).many(5)
    else:
        job = {"higher": Higher, "torch.func": Func}[which](kind, problem, start)
        for _ in range(5):
            job.one()
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held before this process was started
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024.0
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def compare(kind: str, repeats: dict[str, int], rate: float) -> list[str]:
    problem, start = (mlp_problem() if kind == "mlp" else conv_problem()), fresh(kind)
    begun = time.perf_counter()
    ours = Ours(kind, problem, start)
    first = {"ours, a call a step": ours.one()}
    compiled = {"ours, a call a step": time.perf_counter() - begun}
    after = {"ours": {name[4:]: np.asarray(array) for name, array in ours.params.items()}}
    compiled["ours, many steps a call"] = compiled["ours, a call a step"]
    begun = time.perf_counter()
    bare = Bare(kind, problem, start)
    bare.many(1)
    compiled["ours, the step alone"] = time.perf_counter() - begun
    begun = time.perf_counter()
    drawn = Drawn(kind)
    drawn.many(1)
    compiled["ours, draws on the device"] = time.perf_counter() - begun
    peers = {}
    for name, peer in (("higher", Higher), ("torch.func", Func)):
        begun = time.perf_counter()
        peers[name] = peer(kind, problem, start)
        first[name] = peers[name].one()
        compiled[name] = time.perf_counter() - begun
        after[name] = {key: array.numpy() for key, array in peers[name].params.items()}
    for name in peers:
        assert abs(first[name] - first["ours, a call a step"]) < 1e-4 * abs(first[name]), first
        for key, array in after["ours"].items():
            np.testing.assert_allclose(after[name][key], array, rtol=2e-3, atol=2e-5, err_msg=f"{name} {key}")
    jobs: dict[str, Callable[[], float]] = {
        "ours, the step alone": lambda: seconds(lambda: bare.many(repeats["ours"]), 1) / repeats["ours"],
        "ours, many steps a call": lambda: seconds(lambda: ours.many(repeats["ours"]), 1) / repeats["ours"],
        "ours, draws on the device": lambda: seconds(lambda: drawn.many(repeats["ours"]), 1) / repeats["ours"],
        "ours, a call a step": lambda: seconds(ours.one, repeats["ours"]),
        "torch.func": lambda: seconds(peers["torch.func"].one, repeats["torch.func"]),
        "higher": lambda: seconds(peers["higher"].one, repeats["higher"]),
    }
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            times[name].append(job())
    median = {name: statistics.median(found) for name, found in times.items()}
    memory = {
        "ours, many steps a call": peak("ours", kind),
        "ours, draws on the device": peak("drawn", kind),
        "torch.func": peak("torch.func", kind),
        "higher": peak("higher", kind),
    }
    base = "ours, the step alone"
    lines = [
        "| | step, ms (least to most) | times ours | first step, s | peak memory, MB | GFLOP/s | share of small-matrix rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times[base], strict=True))
        speed = step_flop(kind) / median[name] / 1e9
        used = f"{memory[name]:.0f}" if name in memory else "as above"
        lines.append(
            f"| {name} | {1e3 * median[name]:.2f} ({1e3 * min(found):.2f} to {1e3 * max(found):.2f}) | {ratio:.2f} | "
            f"{compiled[name]:.1f} | {used} | {speed:.1f} | {100 * speed / rate:.0f} % |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    import jax
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch, and host devices of JAX"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(options.threads)
    jax.config.update("jax_num_cpu_devices", options.threads)  # tasks are shared out over the cores
    rate = matrix_rate()
    lines = [
        "# Second-order MAML beside PyTorch",
        "",
        f"{platform.processor() or platform.machine()}, {options.threads} threads; jax {jax.__version__}, torch "
        f"{torch.__version__}; one inner step, one process, the same numbers (loss and params after the first step "
        f"agree), median of {ROUNDS} rounds in which all take turns; batched 32 x 100 x 32 products run at {rate:.0f} "
        "GFLOP/s here.",
        "",
        "## MLP 20-32-32-5, 32 tasks, 25 support and 75 query rows",
        "",
        *compare("mlp", {"ours": 100, "torch.func": 20, "higher": 3}, rate),
        "",
        "## conv4, 4 tasks, 5-way 1-shot, 15 query rows a class, 28 x 28",
        "",
        *compare("conv", {"ours": 3, "torch.func": 2, "higher": 2}, rate),
        "",
    ]
    (HERE / "peers_maml.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
