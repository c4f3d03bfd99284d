"""Conformance checks that every meta-learner must pass, for this library's own and for yours.

``parametrize_with_meta_checks`` is for meta-learners what scikit-learn's ``parametrize_with_checks`` is for estimators;
`PriorDouble` lets scikit-learn's own checks run on an estimator with a real prior.
"""

from __future__ import annotations

from upstairs.testing.checks import CHECKS, checks_for
from upstairs.testing.double import PriorDouble, PriorShelf
from upstairs.testing.families import MetaCase, cases_for
from upstairs.testing.parametrize import parametrize_with_meta_checks

__all__ = [
    "CHECKS",
    "MetaCase",
    "PriorDouble",
    "PriorShelf",
    "cases_for",
    "checks_for",
    "parametrize_with_meta_checks",
]
