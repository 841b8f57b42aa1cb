"""One broken policy for each clause about policies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs

from tempscope import Verdict


MUTANTS: dict[str, type[Any]] = {}


class Policy:
    """A policy that keeps the contract: it keeps what is younger than a day."""

    may_keep = True

    def at_close(self, record):
        return Verdict(keep=True, reason="it is new", token=record.token)

    def select(self, kept, now):
        return [self.decide(record, now) for record in kept]

    def decide(self, record, now):
        return Verdict(keep=record.age(now) < 86_400, reason="by its age", token=record.token)


def breaks(number):
    """Note that a policy breaks the clause *number*."""

    def note(cls):
        MUTANTS[number] = cls
        return cls

    return note


@breaks("P1")
class LeavesOut(Policy):
    def select(self, kept, now):
        return [verdict for verdict in super().select(kept, now) if verdict.keep]


@breaks("P2")
class LooksAtFiles(Policy):
    def decide(self, record, now):
        Path("/proc/self/status").open().close()
        return super().decide(record, now)


@breaks("P3")
class KeepsTheFirst(Policy):
    def select(self, kept, now):
        return [
            attrs.evolve(verdict, keep=number < 5) for number, verdict in enumerate(super().select(kept, now))
        ]


@breaks("P4")
class KeepsHalf(Policy):
    def select(self, kept, now):
        newest = sorted(kept, key=lambda record: record.age(now))[: len(kept) // 2]
        return [
            attrs.evolve(super(KeepsHalf, self).decide(record, now), keep=record in newest) for record in kept
        ]


STARTED = time.time()


@breaks("P5")
class KnowsTheTime(Policy):
    def decide(self, record, now):
        return Verdict(keep=STARTED - record.opened.wall < 8 * 365 * 86_400, reason="by its own clock")


@breaks("P6")
class KeepsAllTheSame(Policy):
    may_keep = False
