"""The kernel's lock on a directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tempscope.storages import _lock
from tempscope.storages._lock import seize, share


def test_owners_share_and_a_sweeper_waits_for_none(tmp_path):
    """
    Any number of owners share.

    A sweeper gets the lock only when nobody has it, and then nobody else does.
    """
    one, two, three = (os.open(tmp_path, os.O_RDONLY) for _ in range(3))
    assert (share(one), share(two), seize(three)) == ("held", "held", "busy")
    os.close(one)
    assert seize(three) == "busy"
    os.close(two)
    assert seize(three) == "held"
    four = os.open(tmp_path, os.O_RDONLY)
    assert share(four) == "busy"
    os.close(three)
    os.close(four)


@pytest.mark.parametrize(
    "code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO, errno.EINVAL, errno.EBADF]
)
def test_a_file_system_without_locks(tmp_path, mocker, code):
    """
    Row 22: ENOLCK, ENOSYS, EOPNOTSUPP and the like are "no locks here", never "held". Trap.

    NFS/FUSE without locks.
    """
    mocker.patch.object(_lock.fcntl, "flock", side_effect=OSError(code, "no"))
    assert (share(0), seize(0)) == ("unsupported", "unsupported")


def test_other_answers(mocker):
    """An answer that is neither is raised; without flock there are no locks."""
    mocker.patch.object(_lock.fcntl, "flock", side_effect=OSError(errno.ENOMEM, "no"))
    with pytest.raises(OSError, match="no"):
        share(0)
    mocker.patch.object(_lock, "fcntl", None)
    assert seize(0) == "unsupported"


def test_nobody_ever_unlocks():
    """
    Row 64: there is no unlocking in the source.

    A child that did would take its parent's lock (filelock #634).
    """
    package = Path(_lock.__file__).parents[1]
    assert not [path for path in package.rglob("*.py") if "LOCK_UN" in path.read_text(encoding="utf-8")]
