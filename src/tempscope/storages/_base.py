"""
Where temporary files may go: finding the base directory and judging whether it is safe.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from tempscope._names import escape
from tempscope.errors import BaseDirectoryError


__all__ = ["absolute", "check_base", "find_base", "real_path"]

_SYSTEM = ("/tmp", "/var/tmp", "/usr/tmp")
_ON_POSIX = os.name == "posix"
_SETTING = "TEMPSCOPE_BASE_DIR"


def absolute(path: str | os.PathLike[str], what: str) -> str:
    """Return *path* as absolute text, now: a later ``chdir`` changes nothing."""
    text = os.fspath(path)
    if not isinstance(text, str):
        text = os.fsdecode(text)
    if not text or "\0" in text:
        raise BaseDirectoryError(f"the {what} {escape(text)!r} cannot be a path", path=text)
    try:
        return os.path.abspath(text)
    except OSError as error:
        raise BaseDirectoryError(
            f"the {what} {escape(text)!r} is relative and the current directory is gone: make it absolute",
            path=text,
            cause=error,
        ) from error


def real_path(fd: int | None, path: str) -> str:
    """
    Return where the directory that is open as *fd*, and was opened as *path*, is now, without links.

    With None where *path* leads; what is missing is taken as it is spelled.

    Raises:
        OSError: If nobody can tell.
    """
    if fd is not None:
        try:
            # Whatever the name means by now, and for one call; resolving it takes one for each part.
            return os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            # No /proc.
            pass
    try:
        return os.path.realpath(path, strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return os.path.realpath(path)


def find_base(environ: Mapping[str, str] | None = None) -> tuple[str, bool]:
    """
    Return the base directory that the environment names, and whether it names one of ours.

    ``TEMPSCOPE_BASE_DIR`` first, then ``TMPDIR``, ``TEMP`` and ``TMP``, then the system's.
    Unlike :mod:`tempfile` this never falls back silently: a variable that is set decides, and the
    current directory is never used.

    Raises:
        BaseDirectoryError: If the variable that decides is relative or no directory.
    """
    environ = os.environ if environ is None else environ
    for variable in (_SETTING, "TMPDIR", "TEMP", "TMP"):
        value = environ.get(variable)
        if not value:
            continue
        if not os.path.isabs(value):
            raise BaseDirectoryError(
                f"{variable} is {escape(value)!r}, a relative path: set it, or base_dir, to an absolute one",
                path=value,
            )
        if variable != _SETTING and not os.path.isdir(value):
            raise BaseDirectoryError(
                f"{variable} is {escape(value)!r}, no directory: set it, {_SETTING} or base_dir to one",
                path=value,
            )
        return value, variable == _SETTING
    system = _SYSTEM if _ON_POSIX else (environ.get("SYSTEMROOT", "C:\\") + "\\Temp",)
    for path in system:
        if os.path.isdir(path):
            return path, False
    raise BaseDirectoryError(
        f"there is no temporary directory ({', '.join(system)}): set {_SETTING} or base_dir to a directory"
    )


def check_base(path: str, status: os.stat_result, *, explicit: bool) -> None:
    """
    Refuse a base directory in which others could take away what we make.

    Raises:
        BaseDirectoryError: If *path* is writable by others, has no sticky bit, and was not named
            explicitly.
    """
    mode = status.st_mode
    if explicit or mode & stat.S_ISVTX or not mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    raise BaseDirectoryError(
        f"the temporary directory {escape(path)!r} is writable by others without the sticky bit "
        f"(mode {stat.S_IMODE(mode):04o}), so anybody could replace what is in it: "
        f"chmod +t it, or name it explicitly by {_SETTING} or base_dir if that is meant",
        path=path,
    )
