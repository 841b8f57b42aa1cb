"""Opening a subdirectory without leaving the tree."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tempscope.storages import _openat2
from tempscope.storages._openat2 import let_in, make_writable, mount_id, open_directory, open_subdirectory


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[int]:
    """A directory, open."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(params=["openat2", "plain"])
def way(request: pytest.FixtureRequest, mocker: Any) -> str:
    """Both ways: by openat2, and without it."""
    if request.param == "plain":
        mocker.patch.object(_openat2, "_openat2", return_value=None)
    elif _openat2._openat2() is None:
        pytest.skip("there is no openat2 here")
    return request.param


@pytest.mark.usefixtures("way")
def test_only_a_subdirectory_is_opened(tmp_path, parent):
    """
    Security rule 6: a directory is opened close-on-exec.

    A link, file, FIFO, missing name or way out is not.
    """
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    with open_subdirectory(parent, "d") as directory:
        assert os.fstat(directory.fd).st_ino == (tmp_path / "d").stat().st_ino
        assert not os.get_inheritable(directory.fd)
        with pytest.raises(OSError, match="Errno") as caught:
            open_subdirectory(directory.fd, "..")
        assert caught.value.errno == errno.EXDEV
    for name, codes in {
        "link": (errno.ELOOP, errno.ENOTDIR),
        "file": (errno.ENOTDIR,),
        "fifo": (errno.ENOTDIR,),
        "none": (errno.ENOENT,),
    }.items():
        with pytest.raises(OSError, match="Errno") as caught:
            open_subdirectory(parent, name)
        assert caught.value.errno in codes


def fake(*codes: int) -> SimpleNamespace:
    """Return a system call that answers with *codes* in turn, then works."""
    answers, last = list(codes), []

    def call(fd: int, name: bytes) -> Iterator[int]:
        if answers:
            last.append(answers.pop(0))
            return iter([-1])
        return iter([os.open(name, os.O_RDONLY, dir_fd=fd)])

    return SimpleNamespace(open=call, errno=lambda: last[-1])


@pytest.mark.parametrize(
    "codes", [(errno.EAGAIN,) * 3, (errno.EINTR,), (0,), (errno.ENOSYS,), (errno.EPERM,)]
)
def test_answers_of_the_system_call_that_are_no_end(tmp_path, parent, mocker, codes):
    """
    Row 23: EAGAIN and EINTR are tried again.

    A sandbox's EPERM or ENOSYS leads to the plain way. By a fake.
    """
    (tmp_path / "d").mkdir()
    mocker.patch.object(_openat2, "_openat2", return_value=fake(*codes))
    with open_subdirectory(parent, "d") as directory:
        assert os.fstat(directory.fd).st_ino == (tmp_path / "d").stat().st_ino


def test_answers_that_are_an_end(tmp_path, parent, mocker):
    """
    A system that answers EAGAIN for ever is believed in the end.

    Any other error is raised at once. By a fake.
    """
    (tmp_path / "d").mkdir()
    for code in (errno.EAGAIN, errno.EIO):
        mocker.patch.object(_openat2, "_openat2", return_value=fake(*[code] * 100))
        with pytest.raises(OSError, match="Errno") as caught:
            open_subdirectory(parent, "d")
        assert caught.value.errno == code


def test_mount_ids(parent, mocker):
    """
    A mount is told by its id; where /proc does not tell it, by the device number.

    Not for want of a descriptor to ask by: a bind mount has the same number. Security rule 7.
    """
    with open_directory("/proc") as other:
        assert mount_id(parent) != mount_id(other.fd)
    opening = mocker.patch.object(_openat2.Descriptor, "open", side_effect=OSError(errno.ENOENT, "no"))
    assert mount_id(parent) == -1 - os.fstat(parent).st_dev
    opening.side_effect = OSError(errno.EMFILE, "no")
    with pytest.raises(OSError, match="no"):
        mount_id(parent)


def test_a_kernel_without_mount_ids(parent, mocker):
    """Where the file in /proc has no mount id, the device number stands for it. By a fake."""
    mocker.patch.object(os, "read", return_value=b"pos:\t0\n")
    assert mount_id(parent) == -1 - os.fstat(parent).st_dev


@pytest.fixture
def _fresh() -> Iterator[None]:
    """The system call is looked for again."""
    _openat2._openat2.cache_clear()
    yield
    _openat2._openat2.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_where_there_is_no_such_call(mocker):
    """On another platform, or without ctypes, the plain way is taken."""
    mocker.patch.dict("sys.modules", ctypes=None)
    assert _openat2._openat2() is None
    _openat2._openat2.cache_clear()
    mocker.patch.object(_openat2.sys, "platform", "darwin")
    assert _openat2._openat2() is None


def test_rights_are_given_back_only_where_they_lack(tmp_path, parent, mocker):
    """
    Security rule 8: only our own directory, on the same mount, and only if a permission lacks.

    Is opened up.
    """
    place = tmp_path / "d"
    place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    assert (make_writable(fd), let_in(parent, "d")) == (False, False)
    for repair in (lambda: make_writable(fd), lambda: let_in(parent, "d")):
        place.chmod(0o055)
        assert repair()
        assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o500)
    mocker.patch.object(os, "geteuid", return_value=os.geteuid() + 1)
    assert (make_writable(fd), let_in(parent, "d")) == (False, False)
    mocker.stopall()
    mocker.patch.object(_openat2, "mount_id", side_effect=[1, 2])
    assert not let_in(parent, "d")
    (tmp_path / "link").symlink_to("d")
    assert not let_in(parent, "link")
    mocker.patch.object(os, "fchmod", side_effect=OSError(errno.EROFS, "no"))
    assert not make_writable(fd)
    assert place.stat().st_mode & 0o777 == 0o500
    os.close(fd)
