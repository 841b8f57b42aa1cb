"""How a job ended, told from its exception alone."""

from __future__ import annotations

import asyncio
import sys

import pytest
import trio

from tempscope import _outcomes
from tempscope._outcomes import OK, SignalExit, classify, describe, outcome_of


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (None, "ok"),
        (ValueError(), "failed"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (SystemExit(), "ok"),
        (SystemExit(0), "ok"),
        (SystemExit(1), "failed"),
        (SystemExit("no such file"), "failed"),
        (SignalExit(143), "cancelled"),
        (SignalExit(0), "cancelled"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), asyncio.CancelledError()]), "cancelled"),
        (BaseExceptionGroup("g", [KeyboardInterrupt(), SystemExit(0)]), "failed"),
        (BaseExceptionGroup("g", [BaseExceptionGroup("h", [GeneratorExit()])]), "cancelled"),
        (ExceptionGroup("g", [ValueError()]), "failed"),
        (TimeoutError(), "failed"),
    ],
    ids=repr,
)
def test_kinds(exc: BaseException | None, kind: str) -> None:
    """Each exception has its kind, groups the kind of all they hold."""
    assert classify(exc) == kind


def test_a_well_ended_job_costs_nothing() -> None:
    """All jobs that ended well share one outcome."""
    assert outcome_of(None) is OK
    assert OK.ok


def test_retry_wins() -> None:
    """A job that will run again is a retry, with the exception it ended by."""
    error = ValueError("try again")
    assert outcome_of(None, retry=True).kind == "retry"
    outcome = outcome_of(error, retry=True)
    assert (outcome.kind, outcome.exception, outcome.error) == ("retry", error, "ValueError: try again")
    assert not outcome.ok


def test_text_is_one_line_and_bounded() -> None:
    """An exception's text is escaped and cut, because it goes into records and messages."""
    assert describe(ValueError("a\nb\x1b[0m")) == r"ValueError: a\nb\x1b[0m"
    assert len(describe(ValueError("x" * 10_000))) == 500


def test_text_that_cannot_be_had() -> None:
    """An exception whose ``__str__`` fails does not stop the scope from closing."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert outcome_of(Mute()).error == "Mute: its text cannot be had"


def test_neither_loop_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without asyncio or trio cannot have been cancelled by them (a fake: the tests have both)."""
    cancelled = asyncio.CancelledError()
    monkeypatch.delitem(sys.modules, "trio")
    assert classify(cancelled) == "cancelled"
    monkeypatch.delitem(sys.modules, "asyncio.exceptions")
    assert classify(cancelled) == "failed"


def test_trio_cancelled() -> None:
    """The exception of a trio that cancels counts."""
    seen: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                seen.append(error)
                raise

    trio.run(main)
    assert classify(seen[0]) == "cancelled"
    assert _outcomes.__all__
