"""
Who made an instance: for people, and for file systems whose locks cannot be trusted.

Never the authority on whether the owner lives: a process number means something in one namespace
only, and is used again.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache

from tempscope._clock import SystemClock, boot_id
from tempscope.model import Owner
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._openat2 import make_private
from tempscope.storages._records import MAX_RECORD_BYTES, parse_object


__all__ = [
    "OWNER",
    "UNLOCKED",
    "host_id",
    "owner_of_this_process",
    "pid_namespace",
    "read_owner",
    "start_time",
    "was_unlocked",
    "write_owner",
    "write_unlocked",
]

OWNER = "owner"
"""The file in an instance that says who made it."""

UNLOCKED = "unlocked"
"""The file in an instance whose owner could not lock it: its lock proves nothing, ever."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_MAX_NUMBER = 2**63


def owner_of_this_process() -> Owner:
    """Return who this process is."""
    return Owner(
        pid=os.getpid(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        host=host_id(),
        started=start_time(os.getpid()),
    )


@cache
def host_id() -> str:
    """Return what names this machine (``machine-id(5)``), or an empty text where nobody knows."""
    return _read("/etc/machine-id")


def write_unlocked(dir_fd: int) -> None:
    """Say in the instance *dir_fd* that it has no lock, so that no sweep takes it for a dead one."""
    Descriptor.open(UNLOCKED, _WRITE, 0o600, dir_fd=dir_fd).close()


def was_unlocked(dir_fd: int) -> bool:
    """Return whether the directory *dir_fd* is an instance that its owner could not lock."""
    try:
        os.stat(UNLOCKED, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def write_owner(dir_fd: int, owner: Owner) -> bool:
    """Write *owner* into the instance *dir_fd*; return whether the umask takes owner's permissions."""
    now = SystemClock().now()
    text = json.dumps({"schema": 1, "uid": _uid(), **owner.to_dict(), "created": [now.wall, now.boot]})
    with Descriptor.open(OWNER, _WRITE, 0o600, dir_fd=dir_fd) as file:
        stripped = make_private(file.fd)
        os.write(file.fd, text.encode("ascii"))
    return stripped


def read_owner(dir_fd: int) -> Owner | None:
    """Return who made the instance *dir_fd*, or None if its file does not say; never raises, never blocks."""
    try:
        with Descriptor.open(OWNER, _READ, dir_fd=dir_fd) as file:
            value = parse_object(os.read(file.fd, MAX_RECORD_BYTES + 1))
    except OSError:
        return None
    if value is None or value.get("schema") != 1:
        return None
    texts = [value.get(key) for key in ("boot_id", "pid_namespace", "host")]
    numbers = [value.get(key) for key in ("pid", "started")]
    if not all(isinstance(text, str) and len(text) < 1024 for text in texts):
        return None
    if not all(type(number) is int and 0 <= number < _MAX_NUMBER for number in numbers):
        return None
    known = {key: value[key] for key in ("boot_id", "pid_namespace", "host", "pid", "started")}
    return Owner(**known)


def pid_namespace() -> str:
    """Return what names the namespace in which this process's number means something."""
    return _read_link("/proc/self/ns/pid")


def start_time(pid: int) -> int:
    """Return when the process *pid* started, in ticks since the machine did; 0 if there is none."""
    # Field 22 of proc_pid_stat(5), counted after the command name, which may hold spaces.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def _read(path: str) -> str:
    try:
        with Descriptor.open(path, os.O_RDONLY) as file:
            # Not from where the descriptor stands: a child that was forked since shares that, and reads on.
            return os.pread(file.fd, 1024, 0).decode(errors="replace").strip()
    except OSError:
        return ""


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _uid() -> int:
    return os.geteuid() if sys.platform != "win32" else -1
