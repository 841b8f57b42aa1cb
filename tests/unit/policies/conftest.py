"""Scopes for policies to decide about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pytest

from tempscope.model import Instant, Outcome, ScopeRecord, Usage, Verdict
from tempscope.protocols import CleanupPolicy


HOUR = 3_600.0
NOW = Instant(wall=1_000_000_000.0, boot=1_000_000.0, boot_id="this")


class MakeScope(Protocol):
    """Makes the record of a scope that was closed some hours ago."""

    def __call__(
        self, token: str, hours: float = 0.0, kind: str | None = "failed", size: int | None = 0, **more: Any
    ) -> ScopeRecord:
        """Return the record; *size* is in bytes."""
        ...


@pytest.fixture
def now() -> Instant:
    """The present."""
    return NOW


@pytest.fixture
def scope() -> MakeScope:
    """Make the record of a scope that was closed some hours before the present."""

    def make(
        token: str, hours: float = 0.0, kind: str | None = "failed", size: int | None = 0, **more: Any
    ) -> ScopeRecord:
        closed = Instant(NOW.wall - hours * HOUR, NOW.boot - hours * HOUR, "this")
        outcome = None if kind is None else Outcome(kind)  # type: ignore[arg-type]
        usage = None if size is None else Usage(bytes=size)
        return ScopeRecord(
            **{"token": token, "opened": closed, "closed": closed, "outcome": outcome, "usage": usage} | more
        )

    return make


class Survivors(Protocol):
    """Asks a policy and tells which scopes stay."""

    def __call__(self, policy: CleanupPolicy, kept: Sequence[ScopeRecord], now: Instant = NOW) -> str:
        """Return the tokens of those that stay, in one word."""
        ...


@pytest.fixture
def survivors() -> Survivors:
    """Ask a policy; the tokens of the scopes that stay, in one word."""

    def ask(policy: CleanupPolicy, kept: Sequence[ScopeRecord], now: Instant = NOW) -> str:
        verdicts: Sequence[Verdict] = policy.select(kept, now)
        assert [verdict.token for verdict in verdicts] == [record.token for record in kept]
        assert all(verdict.reason for verdict in verdicts)
        return "".join(record.token for record, verdict in zip(kept, verdicts, strict=True) if verdict.keep)

    return ask
