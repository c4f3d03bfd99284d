"""Processes with deadlines: every call has an outcome, and one that overruns or dies takes no other with it."""

from __future__ import annotations

import os
import time

from upstairs.outer.workers import Batch, run_bounded


def outcomes(make, batches, **options):
    found = sorted(run_bounded(make, batches, **options), key=lambda o: (o.batch, o.item))
    return [(o.batch, o.item, o.value, o.failure.partition(":")[0]) for o in found]


def test_values_errors_overruns_and_deaths_are_told_apart():
    def make(data):
        def call(item):
            if item == "sleep":
                time.sleep(30)
            if item == "die":
                os._exit(3)
            if item == "raise":
                raise KeyError(item)
            os.write(1, b"what a call prints disturbs nothing")
            return data, item

        return call

    start = time.monotonic()
    found = outcomes(make, [Batch("a", (1, "sleep", 2)), Batch("b", ("die", 3, "raise"))], workers=2, seconds=2.0)
    assert time.monotonic() - start < 20
    assert found == [
        (0, 0, ("a", 1), ""),
        (0, 1, None, "timeout"),
        (0, 2, ("a", 2), ""),
        (1, 0, None, "died"),
        (1, 1, ("b", 3), ""),
        (1, 2, None, "KeyError"),
    ]


def test_data_that_cannot_be_read_fail_each_call():
    def make(data):
        raise RuntimeError(f"no {data}")

    assert outcomes(make, [Batch("x", (1, 2))]) == [(0, 0, None, "RuntimeError"), (0, 1, None, "RuntimeError")]


def test_processes_end_when_the_caller_stops_listening():
    def make(data):
        return lambda item: (os.getpid(), time.sleep(0.01))[0]

    running = run_bounded(make, [Batch(None, range(1000))], workers=1)
    process = next(running).value
    running.close()
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the process goes on")


def test_nothing_to_do_starts_nothing():
    assert outcomes(lambda data: None, [], workers=2) == []
