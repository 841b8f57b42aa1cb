"""
Every error that tempscope raises.

::

    TempscopeError
    ├── InvalidNameError (ValueError)              a prefix, suffix or name that cannot be one
    ├── ConfigurationError (ValueError)            a setting, or a container, that cannot work
    ├── UnsupportedError (NotImplementedError)     this storage cannot ever do that
    ├── ForeignPathError (ValueError)              a path that does not belong to this scope
    ├── ScopeError (RuntimeError)
    │   ├── NoOpenScopeError (LookupError)         no scope was entered here
    │   ├── ScopeClosedError                       the scope was closed
    │   ├── ScopeEnteredError                      the scope was entered before
    │   ├── ScopeBusyError                         something in it is still open
    │   ├── ForkedScopeError                       the scope belongs to the parent process
    │   ├── HandOverError                          a token that opens nothing
    │   └── PickledScopeError (TypeError)          scopes do not travel by pickle
    ├── StorageError (OSError)                     an operation on a storage failed
    │   ├── BaseDirectoryError                     the place for temporary files is unusable
    │   ├── NameTakenError (FileExistsError)       that name is in use
    │   ├── PathMissingError (FileNotFoundError)   that path is not there
    │   ├── StorageFull                            no room: disk, inodes, descriptors or links
    │   ├── QuotaExceededError                     no room: a limit of ours
    │   ├── LeaseLostError                         the scope's directory was taken away
    │   └── LeftoverError                          something could not be removed
    ├── StagedSourceChangedError                   a read-only input was written to
    └── CleanupFailed (ExceptionGroup)             several errors while closing

An error carries the *path*, the *scope* and the *cause* that it is about, survives pickling,
and is also the built-in exception it resembles: ``except FileExistsError`` keeps working.
"""

from __future__ import annotations

import errno as _errno
from collections.abc import Sequence
from typing import Any, ClassVar, Self


__all__ = [
    "BaseDirectoryError",
    "CleanupFailed",
    "ConfigurationError",
    "ForeignPathError",
    "ForkedScopeError",
    "HandOverError",
    "InvalidNameError",
    "LeaseLostError",
    "LeftoverError",
    "NameTakenError",
    "NoOpenScopeError",
    "PathMissingError",
    "PickledScopeError",
    "QuotaExceededError",
    "ScopeBusyError",
    "ScopeClosedError",
    "ScopeEnteredError",
    "ScopeError",
    "StagedSourceChangedError",
    "StorageError",
    "StorageFull",
    "TempscopeError",
    "UnsupportedError",
]


class TempscopeError(Exception):
    """
    Base of every error that tempscope raises on purpose.

    Args:
        message: What was wrong, which value, and what would be right.

        path: The path it is about, if any.

        scope: The name or token of the scope it is about, if any.

        cause: The exception underneath, if any; also set as ``__cause__``.
    """

    def __init__(
        self,
        message: str,
        *,
        path: object = None,
        scope: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self._message = message
        self.path = path
        self.scope = scope
        self.cause = cause
        if cause is not None:
            self.__cause__ = cause

    def __str__(self) -> str:
        return self._message

    def __reduce__(self) -> tuple[Any, ...]:
        state = {k: v for k, v in self.__dict__.items() if k != "__notes__"}
        notes = getattr(self, "__notes__", None)
        return _rebuild, (type(self), self._rebuild_args(), state, notes)

    def _rebuild_args(self) -> tuple[Any, ...]:
        return (self._message,)


def _rebuild(
    cls: type[TempscopeError], args: tuple[Any, ...], state: dict[str, Any], notes: Sequence[str] | None
) -> TempscopeError:
    error = cls(*args)
    for key, value in state.items():
        setattr(error, key, value)
    error.__cause__ = state.get("cause")
    for note in notes or ():
        error.add_note(note)
    return error


class InvalidNameError(TempscopeError, ValueError):
    """A prefix, suffix, name or label that cannot be one; nothing was created."""


class ConfigurationError(TempscopeError, ValueError):
    """A setting or a container that cannot work: the message names key, value and what is allowed."""


class UnsupportedError(TempscopeError, NotImplementedError):
    """
    The storage does not have the capability that the call needs, and never will as configured.

    It resembles what ``pathlib`` raises for what a file system cannot do (``UnsupportedOperation``),
    which says *cannot*, and not *not written yet*.
    """


class ForeignPathError(TempscopeError, ValueError):
    """The path does not belong to this scope, so it was not touched."""


class ScopeError(TempscopeError, RuntimeError):
    """A scope was used in a way its state does not allow."""


class NoOpenScopeError(ScopeError, LookupError):
    """No scope was entered in this context."""


class ScopeClosedError(ScopeError):
    """The scope is closed."""


class ScopeEnteredError(ScopeError):
    """The scope was entered before; a scope is entered once."""


class ScopeBusyError(ScopeError):
    """Children, open per-file ``with`` blocks or callbacks stand in the way."""


class ForkedScopeError(ScopeError):
    """The scope was inherited through a fork; it belongs to the parent process."""


class HandOverError(ScopeError):
    """The token is unknown, forged, expired or was used before."""


class PickledScopeError(ScopeError, TypeError):
    """A scope cannot be pickled or copied; ``detach()`` hands it over."""


class StorageError(TempscopeError, OSError):
    """
    An operation on a storage failed.

    ``errno`` is the system's, or the class's own where there was no system call.
    """

    default_errno: ClassVar[int] = _errno.EIO

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        path: object = None,
        scope: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        if errno is None:
            errno = getattr(cause, "errno", None) or self.default_errno
        # OSError fills errno, strerror and filename from these three; a path in
        # memory must not be asked for its text here, which would move it to disk.
        OSError.__init__(self, errno, message)
        self.filename = path
        self._message = message
        self.path = path
        self.scope = scope
        self.cause = cause
        if cause is not None:
            self.__cause__ = cause

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (cls, args, state, notes) = super().__reduce__()
        return rebuild, (cls, args, {**state, "errno": self.errno, "filename": self.filename}, notes)


class BaseDirectoryError(StorageError):
    """The base directory, or our root in it, cannot be used safely; nothing was created."""

    default_errno = _errno.EACCES


class NameTakenError(StorageError, FileExistsError):
    """The name is taken; what has it was not touched."""

    default_errno = _errno.EEXIST


class PathMissingError(StorageError, FileNotFoundError):
    """The path is not there."""

    default_errno = _errno.ENOENT


class StorageFull(StorageError):
    """
    There is no room: blocks, inodes, descriptors or links.

    Attributes:
        wanted_bytes: How many bytes were asked for, or None where nobody knows.

        free_bytes: How many bytes an unprivileged user could still write there, or None.

        free_inodes: How many files could still be made there, or None where there is no limit.

        mount: The mount point of the file system that is full, or None where nobody knows.

        mount_kind: Its kind, such as ``"ext4"``, or ``"tmpfs"``, whose room is memory; or None.
    """

    default_errno = _errno.ENOSPC
    mount: str | None = None
    mount_kind: str | None = None
    wanted_bytes: int | None = None
    free_bytes: int | None = None
    free_inodes: int | None = None


class QuotaExceededError(StorageError):
    """
    A limit that was set through tempscope is exceeded, or would be; the file system itself has room.

    Attributes:
        limit: How many bytes may be used.

        used: How many are, by all that the limit bounds together.

        wanted_bytes: How many more would have been written, or None where nothing was about to be.

        mount: The mount point of the file system that they are on, or None where nobody knows.

        mount_kind: Its kind, such as ``"ext4"`` or ``"tmpfs"``; ``"memory"`` in a memory storage.
    """

    default_errno = _errno.EDQUOT
    limit: int | None = None
    used: int | None = None
    wanted_bytes: int | None = None
    mount: str | None = None
    mount_kind: str | None = None


class LeaseLostError(StorageError):
    """The directory that this process holds was removed or replaced by somebody else."""

    default_errno = _errno.ESTALE


class LeftoverError(StorageError):
    """
    Something of the scope could not be removed (strict mode only; otherwise a warning).

    Attributes:
        report: The scope's :class:`~tempscope.CleanupReport`.
    """

    report: object = None


class StagedSourceChangedError(TempscopeError):
    """
    A source that was staged read-only is not what it was.

    Attributes:
        changed: What differs, in words: ``"size"``, ``"modification time"``, ``"mode"``,
            ``"content"``.
    """

    changed: tuple[str, ...] = ()


class CleanupFailed(TempscopeError, ExceptionGroup[Exception]):
    """
    Several errors while a scope closed; each one is in ``exceptions``.

    Catch it as itself, as :class:`TempscopeError`, or piecewise with ``except*``.
    """

    def __new__(cls, message: str, exceptions: Sequence[Exception], **_context: Any) -> Self:
        """Make the group; what it is about is taken by ``__init__``."""
        return super().__new__(cls, message, exceptions)

    def __init__(self, message: str, exceptions: Sequence[Exception], **context: Any) -> None:
        super().__init__(message, **context)

    # The override is narrower than BaseExceptionGroup.derive: a group of ours holds no BaseException.
    def derive(self, excs: Sequence[Exception], /) -> CleanupFailed:  # type: ignore[override]  # narrower
        """Return a group of the same kind over *excs*; :meth:`split` and ``except*`` call it."""
        return CleanupFailed(self._message, excs, path=self.path, scope=self.scope, cause=self.cause)

    def _rebuild_args(self) -> tuple[Any, ...]:
        return (self._message, list(self.exceptions))
