"""Conformance checks as pytest tests."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from upstairs.errors import UpstairsError
from upstairs.learners.meta import MetaLearner
from upstairs.testing.checks import CHECKS, NEEDS_TRAINING, Check, checks_for
from upstairs.testing.families import MetaCase, cases_for

__all__ = ["parametrize_with_meta_checks"]


def parametrize_with_meta_checks(
    meta_learners: Sequence[MetaLearner | MetaCase], *, expected_failures: Mapping[str, str] | None = None
) -> Any:
    """Decorate a test so that it runs once for every pair of a meta-learner and a conformance check.

    The test takes the arguments ``meta_learner`` and ``check`` and calls ``check(meta_learner)``. A check raises
    AssertionError with a sentence that says what is broken. Checks that make no sense for a case (renamed classes for
    a regression) are left out.

    Parameters
    ----------
    meta_learners : sequence of MetaCase or MetaLearner
        A `MetaCase` brings tasks of its own; a bare meta-learner is checked on the small regression, shared-label and
        class-pool tasks of `cases_for`.
    expected_failures : mapping of str to str, optional
        Names of checks that fail, with the reason; strict: such a check must fail in every case. For a single case
        use ``MetaCase(expected_failures=...)``.

    Returns
    -------
    decorator
        A ``pytest.mark.parametrize``.

    Raises
    ------
    UpstairsError
        If ``expected_failures`` names a check that does not exist.

    Examples
    --------
    >>> import upstairs as up
    >>> @parametrize_with_meta_checks([up.MetaNeuralNetwork(prior_mean="linear")])
    ... def test_conformance(meta_learner, check):
    ...     check(meta_learner)
    """
    import pytest

    everywhere = dict(expected_failures or {})
    cases = [case for entry in meta_learners for case in ([entry] if isinstance(entry, MetaCase) else cases_for(entry))]
    known = {check.__name__ for check in CHECKS}
    params = []
    for case in cases:
        reasons = everywhere | dict(case.expected_failures)
        unknown = sorted(set(reasons) - known)
        if unknown:
            raise UpstairsError(
                f"expected_failures names {unknown[0]!r}, which is no check; the checks are {', '.join(sorted(known))}."
            )
        for check in checks_for(case):
            name = check.__name__
            marks = [pytest.mark.xfail(reason=reasons[name], strict=True)] if name in reasons else []
            label = f"{type(case.meta).__name__}-{case.name or case.kind}-{name}"
            meta = case.meta if case.quick is None or name in NEEDS_TRAINING else case.quick
            params.append(pytest.param(meta, functools.partial(_run, check, case), id=label, marks=marks))
    return pytest.mark.parametrize(("meta_learner", "check"), params)


def _run(check: Check, case: MetaCase, meta: MetaLearner) -> None:
    check(meta, case)
