"""
The conformance suite for policies: a class to inherit from, and one fixture to give.

::

    class TestMyPolicy(PolicyContract):
        @pytest.fixture
        def policy(self):
            return MyPolicy()
"""

from __future__ import annotations

import builtins
import io
import os
import random
import time
from collections.abc import Sequence

import attrs
import pytest

from tempscope.model import ScopeRecord, Verdict
from tempscope.protocols import CleanupPolicy
from tempscope.testing._records import NOW, later, records
from tempscope.testing._suite import Suite


__all__ = ["PolicyContract"]

_YEARS = 10 * 365 * 86_400.0
_READS = [
    (builtins, "open"),
    (io, "open"),
    (os, "open"),
    (os, "listdir"),
    (os, "scandir"),
    (os, "stat"),
    (time, "clock_gettime"),
    (time, "monotonic"),
    (time, "perf_counter"),
    (time, "sleep"),
    (time, "time"),
    (time, "time_ns"),
]


class PolicyContract(Suite):
    """
    What every :class:`~tempscope.CleanupPolicy` promises.

    Lives as pytest makes it, one instance a test.
    Inherit from it, and give the fixture ``policy``.
    """

    to_give = frozenset(["policy"])

    @pytest.fixture
    def policy(self) -> CleanupPolicy:
        """The policy under test; give this fixture."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture policy that gives a policy")

    def test_p1_total(self, policy: CleanupPolicy) -> None:
        """About any records there is one verdict each, in the same order, with a reason in words."""
        for kept in (records(), records()[:1], []):
            verdicts = policy.select(kept, NOW)
            assert len(verdicts) == len(kept)
            for record, verdict in zip(kept, verdicts, strict=True):
                _check_verdict(record, verdict)
        for record in records():
            _check_verdict(record, policy.at_close(record))

    def test_p2_pure(self, policy: CleanupPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The same arguments give the same verdicts; asking changes nothing, and reads neither files nor
        clocks.
        """
        kept = records()
        before = list(kept)
        expected = _ask(policy, kept)
        with monkeypatch.context() as patch:
            for owner, name in _READS:
                patch.setattr(owner, name, _refuse)
            try:
                given, read = _ask(policy, kept), ""
            except _ReadError as error:
                given, read = expected, str(error)
        assert read == ""
        assert given == expected
        assert kept == before

    def test_p3_order_independent(self, policy: CleanupPolicy) -> None:
        """The same records in another order get the same verdicts."""
        kept = records()
        expected = _by_token(kept, policy.select(kept, NOW))
        for seed in range(10):
            shuffled = random.Random(seed).sample(kept, len(kept))
            assert _by_token(shuffled, policy.select(shuffled, NOW)) == expected

    def test_p4_idempotent(self, policy: CleanupPolicy) -> None:
        """What a policy kept it keeps when it is asked again, also once its verdicts were written down."""
        kept = records()
        staying = [each for each in zip(kept, policy.select(kept, NOW), strict=True) if each[1].keep]
        plain = [record for record, _ in staying]
        written = [attrs.evolve(record, verdict=verdict) for record, verdict in staying]
        for again in (plain, written):
            assert [verdict.keep for verdict in policy.select(again, NOW)] == [True] * len(again)

    def test_p5_time_from_the_argument(self, policy: CleanupPolicy) -> None:
        """
        Time comes from the argument alone: if all of it happened years earlier or later, nothing else
        changes.
        """
        kept = records()
        expected = [verdict.keep for verdict in policy.select(kept, NOW)]
        closing = [policy.at_close(record).keep for record in kept]
        for seconds in (-_YEARS, _YEARS):
            shifted = [_later(record, seconds) for record in kept]
            assert [verdict.keep for verdict in policy.select(shifted, later(NOW, seconds))] == expected
            assert [policy.at_close(record).keep for record in shifted] == closing

    def test_p6_may_keep(self, policy: CleanupPolicy) -> None:
        """
        A policy whose may_keep is False keeps nothing, at close or in a sweep, and may_keep never changes.
        """
        may_keep = policy.may_keep
        assert isinstance(may_keep, bool)
        verdicts = [*policy.select(records(), NOW), *map(policy.at_close, records())]
        assert may_keep or not any(verdict.keep for verdict in verdicts)
        assert policy.may_keep is may_keep


class _ReadError(Exception):
    """A policy looked at the world."""


def _ask(policy: CleanupPolicy, kept: list[ScopeRecord]) -> list[Verdict]:
    return [*policy.select(kept, NOW), *map(policy.at_close, kept)]


def _refuse(*args: object, **_kwargs: object) -> None:
    raise _ReadError(f"the policy did I/O or read a clock; the arguments were {args!r}")


def _check_verdict(record: ScopeRecord, verdict: Verdict) -> None:
    assert isinstance(verdict, Verdict)
    assert isinstance(verdict.keep, bool)
    assert verdict.reason
    assert verdict.token in ("", record.token)


def _by_token(kept: Sequence[ScopeRecord], verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    return {record.token: verdict for record, verdict in zip(kept, verdicts, strict=True)}


def _later(record: ScopeRecord, seconds: float) -> ScopeRecord:
    """Return *record* as if all of it had happened *seconds* later."""
    return attrs.evolve(
        record,
        opened=later(record.opened, seconds),
        closed=None if record.closed is None else later(record.closed, seconds),
        verdict=_verdict_later(record.verdict, seconds),
        never_closed=_verdict_later(record.never_closed, seconds) or record.never_closed,
    )


def _verdict_later(verdict: Verdict | None, seconds: float) -> Verdict | None:
    if verdict is None or verdict.until is None:
        return verdict
    return attrs.evolve(verdict, until=verdict.until + seconds)
