"""
What a storage and a policy promise: the manual for somebody who writes one.

Two objects carry the bytes.
A :class:`TempStorage` lives as long as the process and is shared by all its threads; a
:class:`TempArea` is the part of it that one scope owns.
Neither knows of jobs, outcomes, policies or time: those are the manager's and the policy's.

Only what stands in these two classes is required.
More is declared by :class:`~tempscope.Capability` and comes with the small optional protocols at
the end; whatever a storage does not declare raises :class:`~tempscope.UnsupportedError`.

Implementing is a matter of shape, not of inheritance: any object with these methods will do, and
:class:`tempscope.testing.StorageContract` tells whether it keeps the promises.
The numbers in brackets are clauses of ``docs/reference/contract.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from tempscope.model import (
    Capability,
    Entry,
    Event,
    Instant,
    Removal,
    ScopeRecord,
    StagedMethod,
    Usage,
    Verdict,
)


if TYPE_CHECKING:
    from tempscope.model import TrackedPath


__all__ = [
    "CleanupPolicy",
    "Clock",
    "CommandLease",
    "GivingUp",
    "HandingOver",
    "Listener",
    "OutsidePathJournal",
    "Pace",
    "Progress",
    "Reserving",
    "Spilling",
    "StagedFile",
    "Surveyable",
    "Sweepable",
    "Sweeping",
    "TakingOver",
    "TempArea",
    "TempStorage",
    "TrackedPaths",
    "UnnamedFiles",
]

Progress: TypeAlias = Callable[[int, int], object]
"""Called as ``progress(done, total)``, both in bytes, from the copying thread; raising cancels the copy."""

Pace: TypeAlias = Callable[[int], bool]
"""
Called between the parts of a long removal with the bytes that the part freed, from the removing thread.

It may sleep; False says that the rest is to stay for another time.
"""


@runtime_checkable
class Clock(Protocol):
    """
    Tells the time.

    Lives as long as its user likes; shared by all threads.
    """

    def now(self) -> Instant:
        """Return the present by wall clock and boot clock; never raises, never blocks."""
        ...


class Listener(Protocol):
    """
    Is told what happens to scopes: any function of one argument will do.

    Lives as long as whoever tells it; called by the thread or task in which something happened, so
    by several at once, while a file is made or a scope closes: it has to be quick.
    What it raises is logged and harms nothing; only an interrupt goes on to the job.
    """

    def __call__(self, event: Event, /) -> object:
        """Take note of *event*; what it returns means nothing."""
        ...


class StagedFile(Protocol):
    """
    An outside file, or directory, as it stands in the scope.

    Lives until the scope closes; all threads of the job may use it.
    It may have an attribute ``identity``, the device and inode of the source that was read; the
    manager then need not look at the source again.
    """

    @property
    def path(self) -> Path:
        """Where it stands in the scope; never the source's own path."""
        ...

    @property
    def source(self) -> Path:
        """What was staged, as an absolute path."""
        ...

    @property
    def method(self) -> StagedMethod:
        """How it came in: ``"hardlink"``, ``"reflink"`` or ``"copy"``."""
        ...

    @property
    def bytes_saved(self) -> int:
        """How many bytes did not have to be copied."""
        ...

    def verify(self) -> None:
        """
        Check that a read-only input was not written to through its alias.

        Looks at size, modification time and mode of the *held* link; an atomic save of the source
        under its own name is harmless.
        Copies and reflinks cannot harm the source, so they always pass.

        Raises:
            StagedSourceChangedError: If the content that the source shares was changed.

            StorageError: If nobody can tell.
        """
        ...


class TempArea(Protocol):
    """
    The region of a storage that one scope owns.

    Lives from the scope's opening to its close; nothing is made before the first path is asked
    for; all threads of the job may use it at once.
    It knows nothing of policies or time.

    Not promised: that a path stays valid once the area was removed or retained, or that somebody
    who holds a file open is stopped from writing to it.
    """

    @property
    def directory(self) -> Path:
        """
        The directory in which the area's files stand, made when first asked for.

        Private to the scope: mode 0700 where modes mean something (6.1).

        Raises:
            StorageError: If it cannot be made.

            ScopeClosedError: If the area was removed or retained.
        """
        ...

    def create_file(self, name: str) -> Path:
        """
        Make a new empty file of exactly that name and return its absolute path.

        The name is made exclusively: of two racing callers one gets the file, the other the
        error (1.2).
        Mode 0600 from its first moment, whatever the umask (6.1).

        Args:
            name: One path component, as :func:`tempscope.storages.check_name` wants it.

        Raises:
            InvalidNameError: If *name* cannot be a name; before anything is made (1.1).

            NameTakenError: If the name is in use; what has it stays as it is (1.2).

            StorageFull: If there is no room; nothing half-made stays (6.2).

            StorageError: If the system refuses otherwise.

            ScopeClosedError: If the area was removed or retained (4.3).
        """
        ...

    def create_dir(self, name: str) -> Path:
        """Make a new empty directory, mode 0700; otherwise as :meth:`create_file`."""
        ...

    def take_in(self, source: Path, name: str, *, writable: bool, progress: Progress | None) -> StagedFile:
        """
        Bring an outside file or directory into the area as *name*.

        The source's content, mode, times and link target stay as they are, whatever happens (5.5).
        With ``writable=True`` the result shares nothing that a write could reach (5.10).
        Nothing of a copy that failed or was cancelled stays (5.6).

        Args:
            source: An absolute path; a link is followed once, here.

            name: As in :meth:`create_file`.

            writable: Whether the job may write to it.

            progress: Called with bytes done and in all while copying (7.4).

        Raises:
            PathMissingError: If the source is not there.

            NameTakenError: If the name is in use.

            StorageFull: If there is no room.

            StorageError: If the source cannot be read, or is neither file nor directory.
        """
        ...

    def give_out(
        self,
        path: Path,
        destination: Path,
        *,
        overwrite: bool,
        durable: bool,
        mode: int | None,
        progress: Progress | None,
    ) -> Path:
        """
        Move a finished file, or directory, out of the area to its final place, atomically.

        Whoever looks at *destination* sees the old content or the new, whole (5.1).
        If it fails the file is still in the area, and nothing half-written is visible (5.3).
        A link at the destination is replaced, not followed (5.4).
        What came in by hard link is copied, so that the product is no alias of a source (5.9).

        Args:
            path: A path of this area.

            destination: An absolute path outside of it, whose parent exists.

            overwrite: Whether an existing file, link or empty directory may be replaced; without it
                the check is race-free (5.2).  A directory in use is never replaced (5.14).

            durable: Whether content and name are on the disk before the call returns.

            mode: The permissions of the result; None is what the destination had, else 0o666
                less the umask (5.7).

            progress: As in :meth:`take_in`.

        Returns:
            *destination*.

        Raises:
            ForeignPathError: If *path* is not in this area, or *destination* is (5.8).

            PathMissingError: If *path*, or the destination's parent, is not there.

            NameTakenError: If something is there and may not be replaced.

            StorageFull: If there is no room.

            StorageError: If the system refuses otherwise.
        """
        ...

    def delete(self, path: Path) -> Removal:
        """
        Remove *path* and, if it is a directory, all below it.

        Removing it again is not an error (4.2).
        What could not be removed is in the result; the rest is gone (4.5).
        Nothing outside this area is ever touched, whatever links say (4.7).

        Args:
            path: A path this area handed out, or one below it; the area's own directory is
                emptied and stays usable (4.6).

        Raises:
            ForeignPathError: If *path* is not in this area.

            ScopeClosedError: If the area was removed or retained.
        """
        ...

    def usage(self) -> Usage:
        """
        Count what the area occupies now: allocated bytes, each inode once (7.1).

        Costs a walk over the area.
        Not promised: an exact figure while others write.
        """
        ...

    def retain(self, record: ScopeRecord) -> ScopeRecord:
        """
        Close the area and keep its files, with *record*, until somebody decides otherwise.

        Either all of it is kept, or the error says that nothing moved (3.4).
        Doing it twice is not an error (4.4).

        Args:
            record: What to remember: closing time, outcome, verdict.

        Returns:
            The record with its new state and the directory where the files stand now.

        Raises:
            UnsupportedError: Without :attr:`Capability.RETAIN` (9.5).

            StorageError: If it cannot be kept; the files stay where they are.
        """
        ...

    def remove(self) -> Removal:
        """
        Close the area and remove all that is in it.

        Never raises for something that cannot be removed: that is in the result, and a later
        sweep finds it (4.5).
        Removing twice is not an error (4.2); afterwards whatever makes, moves or deletes something
        raises :class:`ScopeClosedError`, and usage is nothing (4.3).
        """
        ...


class TempStorage(Protocol):
    """
    Where bytes live.

    Lives as long as its process needs it, usually as a container's singleton; shared by all
    threads.
    It knows nothing of jobs, policies or time.

    Constructing one touches nothing: no directory is made and nothing is swept before the first
    file is asked for.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this storage can do beyond the required methods; constant over its life (9.1)."""
        ...

    def open_area(self, record: ScopeRecord) -> TempArea:
        """
        Return a new area for the scope that *record* describes.

        Nothing is made until its first file (3.1); areas never see each other's files, even of
        the same name (3.2).

        Args:
            record: Who opens it; kept so that a sweep knows what the owner wanted.

        Raises:
            ScopeClosedError: If the storage was closed.
        """
        ...

    def areas(self) -> Iterable[ScopeRecord]:
        """
        Tell all that is here: live, retained, handed over, orphaned and in trash.

        Not promised: a snapshot; what comes and goes meanwhile may be missing or told twice.
        """
        ...

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> Removal:
        """
        Delete, or keep on, an area that no living owner holds.

        Checks once more, at the moment of acting, that nobody holds it: what is held, or is no
        longer what *record* said, is left alone and counted as skipped (10.2).
        Any number of callers may do this at once; one of them does the work (10.3).

        Args:
            record: One of :meth:`areas`.

            verdict: Delete it, or retain it, until when and why.

        Raises:
            UnsupportedError: If the storage keeps nothing beyond its areas' lives.
        """
        ...

    def close(self) -> None:
        """
        Finish what is pending and let go of everything held.

        Open areas are removed (4.8).
        Closing twice is not an error; afterwards :meth:`open_area` raises
        :class:`ScopeClosedError` (4.9).
        """
        ...


class CleanupPolicy(Protocol):
    """
    Decides what stays, from records alone.

    Lives as long as you like; shared by all threads and scopes, so it keeps no state.
    It does no I/O and reads no clock: what it needs to know is in its arguments.
    The same arguments always give the same verdicts.
    """

    @property
    def may_keep(self) -> bool:
        """
        Whether this policy ever keeps anything.

        False is the fast path: the scope is removed without being asked about, and a per-file
        ``with`` that an exception leaves deletes its file at once.
        """
        ...

    def at_close(self, record: ScopeRecord) -> Verdict:
        """
        Decide about one scope that is closing, from its own record alone.

        Constant time: it is called on the way out of every job.
        ``record.outcome`` and ``record.closed`` are set.

        Raising counts as "keep": the scope is retained if the storage can, and the error is
        reported (what cannot be decided is kept).
        """
        ...

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> Sequence[Verdict]:
        """
        Decide about what is kept, all together: one verdict a record, in the same order.

        Called by a sweep, with this application's retained scopes only.
        The order of *kept* carries no meaning.

        Args:
            kept: Retained scopes.

            now: The present; do not ask a clock.
        """
        ...


class Sweeping(Protocol):
    """
    One look over a storage, to take back what no living owner holds; see :class:`Sweepable`.

    Lives for one ``with`` block; used by one thread.
    """

    @property
    def live(self) -> int:
        """How many living owners were met so far."""
        ...

    @property
    def left(self) -> tuple[Entry, ...]:
        """What was met so far and is not to be touched, each with the reason."""
        ...

    def records(self) -> Iterable[ScopeRecord]:
        """
        Tell what no living owner holds: orphaned, retained, handed over, given up, and in trash.

        What is told may be held, safe from others, until the next one is asked for.
        What must go last, because something told before it may still stand in it, is trash.
        """
        ...

    def reclaim(
        self, record: ScopeRecord, verdict: Verdict, *, dry_run: bool = False, pace: Pace | None = None
    ) -> Removal:
        """
        Do what :meth:`TempStorage.reclaim` does; with *dry_run* touch nothing and say what that would be.

        If the result has entries of the kind ``"removed"``, each is one thing that a sweep counts.

        Args:
            record, verdict: As there.

            dry_run: Whether only to tell.

            pace: Called between the parts of a long removal; where it says to stop, the rest stays and
                counts as skipped.
        """
        ...


@runtime_checkable
class Sweepable(Protocol):
    """
    Makes sweeping cheap (beside :attr:`Capability.CRASH_SWEEP`).

    Without it a sweep goes by :meth:`TempStorage.areas` and :meth:`TempStorage.reclaim`, which tells
    the scopes of the living too, and cannot tell beforehand what would be refused.
    """

    def sweeping(self) -> AbstractContextManager[Sweeping]:
        """Return what to look with; entering it raises if the storage's place is broken."""
        ...


@runtime_checkable
class Reserving(Protocol):
    """
    Asks before it writes, so that our own calls do not exceed a quota.

    An area without it is only measured from time to time, by :meth:`TempArea.usage`.
    """

    def reserve_by(self, reserve: Callable[[int], AbstractContextManager[None]]) -> None:
        """
        Enter ``reserve(more)`` round whatever writes *more* bytes, from now on.

        What entering it raises comes out of the call that wanted to write, and nothing is written.
        """
        ...


@runtime_checkable
class Surveyable(Protocol):
    """
    Makes statistics complete.

    Without it :func:`tempscope.stats` goes by :meth:`TempStorage.areas`, and a scope whose record has
    no usage counts as empty.
    """

    def survey(self) -> Iterable[ScopeRecord]:
        """
        Tell every scope as :meth:`TempStorage.areas` does, each with its usage and who holds it.

        A dead owner is told by its scopes alone.
        A retained or waiting scope has the usage that was measured when it came to be so; the others
        are measured now.
        """
        ...


@runtime_checkable
class Spilling(Protocol):
    """Moves what a storage holds in memory to disk, when memory runs short."""

    def spill(self) -> int:
        """Move what is large; return how many bytes left memory."""
        ...


@runtime_checkable
class GivingUp(Protocol):
    """
    Lets one path out of everybody's hands for good (:attr:`Capability.GIVE_UP`).

    An area that has it serves :meth:`TempFileManager.keep`.
    """

    def give_up(self, path: Path) -> Path:
        """
        Move *path* to where no policy and no sweep will touch it, and return the new path.

        Raises:
            ForeignPathError: If *path* is not in this area.

            PathMissingError: If it is not there.
        """
        ...


@runtime_checkable
class OutsidePathJournal(Protocol):
    """
    Remembers registered outside paths beyond the process (:attr:`Capability.OUTSIDE_PATHS`).

    An area that has it writes each change down before the call returns.
    """

    def note_outside(self, path: Path, identity: str) -> None:
        """Remember *path*, whose identity (device, inode, birth time) is given, for the sweep."""
        ...

    def forget_outside(self, path: Path) -> None:
        """
        Take *path* back: it was deleted, unregistered or kept.

        Raises:
            StorageError: If that cannot be written down; a sweep then still knows the path.
        """
        ...


@runtime_checkable
class TrackedPaths(Protocol):
    """
    Remembers outside paths that are deleted by their age (beside :attr:`Capability.OUTSIDE_PATHS`).

    A storage that has it serves :class:`tempscope.compat.file_cleanup.FileCleanupManager`.
    It only remembers: no sweep deletes a tracked path, and each tells of those whose process is gone.
    """

    def track(self, path: Path, identity: str, by: str) -> None:
        """
        Remember that *by* tracks *path*; doing it again replaces the identity.

        Args:
            path: An absolute path.

            identity: What it is now (device, inode, birth time); empty if it is not there yet.

            by: Who tracks it, in words that mean something to another process.

        Raises:
            StorageError: If it cannot be written down.
        """
        ...

    def untrack(self, path: Path, by: str) -> None:
        """Forget that *by* tracks *path*, in this process; an unknown path is not an error."""
        ...

    def tracked(self, *, everywhere: bool = False) -> Iterable[TrackedPath]:
        """
        Tell what is tracked by this process; with *everywhere* also by all others, living and gone.

        Of the living others the registered outside paths are told too: they are in use.

        Raises:
            StorageError: If it is not to be known what a living process holds.
        """
        ...


@runtime_checkable
class HandingOver(Protocol):
    """
    Lets a scope wait for another process (:attr:`Capability.HAND_OVER`).

    An area that has it serves :meth:`TempFileManager.detach`.
    """

    def hand_over(self, record: ScopeRecord, outside: Mapping[str, str], staged: Sequence[StagedFile]) -> str:
        """
        Close the area and let its files wait, whole, under a token.

        Args:
            record: What to remember; its closing time and verdict say how long it may wait.

            outside: Registered outside paths, each with its identity or an empty text.

            staged: What this area staged and is still to be verified when the scope closes.

        Returns:
            The token that :meth:`TakingOver.take_over` wants, in whatever process.

        Raises:
            StorageError: If it cannot be done; the area is still open then.
        """
        ...


@runtime_checkable
class TakingOver(Protocol):
    """
    Gives a waiting scope to whoever has its token (:attr:`Capability.HAND_OVER`).

    A storage that has it serves :meth:`TempScopes.attach`.
    """

    def take_over(self, token: str) -> tuple[ScopeRecord, TempArea, Mapping[str, str], Sequence[StagedFile]]:
        """
        Return the scope that waits under *token*: its record, area, outside paths and staged inputs.

        Of any number of callers one gets it; the record is live again, and this storage's.

        Raises:
            HandOverError: If the token is malformed, unknown, used before, or expired.

            StorageError: If the system refuses; the scope still waits then.
        """
        ...


@runtime_checkable
class CommandLease(Protocol):
    """
    Lets a child command hold the scope it works in (:attr:`Capability.COMMAND_LEASE`).

    An area that has it serves :meth:`TempFileManager.popen_kwargs`.
    """

    def lease_fd(self) -> int:
        """
        Return a descriptor that holds the area for whoever has a copy of it.

        The same one at every call; closed with the area.
        """
        ...


@runtime_checkable
class UnnamedFiles(Protocol):
    """
    Makes files that never had a name (:attr:`Capability.UNNAMED_FILES`).

    An area that has it serves :meth:`TempFileManager.unnamed_file`.
    """

    def unnamed_file(self, mode: str) -> IO[Any]:
        """
        Return a new open file without a name; it goes with its last descriptor.

        Args:
            mode: ``"w+b"`` or ``"wb"``, buffered as :func:`open` does it.

        Raises:
            StorageError: If there is no room, or the system refuses.

            ScopeClosedError: If the area was removed or retained.
        """
        ...
