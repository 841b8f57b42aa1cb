"""
Whether a lock proves anything on the file system at hand.

On local file systems a directory that can be locked exclusively has no living owner.
On network and unknown ones, locks may stop at the machine's border, or be granted twice: there a
sweep only reports, unless the caller vouches for the locks, and then it touches only what this
very machine made.
"""

from __future__ import annotations

import attrs

from tempscope.storages import _lock
from tempscope.storages._openat2 import mount_id, open_directory
from tempscope.storages._owner import host_id, read_owner, was_unlocked
from tempscope.storages._record_file import read_record


__all__ = ["Trust", "file_system_type", "trust_in"]

_LOCAL = frozenset(["ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "zfs", "ramfs"])
_MOUNTS = "/proc/self/mountinfo"


@attrs.frozen
class Trust:
    """
    What a sweep may conclude from locks under one root.

    Attributes:
        doubt: Why locks prove nothing there; empty if they do.

        vouched: Whether the caller says that they do.
    """

    doubt: str
    vouched: bool

    def objection(self, dir_fd: int) -> str:
        """Return why the directory *dir_fd*, which we locked, must be left alone, or an empty text."""
        if was_unlocked(dir_fd):
            return "its owner could not lock it, so nobody can tell whether it lives"
        if not self.doubt:
            return ""
        if not self.vouched:
            return f"{self.doubt}: trust_locks=True says that its locks can be believed"
        if _made_here(dir_fd):
            return ""
        return f"{self.doubt}, and nothing shows that it was made on this machine"


def trust_in(root_fd: int, *, vouched: bool) -> Trust:
    """Judge the locks under the root *root_fd*; *vouched* is the caller's word for them."""
    kind = file_system_type(root_fd)
    if kind not in _LOCAL:
        return Trust(f"it is on {f'a {kind}' if kind else 'an unknown'} file system", vouched)
    if not _locks_exclude(root_fd):
        return Trust(f"locks on this {kind} file system failed their test", vouched)
    return Trust("", vouched)


def file_system_type(fd: int) -> str:
    """Return the type of the file system that *fd* is on (``proc_pid_mountinfo(5)``), or an empty text."""
    wanted = str(mount_id(fd))
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                if line.split(" ", 1)[0] == wanted:
                    return line.partition(" - ")[2].split(" ", 1)[0]
    except OSError:
        pass
    return ""


def _locks_exclude(root_fd: int) -> bool:
    """Whether a shared lock on the root keeps an exclusive one out; nobody is disturbed by the attempt."""
    with open_directory(".", dir_fd=root_fd) as one, open_directory(".", dir_fd=root_fd) as two:
        return _lock.share(one.fd) == "held" and _lock.seize(two.fd) == "busy"


def _made_here(dir_fd: int) -> bool:
    record = read_record(dir_fd)
    owner = read_owner(dir_fd) or (record.owner if record is not None else None)
    return owner is not None and owner.host != "" and owner.host == host_id()
