"""
Whether memory or a disk is running short, as the system tells.

Inside a control group the group's limit counts, then what the kernel says about stalls, then the
machine.
Only Linux tells; elsewhere memory is never said to be short.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tempscope import _log
from tempscope.errors import ConfigurationError
from tempscope.model import Capability
from tempscope.protocols import Spilling, TempStorage
from tempscope.storages import absolute
from tempscope.storages._failure import mount_of


__all__ = ["is_disk_pressure", "is_memory_pressure", "relieve_memory"]

_PROC = Path("/proc")
_STALLED = 10.0
"""Percent of the last ten seconds in which something waited for memory; systemd warns from there on too."""


def is_memory_pressure(*, at: float = 0.9) -> bool:
    """
    Return whether memory is running short: time to move to disk what can move.

    True if the memory limit of this process's control group, or of one above, is used up to *at*;
    or if processes were stalled for want of memory for a tenth of the last ten seconds; or if the
    machine has used that much.
    The cache of files counts as free, as the kernel takes it back; what is in a tmpfs does not.

    Args:
        at: From which share of the memory on, more than 0 and at most 1.

    Raises:
        ConfigurationError: If *at* is none.

    Not promised: anything outside Linux, where it is always False.
    """
    _check_share(at)
    directories = list(_groups(_PROC))
    if any(used >= at * limit for used, limit in map(_used_of_limit, directories) if limit):
        return True
    stalls = [directory / "memory.pressure" for directory in directories[:1]] + [
        _PROC / "pressure" / "memory"
    ]
    if any(_stalled(path) >= _STALLED for path in stalls):
        return True
    machine = _table(_PROC / "meminfo")
    total, available = machine.get("MemTotal:", 0), machine.get("MemAvailable:", 0)
    return total > 0 and total - available >= at * total


def is_disk_pressure(path: str | os.PathLike[str], *, at: float = 0.9) -> bool:
    """
    Return whether the file system that *path* is on is running short of blocks or inodes.

    On a tmpfs, whose room is memory, also whether memory is.

    Args:
        path: Anything on it; what does not exist is looked for in its parent.

        at: From which share in use on, more than 0 and at most 1.

    Raises:
        ConfigurationError: If *at* is none.

        BaseDirectoryError: If *path* cannot be a path.

    Not promised: to see a quota of the file system's own.
    """
    _check_share(at)
    text = absolute(path, "path")
    while not os.path.lexists(text) and text != os.path.dirname(text):
        text = os.path.dirname(text)
    try:
        status = os.statvfs(text)
    except (OSError, AttributeError):
        return False
    # What is reserved for root is nobody's; f_files is 0 on btrfs, which makes inodes as it needs them.
    blocks = status.f_blocks - status.f_bfree + status.f_bavail
    inodes = status.f_files - status.f_ffree + status.f_favail
    return (
        _is_short(status.f_bavail, blocks, at)
        or _is_short(status.f_favail, inodes, at)
        or (mount_of(text)[1] == "tmpfs" and is_memory_pressure(at=at))
    )


def relieve_memory(storages: Iterable[TempStorage]) -> int:
    """
    Move what is in memory to disk, as far as *storages* can, if memory is running short.

    For whoever looks after a process from time to time; what fails is logged.

    Returns:
        How many bytes left memory.
    """
    if not is_memory_pressure():
        return 0
    moved = 0
    for storage in storages:
        try:
            # A storage with nowhere to spill to says so by its capabilities.
            if isinstance(storage, Spilling) and Capability.REAL_PATHS in storage.capabilities:
                moved += storage.spill()
        except Exception as error:
            _log.warn("memory could not be given back", storage=repr(storage), error=type(error).__name__)
    return moved


def _is_short(free: int, total: int, at: float) -> bool:
    return total > 0 and total - free >= at * total


def _check_share(at: object) -> None:
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 < at <= 1:
        raise ConfigurationError(f"at cannot be {at!r}: it must be a share, more than 0 and at most 1")


def _groups(proc: Path) -> Iterator[Path]:
    """Yield the directories of our control groups that limit memory, each followed by those above it."""
    mounts = list(_mounts(proc))
    for line in _lines(proc / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        unified = number == "0" and not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        for root, mount, kind, options in mounts:
            if kind == "cgroup2" if unified else kind == "cgroup" and "memory" in options.split(","):
                yield from _upwards(Path(mount), path, root)
                break


def _upwards(mount: Path, path: str, root: str) -> Iterator[Path]:
    # In a container the mount may show our own group as its top, whatever our path says.
    inside = path.removeprefix(root.rstrip("/")).strip("/")
    if ".." in inside.split("/") or not (mount / inside).is_dir():
        inside = ""
    directory = mount / inside
    yield directory
    while directory != mount:
        directory = directory.parent
        yield directory


def _mounts(proc: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield root, mount point, kind and options of each mount (proc_pid_mountinfo(5))."""
    for line in _lines(proc / "self" / "mountinfo"):
        mount, _, system = line.partition(" - ")
        fields, kinds = mount.split(" "), system.split(" ")
        if len(fields) > 4 and len(kinds) > 2:
            yield fields[3], fields[4], kinds[0], kinds[2]


def _used_of_limit(directory: Path) -> tuple[int, int]:
    """Return how many bytes a control group uses, less what can be taken back, and may; 0 for no limit."""
    limits = [
        limit
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (limit := _number(directory / name))
    ]
    statistics = _table(directory / "memory.stat")
    used = _number(directory / "memory.current") or _number(directory / "memory.usage_in_bytes")
    cache = sum(
        # In version 1 the plain names are without the groups below.
        statistics.get(f"total_{name}", statistics.get(name, 0))
        for name in ("inactive_file", "active_file")
    )
    return max(0, used - cache), min(limits, default=0)


def _stalled(path: Path) -> float:
    """Return how many percent of the last ten seconds something was stalled (PSI, "some avg10")."""
    for line in _lines(path):
        if line.startswith("some "):
            for word in line.split():
                if word.startswith("avg10="):
                    return _float(word.removeprefix("avg10="))
    return 0.0


def _table(path: Path) -> dict[str, int]:
    """Return a file of names and numbers; numbers in kB in bytes."""
    found = {}
    for line in _lines(path):
        name, *rest = line.split()
        if rest and rest[0].isdigit():
            found[name] = int(rest[0]) * (1024 if rest[-1] == "kB" else 1)
    return found


def _number(path: Path) -> int:
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else 0


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []
