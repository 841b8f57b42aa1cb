"""
Policies made of policies.

``keep_if_any`` and ``keep_if_all`` ask every member about everything and weigh the answers scope
by scope.
``in_order`` asks one after the other, each only about what those before it kept: that is how a
budget comes after the rest and does not count what goes anyway.

All three are policies themselves and nest.
As long as no member keeps less because there is less to keep (those of this package do not), the
same holds for the combination, and a second sweep finds nothing more to delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs

from tempscope.errors import ConfigurationError
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.policies._ask import check_policy, verdicts_of
from tempscope.protocols import CleanupPolicy


__all__ = ["InOrder", "KeepIfAll", "KeepIfAny", "in_order", "keep_if_all", "keep_if_any"]

_Times: TypeAlias = tuple[float | None, float | None]


@attrs.frozen
class KeepIfAny:
    """
    What :func:`keep_if_any` returns.

    A value: share it between all scopes and threads, as far as its members may be shared.
    """

    policies: tuple[CleanupPolicy, ...]

    def __repr__(self) -> str:
        return _call("keep_if_any", self.policies)

    @property
    def may_keep(self) -> bool:
        """Whether any member may keep."""
        return any(policy.may_keep for policy in self.policies)

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope if any member does."""
        return _any(record, [policy.at_close(record) for policy in self.policies])

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Keep each scope that any member keeps."""
        answers = zip(*(verdicts_of(policy, kept, now) for policy in self.policies), strict=True)
        return [_any(record, verdicts) for record, verdicts in zip(kept, answers, strict=True)]


@attrs.frozen
class KeepIfAll:
    """
    What :func:`keep_if_all` returns.

    A value: share it between all scopes and threads, as far as its members may be shared.
    """

    policies: tuple[CleanupPolicy, ...]

    def __repr__(self) -> str:
        return _call("keep_if_all", self.policies)

    @property
    def may_keep(self) -> bool:
        """Whether every member may keep."""
        return all(policy.may_keep for policy in self.policies)

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Keep the scope if every member does."""
        return _all(record, [policy.at_close(record) for policy in self.policies])

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Keep each scope that every member keeps."""
        answers = zip(*(verdicts_of(policy, kept, now) for policy in self.policies), strict=True)
        return [_all(record, verdicts) for record, verdicts in zip(kept, answers, strict=True)]


@attrs.frozen
class InOrder:
    """
    What :func:`in_order` returns.

    A value: share it between all scopes and threads, as far as its members may be shared.
    """

    policies: tuple[CleanupPolicy, ...]

    def __repr__(self) -> str:
        return _call("in_order", self.policies)

    @property
    def may_keep(self) -> bool:
        """Whether every member may keep."""
        return all(policy.may_keep for policy in self.policies)

    def at_close(self, record: ScopeRecord) -> Verdict:
        """Ask the members one after the other; the first that deletes has the last word."""
        verdicts: list[Verdict] = []
        for policy in self.policies:
            verdicts.append(policy.at_close(record))
            if not verdicts[-1].keep:
                break
        return _all(record, verdicts)

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> list[Verdict]:
        """Ask each member about what those before it kept."""
        said: dict[str, list[Verdict]] = {record.token: [] for record in kept}
        staying = list(kept)
        for policy in self.policies:
            verdicts = verdicts_of(policy, staying, now)
            for record, verdict in zip(staying, verdicts, strict=True):
                said[record.token].append(verdict)
            staying = [record for record, verdict in zip(staying, verdicts, strict=True) if verdict.keep]
        return [_all(record, said[record.token]) for record in kept]


def keep_if_any(*policies: CleanupPolicy) -> KeepIfAny:
    """
    Return the policy that keeps what any of *policies* keeps.

    A scope stays until the last of those that keep it lets it go; without an end if one names none.

    Raises:
        ConfigurationError: Without an argument, or if one is no policy.
    """
    return KeepIfAny(_check("keep_if_any", policies))


def keep_if_all(*policies: CleanupPolicy) -> KeepIfAll:
    """
    Return the policy that keeps what each of *policies* keeps.

    A scope stays until the first of them lets it go.

    Raises:
        ConfigurationError: Without an argument, or if one is no policy.
    """
    return KeepIfAll(_check("keep_if_all", policies))


def in_order(*policies: CleanupPolicy) -> InOrder:
    """
    Return the policy that asks *policies* in turn, each only about what those before it kept.

    Put budgets last: ``in_order(KeepOnFailure(), SizeBudget("10GiB"))`` spends the budget on
    failures alone.
    When a scope closes, the members are asked in turn until one deletes; it stays until the first
    of them lets it go.

    Raises:
        ConfigurationError: Without an argument, or if one is no policy.
    """
    return InOrder(_check("in_order", policies))


def _check(name: str, policies: tuple[object, ...]) -> tuple[CleanupPolicy, ...]:
    if not policies:
        raise ConfigurationError(f"{name}() needs at least one policy, such as {name}(KeepOnFailure())")
    return tuple(check_policy(policy, what=f"argument {n} of {name}") for n, policy in enumerate(policies, 1))


def _call(name: str, policies: Iterable[CleanupPolicy]) -> str:
    return f"{name}({', '.join(map(repr, policies))})"


def _any(record: ScopeRecord, verdicts: Sequence[Verdict]) -> Verdict:
    keepers = [verdict for verdict in verdicts if verdict.keep]
    if not keepers:
        return Verdict(keep=False, reason=_reasons(verdicts), token=record.token)
    until, for_seconds = _latest(record, keepers)
    return Verdict(
        keep=True, reason=_reasons(keepers), until=until, for_seconds=for_seconds, token=record.token
    )


def _all(record: ScopeRecord, verdicts: Sequence[Verdict]) -> Verdict:
    deleters = [verdict for verdict in verdicts if not verdict.keep]
    if deleters:
        return Verdict(keep=False, reason=_reasons(deleters), token=record.token)
    until, for_seconds = _earliest(verdicts)
    return Verdict(
        keep=True, reason=_reasons(verdicts), until=until, for_seconds=for_seconds, token=record.token
    )


def _reasons(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(dict.fromkeys(verdict.reason for verdict in verdicts if verdict.reason))


def _earliest(verdicts: Sequence[Verdict]) -> _Times:
    # A verdict that names both ends at whichever comes first, so both may stand side by side.
    untils = [verdict.until for verdict in verdicts if verdict.until is not None]
    durations = [verdict.for_seconds for verdict in verdicts if verdict.for_seconds is not None]
    return min(untils, default=None), min(durations, default=None)


def _latest(record: ScopeRecord, keepers: Sequence[Verdict]) -> _Times:
    if any(verdict.until is None and verdict.for_seconds is None for verdict in keepers):
        return None, None
    if all(verdict.for_seconds is None for verdict in keepers):
        return max(verdict.until for verdict in keepers if verdict.until is not None), None
    return None, max(_lasts(record, verdict) for verdict in keepers)


def _lasts(record: ScopeRecord, verdict: Verdict) -> float:
    ends = [] if verdict.for_seconds is None else [verdict.for_seconds]
    if verdict.until is not None:
        ends.append(verdict.until - (record.closed or record.opened).wall)
    return min(ends)
