"""From the system's errors to ours: which family, and what would be right."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from tempscope.errors import BaseDirectoryError, NameTakenError, PathMissingError, StorageError, StorageFull
from tempscope.storages import _failure
from tempscope.storages._failure import storage_error

from .conftest import needs_root


def failed(code: int, path: str = "/", **options: object) -> StorageError:
    """Return our error for a system's error."""
    return storage_error(OSError(code, os.strerror(code)), "it cannot be made", path=path, **options)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the file system is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "larger than the system allows"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "no file descriptor left"),
        (errno.EMLINK, "links"),
        (errno.ENOMEM, "memory"),
    ],
)
def test_all_kinds_of_no_room_are_one_family(code, words):
    """Rows 17, 18, 31, 33: every "no room" is StorageFull, says of what, and carries wanted and free."""
    error = failed(code, wanted_bytes=7, scope="job")
    assert isinstance(error, StorageFull)
    assert words in str(error)
    assert (error.errno, error.wanted_bytes, error.path, error.scope) == (code, 7, "/", "job")
    assert error.free_bytes > 0
    assert isinstance(error.cause, OSError)


def test_other_errors():
    """
    A taken or missing name has its class, others are as asked; a hint ends the message.

    No number is EIO.
    """
    assert type(failed(errno.EEXIST)) is NameTakenError
    assert type(failed(errno.ENOENT)) is PathMissingError
    assert type(failed(errno.EIO)) is StorageError
    error = failed(errno.ENOENT, otherwise=BaseDirectoryError, hint="set it to another place")
    assert type(error) is BaseDirectoryError
    assert str(error) == "it cannot be made: No such file or directory: set it to another place"
    assert storage_error(OSError("odd"), "x", path="/").errno == errno.EIO


@needs_root
def test_inodes_and_the_mount_are_named(tiny_disk):
    """
    Row 35: when the inodes are used up with blocks free, the message names inodes, mount and type.

    Trap: ENOSPC means tmpfs, which is memory (nixarchy #189): the error names the mount and its type.
    """
    with pytest.raises(OSError, match="No space") as caught:
        for number in range(100):
            (tiny_disk / str(number)).touch()
    error = storage_error(caught.value, "it cannot be made", path=str(tiny_disk / "gone" / "f"))
    assert f"(tmpfs on '{tiny_disk}'): no inodes left, though" in str(error)
    assert "takes its room from memory" in str(error)
    assert (error.mount, error.mount_kind) == (str(tiny_disk), "tmpfs")
    assert error.free_inodes == 0
    assert error.free_bytes > 0


@needs_root
def test_blocks_are_named_through_a_link(tiny_disk, tmp_path):
    """Row 17: when the blocks are used up the message says so; the mount is found through a link, too."""
    (tmp_path / "link").symlink_to(tiny_disk)
    with (
        pytest.raises(OSError, match="No space") as caught,
        (tiny_disk / "f").open("wb", buffering=0) as file,
    ):
        while file.write(b"x" * 65_536):
            pass
    error = storage_error(caught.value, "it cannot be written", path=str(tmp_path / "link" / "f"))
    assert f"(tmpfs on '{tiny_disk}'): 0 bytes free" in str(error)


def test_mounts_with_odd_names(tmp_path, mocker):
    """
    A mount's name is read as /proc writes it, with spaces and tabs escaped.

    A line that is odd ends the search.
    """
    mounts = tmp_path / "mounts"
    place = tmp_path / "a b\tc"
    place.mkdir()
    shown = str(place).replace(" ", "\\040").replace("\t", "\\011")
    mounts.write_text(f"x / ext4 rw 0 0\nx {shown} xfs rw 0 0\nx /elsewhere btrfs rw 0 0\nodd\n")
    really = open
    mocker.patch("builtins.open", lambda path, **kw: really(mounts, **kw))
    assert _failure.mount_of(str(place / "f")) == (str(place), "xfs")
    mocker.patch("builtins.open", side_effect=OSError(errno.EACCES, "no"))
    assert _failure.mount_of("/") == ("", "")


Room = namedtuple("Room", "f_bavail f_frsize f_favail f_files")


def test_what_nobody_knows_is_not_said(mocker):
    """
    Where the system tells no figures there are none.

    Btrfs, which makes inodes as needed, has no limit of them.
    """
    mocker.patch.object(os, "statvfs", return_value=Room(10, 4096, 0, 0))
    error = failed(errno.ENOSPC)
    assert (error.free_bytes, error.free_inodes) == (40_960, None)
    mocker.patch.object(os, "statvfs", side_effect=OSError(errno.EACCES, "no"))
    error = failed(errno.ENOSPC)
    assert (error.free_bytes, error.free_inodes) == (None, None)
    assert str(error) == "it cannot be made: the file system is full"
    mocker.patch.object(os, "statvfs", side_effect=FileNotFoundError)
    assert failed(errno.ENOSPC, str(Path("/no/where"))).free_bytes is None


def test_a_mount_that_is_not_found(mocker):
    """Where the mount's type is unknown, the message says file system."""
    mocker.patch.object(_failure, "mount_of", return_value=("", ""))
    assert "(file system on '')" in str(failed(errno.ENOSPC))
