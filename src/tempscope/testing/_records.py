"""
Records to ask policies about: all outcomes, ages from seconds to years, sizes, boots, written verdicts.

The same ones each time.
"""

from __future__ import annotations

import itertools
from typing import get_args

import attrs

from tempscope.model import Instant, Outcome, OutcomeKind, ScopeRecord, Usage, Verdict


__all__ = ["NOW", "later", "records"]

NOW = Instant(1_700_000_000.0, 40 * 86_400.0, "boot-2")
"""The present that the policies are told."""

_AGES = [5.0, 3_700.0, 2 * 86_400.0, 30 * 86_400.0, 400 * 86_400.0]
_SIZES = [None, 0, 5_000, 3 << 20, 40 << 30]
_VERDICTS = [
    None,
    Verdict(keep=True, reason="kept"),
    Verdict(keep=True, reason="kept for a day", for_seconds=86_400.0),
    Verdict(keep=True, reason="kept until lately", until=NOW.wall - 60.0),
    Verdict(keep=True, reason="kept until soon", until=NOW.wall + 60.0),
]
_OUTCOMES: list[Outcome | None] = [None, *map(Outcome, get_args(OutcomeKind))]


def later(instant: Instant, seconds: float) -> Instant:
    """Return the same moment of another time: *seconds* later, as long after the machine's start."""
    return attrs.evolve(instant, wall=instant.wall + seconds)


def records() -> list[ScopeRecord]:
    """Return sixty records, in no order that means anything."""
    return [_record(number, outcome, age) for number, (age, outcome) in enumerate(_pairs())]


def _pairs() -> list[tuple[float, Outcome | None]]:
    pairs = list(itertools.product(_AGES, _OUTCOMES))
    return [*pairs[::2], *pairs[1::2], *((age + 0.5, outcome) for age, outcome in pairs)]


def _record(number: int, outcome: Outcome | None, age: float) -> ScopeRecord:
    closed = _ago(age)
    size = _SIZES[number % len(_SIZES)]
    return ScopeRecord(
        token=f"scope{number:02}",
        name=f"job {number}",
        label=("cut", "thumbnail", None)[number % 3],
        application=("", "suite")[number % 2],
        opened=_ago(age + 10.0),
        closed=None if outcome is None else closed,
        outcome=outcome,
        state="retained",
        usage=None if size is None else Usage(files=1, bytes=size, freeable_bytes=size),
        verdict=_VERDICTS[number // 2 % len(_VERDICTS)],
    )


def _ago(seconds: float) -> Instant:
    if seconds < NOW.boot:
        return Instant(NOW.wall - seconds, NOW.boot - seconds, NOW.boot_id)
    return Instant(NOW.wall - seconds, 1_000.0, "boot-1")
