"""
Who holds a lease, where the system tells: for people, never for deciding.

A lease that a forked child or a daemon inherited is held although its owner is gone; only this
shows by whom.
Not by ``/proc/locks``: reading that stops all file locking of the machine for some milliseconds.
"""

from __future__ import annotations

import os

from tempscope._clock import boot_id
from tempscope.storages._owner import pid_namespace, read_owner, start_time


__all__ = ["heirs", "holders", "keepers"]

_MAX_BYTES = 64 * 1024
_SHARED = "FLOCK  ADVISORY  READ"


def holders(instance_fd: int) -> str | None:
    """Return in words who holds the living instance *instance_fd*; None where nobody knows."""
    pid, alive = _owner_of(instance_fd)
    if alive:
        return _name(pid)
    return heirs(instance_fd)


def heirs(instance_fd: int) -> str | None:
    """
    Return in words who holds an instance whose owner is gone; None if it lives, or nobody knows.

    Looks into the descriptors of all processes if it is gone.
    """
    pid, alive = _owner_of(instance_fd)
    if not pid or alive:
        return None
    found = keepers(instance_fd)
    # Another sweep, which is at it this moment, holds it in another way and is not found.
    return f"{found}, who inherited it from process {pid}, which is gone" if found else None


def keepers(fd: int) -> str:
    """Return in words whose descriptors hold *fd* as an owner's do; looks into all processes."""
    return ", ".join(map(_name, _pids_holding(os.fstat(fd))))


def _owner_of(instance_fd: int) -> tuple[int, bool]:
    """Return the owner's number, 0 if it means nothing here, and whether it is alive."""
    owner = read_owner(instance_fd)
    if owner is None or owner.boot_id != boot_id() or owner.pid_namespace != pid_namespace():
        # A number from another machine, start of it, or namespace is never judged.
        return 0, False
    return owner.pid, start_time(owner.pid) == owner.started


def _name(pid: int) -> str:
    command = _read(f"/proc/{pid}/comm").strip()
    return f"process {pid} ({command})" if command else f"process {pid}"


def _pids_holding(status: os.stat_result) -> list[int]:
    """Return whose descriptors carry the owner's shared lock, of the processes that we may look into."""
    # Of "lock:	1: FLOCK  ADVISORY  READ 1234 fe:00:393219 0 EOF" (proc_pid_fdinfo(5)).
    device = status.st_dev
    lock = f" {os.major(device):02x}:{os.minor(device):02x}:{status.st_ino} "
    return sorted(int(pid) for pid in _list("/proc") if pid.isdigit() and _holds(pid, lock))


def _holds(pid: str, lock: str) -> bool:
    directory = f"/proc/{pid}/fdinfo"
    infos = (_read(f"{directory}/{fd}") for fd in _list(directory))
    return any(_SHARED in info and lock in info for info in infos)


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except OSError:
        return ""
