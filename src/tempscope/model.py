"""
The records that storages, policies and scopes hand to each other.

All are frozen values without behaviour that matters, safe to share between threads and to keep
for ever.
Each has ``to_dict()``, which gives plain JSON types and no secrets: an exception is there by type
and text only.
Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

import enum
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from tempscope._late import late


if TYPE_CHECKING:
    from tempscope._reports import (
        JanitorStatus,
        OwnerStats,
        StateStats,
        Stats,
        SweepReport,
        TrackedPath,
    )


__all__ = [
    "Capability",
    "CleanupReport",
    "Entry",
    "EntryKind",
    "Event",
    "EventKind",
    "Instant",
    "JanitorStatus",
    "Outcome",
    "OutcomeKind",
    "Owner",
    "OwnerStats",
    "Removal",
    "ScopeRecord",
    "ScopeState",
    "StagedMethod",
    "StateStats",
    "Stats",
    "SweepReport",
    "TrackedPath",
    "TrackerState",
    "Usage",
    "Verdict",
]

OutcomeKind: TypeAlias = Literal["ok", "failed", "cancelled", "retry", "never_closed"]
ScopeState: TypeAlias = Literal["live", "retained", "given_up", "handed_over", "orphaned", "trash"]
EntryKind: TypeAlias = Literal["removed", "kept", "skipped", "failed"]
EventKind: TypeAlias = Literal[
    "created", "staged", "published", "closed", "removed", "kept", "swept", "failed"
]
StagedMethod: TypeAlias = Literal["hardlink", "reflink", "copy"]
TrackerState: TypeAlias = Literal["this process", "alive", "gone"]


class Capability(enum.StrEnum):
    """
    What a storage can do beyond the required methods.

    A storage declares its capabilities; what it does not declare raises
    :class:`~tempscope.UnsupportedError`.
    """

    REAL_PATHS = "real_paths"
    """Every path handed out is, or becomes when asked for its text, a file other programs can open."""

    HARD_LINKS = "hard_links"
    """A read-only input may be staged as a second name of the same file."""

    CRASH_SWEEP = "crash_sweep"
    """What a killed process leaves behind is found later."""

    RETAIN = "retain"
    """A closed scope can be kept, and found again."""

    GIVE_UP = "give_up"
    """One path can be taken out of everybody's hands for good."""

    OUTSIDE_PATHS = "outside_paths"
    """Registered outside paths are journalled, so that a sweep can delete them after a crash."""

    HAND_OVER = "hand_over"
    """An open scope can be detached here and attached in another process."""

    COMMAND_LEASE = "command_lease"
    """A child command can hold the lease of the scope that started it."""

    UNNAMED_FILES = "unnamed_files"
    """Files that never had a name, and so cannot be left behind."""


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return value.to_dict() if hasattr(value, "to_dict") else attrs.asdict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, Path):
        # repr of a path in memory is for display; str would move the file to disk.
        return getattr(value, "display", None) or str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@attrs.frozen
class Record:
    """Gives the records below their ``to_dict``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON types."""
        fields = attrs.fields(type(self))
        return {f.name: _plain(getattr(self, f.name)) for f in fields if f.metadata.get("plain", True)}


@attrs.frozen(order=False)
class Instant(Record):
    """
    A point in time, by two clocks.

    Boot time runs on through suspend and never steps, but means something within one boot only;
    wall time means something everywhere, but can be set.
    """

    wall: float
    """Seconds since the epoch, UTC."""

    boot: float
    """Seconds since this machine started, suspend included (``CLOCK_BOOTTIME``)."""

    boot_id: str = ""
    """Which start of the machine *boot* counts from; empty where nobody knows."""

    def seconds_since(self, earlier: Instant) -> float:
        """
        Return how many seconds surely passed since *earlier*, never less than zero.

        Within one boot the smaller of both clocks counts, so that a clock that was set forward
        makes nothing old; across boots wall time alone decides.
        """
        wall = self.wall - earlier.wall
        if self.boot_id and self.boot_id == earlier.boot_id:
            return max(0.0, min(wall, self.boot - earlier.boot))
        return max(0.0, wall)


@attrs.frozen
class Outcome(Record):
    """
    How a scope ended.

    ``exception`` is there in the process that closed the scope; what is read back from a record
    has ``error``, its type and text.
    """

    kind: OutcomeKind
    exception: BaseException | None = attrs.field(default=None, eq=False, metadata={"plain": False})
    error: str | None = attrs.field(default=None)

    @property
    def ok(self) -> bool:
        """Whether the job ended well."""
        return self.kind == "ok"


@attrs.frozen
class Usage(Record):
    """
    What a scope occupies: allocated bytes, each inode once.

    Sparse files count what is really allocated; a hard link counts nothing that other links hold
    (``freeable_bytes``).
    """

    files: int = 0
    directories: int = 0
    bytes: int = 0
    freeable_bytes: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.files + other.files,
            self.directories + other.directories,
            self.bytes + other.bytes,
            self.freeable_bytes + other.freeable_bytes,
        )


@attrs.frozen
class Verdict(Record):
    """
    What a policy decided about one scope: keep or delete, until when, and why in words.

    Attributes:
        keep: Whether the scope's files stay.

        until: When a kept scope may go, in seconds since the epoch; None is "until somebody
            decides otherwise".

        for_seconds: How long it stays, counted from its closing by the surer clock (see
            :meth:`Instant.seconds_since`); None as above.

        reason: Why, in words, for people and logs.

        token: Which scope, where a verdict stands among others.
    """

    keep: bool
    reason: str = ""
    until: float | None = None
    for_seconds: float | None = None
    token: str = ""


@attrs.frozen(kw_only=True)
class Owner(Record):
    """
    Who made a scope: for people, and for file systems whose locks cannot be trusted.

    Never the authority on whether the owner lives; the kernel's lock is.
    """

    pid: int = 0
    boot_id: str = ""
    pid_namespace: str = ""
    host: str = ""
    started: int = 0


@attrs.frozen(kw_only=True)
class ScopeRecord(Record):
    """
    All that a storage keeps, and a policy knows, about one scope.

    Attributes:
        token: Names the scope, unique for ever.

        name: The job's name as given: any text, never part of a path.

        label: The kind of job, from :class:`~tempscope.TempScopes`; policies count per label.

        application: Who opened it; a policy is asked only about its own application's scopes.

        parent: The token of the scope it was opened in, or None.

        opened: When it was opened.

        closed: When it was closed, or None.

        outcome: How it ended, or None while it is open.

        state: Where it stands now.

        usage: What it occupied when it was last measured, or None.

        never_closed: What its owner wants to happen if it is never closed.

        verdict: What was decided when it was closed, or None.

        directory: Its directory, for people; None where nothing was made yet.

        owner: The process that made it.

        held_by: Whom its lock is held by, in words, where that is known and worth telling.
    """

    token: str
    name: str | None = None
    label: str | None = None
    application: str = ""
    parent: str | None = None
    opened: Instant
    closed: Instant | None = None
    outcome: Outcome | None = None
    state: ScopeState = "live"
    usage: Usage | None = None
    never_closed: Verdict = Verdict(keep=False, reason="its owner wanted nothing kept")
    verdict: Verdict | None = None
    directory: Path | None = attrs.field(default=None, eq=False)
    owner: Owner | None = attrs.field(default=None, eq=False)
    held_by: str | None = attrs.field(default=None, eq=False)

    def age(self, now: Instant) -> float:
        """Return how many seconds surely passed since it was closed, or opened if it never was."""
        return now.seconds_since(self.closed or self.opened)

    def expired(self, now: Instant) -> bool:
        """
        Return whether the time that its verdict gave it has passed.

        Both kinds of time count from its closing and by the surer clock: a clock that was set
        forward only postpones.
        """
        verdict = self.verdict or self.never_closed
        limits = [] if verdict.for_seconds is None else [verdict.for_seconds]
        if verdict.until is not None:
            limits.append(verdict.until - (self.closed or self.opened).wall)
        return any(self.age(now) >= limit for limit in limits)

    def never_closed_by(self, now: Instant) -> ScopeRecord:
        """
        Return the record as of a scope that was never closed and is found at *now*.

        Its verdict is what its owner wanted for that case; if it is to be kept until a time that
        has passed, it is to be deleted.
        """
        found = attrs.evolve(
            self,
            closed=self.closed or now,
            outcome=self.outcome or Outcome("never_closed"),
            verdict=self.never_closed,
        )
        if self.never_closed.keep and found.expired(now):
            return attrs.evolve(found, verdict=Verdict(False, "it was never closed, and its time has passed"))
        return found


@attrs.frozen
class Entry(Record):
    """
    One thing that a removal or sweep met, what became of it, and why.

    Attributes:
        path: Which, for people; odd characters are escaped.

        kind: What became of it.

        reason: Why, in words.

        errno: The system's error number, where there was one.

        bytes: How many bytes it stands for.
    """

    path: str
    kind: EntryKind
    reason: str = ""
    errno: int | None = None
    bytes: int = 0


@attrs.frozen(kw_only=True)
class Removal(Record):
    """
    What a removal did.

    Attributes:
        removed: Files, links and directories removed.

        removed_bytes: Bytes that their removal freed.  Of more than 2,000 files at once, one in
            64 of the rest is looked at and stands for all 64.

        kept: Things kept because a policy or a record says so.

        skipped: Things left alone because they are not ours or cannot be decided.

        failed: Things that should have gone and could not.

        entries: What was kept, skipped or failed, each with its reason; what was simply removed is
            only counted, except in a sweep's report, which names whole scopes.
    """

    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0
    skipped: int = 0
    failed: int = 0
    entries: tuple[Entry, ...] = ()

    def __add__(self, other: Removal) -> Removal:
        return Removal(
            removed=self.removed + other.removed,
            removed_bytes=self.removed_bytes + other.removed_bytes,
            kept=self.kept + other.kept,
            skipped=self.skipped + other.skipped,
            failed=self.failed + other.failed,
            entries=self.entries + other.entries,
        )

    @property
    def complete(self) -> bool:
        """Whether nothing that should have gone is still there."""
        return not (self.failed or self.skipped)

    @property
    def leftovers(self) -> tuple[Entry, ...]:
        """The entries that should have gone and did not."""
        return tuple(e for e in self.entries if e.kind in ("failed", "skipped"))


@attrs.frozen(kw_only=True)
class CleanupReport(Removal):
    """
    What closing a scope, or :meth:`~tempscope.TempFileManager.cleanup_all`, did.

    Attributes:
        scope: The scope's name or token.

        outcome: How the scope ended; None for ``cleanup_all``.

        verdict: What the policy decided; None for ``cleanup_all``.

        directory: Where the files are now, if the scope was kept.

        errors: What callbacks and checks raised.
    """

    scope: str = ""
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    directory: Path | None = attrs.field(default=None, eq=False)
    errors: tuple[Exception, ...] = attrs.field(default=(), eq=False)


@attrs.frozen(kw_only=True)
class Event(Record):
    """
    Something that happened to a scope, or in a janitor's pass, as listeners are told.

    Attributes:
        kind: What: ``"created"`` (a file, a directory or a reserved name), ``"staged"``,
            ``"published"``, ``"removed"`` (a file or directory when its block ended, or all that a
            clean-up or a close removed), ``"kept"`` (one path by ``keep()``, or a scope by its
            policy), ``"failed"`` (something could not be removed, or a callback failed), ``"closed"``
            and ``"swept"``.

        scope: The scope's name, or token; empty for a pass.

        label: The kind of job.

        path: Where the file stands now, or the kept scope; None where it is about more than one.

        source: What was staged, or which path of the scope was published or kept.

        reason: Why, in words.

        removal: What was done, where that is more than *path*: a
            :class:`~tempscope.CleanupReport` or :class:`~tempscope.SweepReport`.
    """

    kind: EventKind
    scope: str = ""
    label: str | None = None
    path: Path | None = None
    source: Path | None = None
    reason: str = ""
    removal: Removal | None = None


# What no scope needs is made when it is first asked for.
__getattr__ = late(
    __name__,
    {
        "JanitorStatus": "tempscope._reports",
        "OwnerStats": "tempscope._reports",
        "StateStats": "tempscope._reports",
        "Stats": "tempscope._reports",
        "SweepReport": "tempscope._reports",
        "TrackedPath": "tempscope._reports",
    },
)
