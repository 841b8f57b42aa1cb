"""
Turning a system's error into ours: which family, and what would be right.
"""

from __future__ import annotations

import errno
import os
import re

from tempscope._names import escape
from tempscope.errors import NameTakenError, PathMissingError, StorageError, StorageFull


__all__ = ["mount_of", "storage_error"]

_NO_ROOM = {
    errno.ENOSPC: "the file system is full",
    errno.EDQUOT: "the user's disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EMFILE: "this process has no file descriptor left (ulimit -n)",
    errno.ENFILE: "the system has no file descriptor left",
    errno.EMLINK: "the file has as many links as its file system allows",
    errno.ENOMEM: "there is no memory left",
}
_OCTAL = re.compile(r"\\([0-7]{3})")
_KINDS: dict[int, type[StorageError]] = {errno.EEXIST: NameTakenError, errno.ENOENT: PathMissingError}


def storage_error(
    error: OSError,
    what: str,
    *,
    path: str,
    scope: str | None = None,
    otherwise: type[StorageError] = StorageError,
    hint: str = "",
    wanted_bytes: int | None = None,
) -> StorageError:
    """
    Return our error for the system's *error*.

    Args:
        error: What the system said; it becomes the cause.

        what: What could not be done, without a full stop.

        path: What it was about.

        scope: In which scope.

        otherwise: The class where the number says nothing more exact.

        hint: What would be right.

        wanted_bytes: How many bytes were asked for.
    """
    code = error.errno or errno.EIO
    if code in _NO_ROOM:
        free_bytes, free_inodes = _free(path)
        mount, mount_kind = mount_of(path)
        place = _room(mount, mount_kind, free_bytes, free_inodes) if code == errno.ENOSPC else ""
        full = StorageFull(
            f"{what}: {_NO_ROOM[code]}{place}", errno=code, path=path, scope=scope, cause=error
        )
        full.wanted_bytes, full.free_bytes, full.free_inodes = wanted_bytes, free_bytes, free_inodes
        full.mount, full.mount_kind = mount or None, mount_kind or None
        return full
    kind = _KINDS.get(code, otherwise) if otherwise is StorageError else otherwise
    tail = f": {hint}" if hint else ""
    return kind(f"{what}: {os.strerror(code)}{tail}", errno=code, path=path, scope=scope, cause=error)


def _room(mount: str, kind: str, free_bytes: int | None, free_inodes: int | None) -> str:
    if free_bytes is None:
        return ""
    place = f" ({kind or 'file system'} on {escape(mount)!r})"
    memory = "; a tmpfs takes its room from memory" if kind == "tmpfs" else ""
    if free_inodes == 0 and free_bytes > 0:
        return f"{place}: no inodes left, though {free_bytes} bytes are free{memory}"
    return f"{place}: {free_bytes} bytes free{memory}"


def _free(path: str) -> tuple[int | None, int | None]:
    while True:
        try:
            status = os.statvfs(path)
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if parent == path:
                return None, None
            path = parent
        except (OSError, AttributeError):
            return None, None
        else:
            # f_files is 0 on btrfs, which makes inodes as it needs them.
            return status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None


def mount_of(path: str) -> tuple[str, str]:
    """Return the mount point that *path* is on, and the kind of its file system; empty if unknown."""
    best, path = ("", ""), os.path.realpath(path)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, mount, kind, *_ = line.split(" ")
                mount = _OCTAL.sub(lambda escaped: chr(int(escaped[1], 8)), mount)
                if len(mount) >= len(best[0]) and (path == mount or path.startswith(mount.rstrip("/") + "/")):
                    best = (mount, kind)
    except (OSError, ValueError):
        pass
    return best
