"""Our root: who may have made it, what may stand in its place, and what is refused."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tempscope.errors import BaseDirectoryError, StorageFull
from tempscope.storages import _root
from tempscope.storages._root import MARKER, find_root, make_private_directory, open_root, root_name

from .conftest import NOBODY, as_nobody, below, needs_root


def mode(path: Path) -> int:
    """Return the permissions of *path*."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_missing_base_directory_is_made(tmp_path: Path) -> None:
    """A base directory that was named and is missing is made, with our private, marked root in it."""
    root = open_root(tmp_path / "deep" / "base")
    assert root.path == str(tmp_path / "deep" / "base" / root_name())
    assert below(Path(root.path)) == [MARKER]
    assert mode(Path(root.path)) == 0o700
    assert mode(Path(root.path, MARKER)) == 0o600
    root.close()


def test_the_root_is_opened_again(tmp_path: Path) -> None:
    """A root that is there already is the same one, by its inode."""
    first, second = open_root(tmp_path), open_root(tmp_path)
    assert first.identity == second.identity
    assert first.fd != second.fd


def test_the_base_directory_is_a_file(tmp_path: Path) -> None:
    """A base directory that is a file is refused, and named."""
    (tmp_path / "file").write_bytes(b"content")
    for base in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BaseDirectoryError, match=r"file.*is not a directory") as caught:
            open_root(base)
        assert caught.value.errno == errno.ENOTDIR
    assert below(tmp_path) == ["file"]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """Looking for a root makes neither it nor the base directory."""
    assert find_root(tmp_path) is None
    assert find_root(tmp_path / "missing") is None
    assert below(tmp_path) == []
    open_root(tmp_path).close()
    found = find_root(tmp_path)
    assert found is not None
    assert found.path == str(tmp_path / root_name())


def test_looking_at_what_cannot_be_ours_raises(tmp_path: Path) -> None:
    """A broken root is an error also for those who only look."""
    (tmp_path / root_name()).write_bytes(b"")
    with pytest.raises(BaseDirectoryError, match="taken by something"):
        find_root(tmp_path)


def test_an_empty_unmarked_root_has_nothing_to_look_at(tmp_path: Path) -> None:
    """A root whose maker was killed before marking it is empty, and stays as it is."""
    (tmp_path / root_name()).mkdir(mode=0o700)
    found = find_root(tmp_path)
    assert found is not None
    assert below(Path(found.path)) == []


@needs_root
def test_a_base_directory_that_is_not_writable(open_to_all: Path) -> None:
    """Row 91: a base directory in which nothing can be made is refused, saying which setting to use."""
    base = open_to_all / "mine"
    base.mkdir(mode=0o755)

    def attempt() -> str:
        with pytest.raises(BaseDirectoryError) as caught:
            open_root(base)
        return str(caught.value)

    assert "Permission denied: set TEMPSCOPE_BASE_DIR or base_dir" in as_nobody(attempt)
    assert below(base) == []


@needs_root
def test_a_base_directory_that_cannot_be_listed(open_to_all: Path) -> None:
    """A base directory whose listing is denied will do: names in it can be made and found."""
    open_to_all.chmod(0o1733)
    made = as_nobody(lambda: os.path.basename(open_root(open_to_all).path))
    assert made == f"tempscope-{NOBODY}"


def test_a_base_directory_writable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 91: without the sticky bit, one writable by others is taken only if it was named explicitly."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.delenv("TEMPSCOPE_BASE_DIR")
    monkeypatch.setenv("TMPDIR", str(shared))
    with pytest.raises(BaseDirectoryError, match="without the sticky bit"):
        open_root(None)
    assert below(shared) == []
    shared.chmod(0o1777)
    open_root(None).close()
    shared.chmod(0o777)
    open_root(shared).close()
    monkeypatch.setenv("TEMPSCOPE_BASE_DIR", str(shared))
    open_root(None).close()


@pytest.mark.parametrize("what", ["file", "link", "dangling", "fifo"])
def test_our_name_is_taken(tmp_path: Path, what: str) -> None:
    """Row 91: a root's name that a file, a link or a FIFO has is refused, and what has it is untouched."""
    place, elsewhere = tmp_path / root_name(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "file":
        place.write_bytes(b"content")
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(elsewhere if what == "link" else tmp_path / "nowhere")
    before = below(tmp_path)
    with pytest.raises(BaseDirectoryError, match="taken by something that is not a directory of ours"):
        open_root(tmp_path)
    assert below(tmp_path) == before


@needs_root
def test_our_name_belongs_to_another_user(open_to_all: Path) -> None:
    """
    Row 91: a root of another user is refused, closed or open, and the message says whose it is.

    Security rules 1, 11: whoever we run as, another user's root is not ours.
    """
    place = open_to_all / f"tempscope-{NOBODY}"
    place.mkdir()

    def attempt() -> str:
        with pytest.raises(BaseDirectoryError) as caught:
            open_root(open_to_all)
        return str(caught.value)

    for permissions in (0o700, 0o755):
        place.chmod(permissions)
        told = as_nobody(attempt)
        assert "belongs to user 0, not to 65534" in told
        assert "TEMPSCOPE_BASE_DIR" in told
    assert below(place) == []


@pytest.mark.parametrize("permissions", [0o750, 0o707, 0o770])
def test_a_root_open_to_others(tmp_path: Path, permissions: int) -> None:
    """Row 91: a root that others can enter, read or write is refused, with its mode."""
    open_root(tmp_path).close()
    (tmp_path / root_name()).chmod(permissions)
    with pytest.raises(BaseDirectoryError, match=f"is open to others .mode 0{permissions:o}, not 0700."):
        open_root(tmp_path)


@needs_root
def test_a_root_of_ours_that_is_shut(open_to_all: Path) -> None:
    """A root that its own user cannot enter is an error that says so, not a loop."""

    def attempt() -> str:
        os.mkdir(open_to_all / f"tempscope-{NOBODY}", 0o000)
        with pytest.raises(BaseDirectoryError) as caught:
            open_root(open_to_all)
        return str(caught.value)

    assert "Permission denied" in as_nobody(attempt)


def test_an_unmarked_root_with_something_in_it(tmp_path: Path) -> None:
    """Trap: a look-alike that has no marker and is not empty is somebody else's: it is refused whole."""
    place = tmp_path / root_name()
    place.mkdir(mode=0o700)
    (place / "t-aaaaaaaaaaaaaaaaaaaaaaaaaa").mkdir()
    (place / MARKER).symlink_to("t-aaaaaaaaaaaaaaaaaaaaaaaaaa")
    for attempt in (open_root, find_root):
        with pytest.raises(BaseDirectoryError, match=r"no file .tempscope-root and is not empty"):
            attempt(tmp_path)
    assert len(below(place)) == 2


def test_a_root_that_is_marked_while_we_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that make the root at once, neither takes the other's beginnings for a stranger's."""
    place = tmp_path / root_name()
    place.mkdir(mode=0o700)
    real = os.listdir

    def another_begins(fd: int) -> list[str]:
        (place / MARKER).write_bytes(b"")
        (place / "i-aaaaaaaaaaaaaaaaaaaaaaaaaa").mkdir(exist_ok=True)
        return real(fd)

    monkeypatch.setattr(_root.os, "listdir", another_begins)
    assert open_root(tmp_path).path == str(place)


def test_many_make_the_root_at_once(tmp_path: Path) -> None:
    """However many threads open a missing root at once, all get the same one."""
    barrier, roots = threading.Barrier(8), []

    def attempt() -> None:
        barrier.wait()
        roots.append(open_root(tmp_path / "base"))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(roots) == 8
    assert len({root.identity for root in roots}) == 1


@needs_root
def test_a_full_disk_gets_no_root(tiny_disk: Path) -> None:
    """Trap: a disk without an inode for the marker keeps no half-made root, and the error says inodes."""
    fillers = _fill_inodes(tiny_disk, leave=1)
    with pytest.raises(StorageFull, match="no inodes left"):
        open_root(tiny_disk)
    assert below(tiny_disk) == fillers
    fillers.append(_fill_inodes(tiny_disk, leave=0)[-1])
    with pytest.raises(StorageFull, match="no inodes left"):
        open_root(tiny_disk)


def _fill_inodes(place: Path, *, leave: int) -> list[str]:
    while os.statvfs(place).f_favail > leave:
        (place / f"filler{len(below(place)):02d}").touch()
    return below(place)


@needs_root
def test_a_disk_without_a_free_block_still_takes_the_marker(tiny_disk: Path) -> None:
    """The marker is the file; what it says to people may find no room."""
    with open(tiny_disk / "filler", "wb", buffering=0) as filler:
        while os.statvfs(tiny_disk).f_bavail:
            filler.write(bytes(4096))
    # A directory on a tmpfs takes no block, so the marker's text is what does not fit.
    root = open_root(tiny_disk)
    assert Path(root.path, MARKER).stat().st_size == 0
    root.close()


@needs_root
@pytest.mark.parametrize("taken", [0o777, 0o000, 0o277])
def test_the_umask_changes_nothing(open_to_all: Path, umask: Callable[[int], int], taken: int) -> None:
    """Row 93: root and marker have modes 0700 and 0600 whatever the umask, also without privileges."""

    def attempt() -> list[int]:
        umask(taken)
        root = open_root(open_to_all)
        return [mode(Path(root.path)), mode(Path(root.path, MARKER))]

    assert as_nobody(attempt) == [0o700, 0o600]


def test_a_directory_is_made_exclusively(tmp_path: Path) -> None:
    """A private directory is made anew or not at all."""
    with open_root(tmp_path).descriptor as parent:
        make_private_directory(parent.fd, "one").close()
        with pytest.raises(FileExistsError):
            make_private_directory(parent.fd, "one")
        make_private_directory(parent.fd, "one", exist_ok=True).close()


def test_a_directory_that_cannot_be_opened_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that was made and cannot be opened, for want of descriptors, does not stay."""

    def no_descriptors(name: str, *, dir_fd: int) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with open_root(tmp_path).descriptor as parent:
        monkeypatch.setattr(_root, "open_directory", no_descriptors)
        with pytest.raises(OSError, match="Too many open files"):
            make_private_directory(parent.fd, "one")
        assert "one" not in os.listdir(parent.fd)

        def busy(name: str, *, dir_fd: int) -> None:
            (tmp_path / root_name() / name / "inside").touch()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(_root, "open_directory", busy)
        with pytest.raises(PermissionError):
            make_private_directory(parent.fd, "two")
        assert "two" in os.listdir(parent.fd)


def test_a_directory_that_stays_shut_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that was made, cannot be opened and cannot be repaired does not stay."""

    def denied(name: str, *, dir_fd: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with open_root(tmp_path).descriptor as parent:
        monkeypatch.setattr(_root, "open_directory", denied)
        with pytest.raises(PermissionError):
            make_private_directory(parent.fd, "one")
        assert "one" not in os.listdir(parent.fd)


def test_a_root_that_a_cleaner_takes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 45: a root removed between making and marking it is an error by which the caller starts again."""
    real = os.listdir

    def cleaner(fd: int) -> list[str]:
        names = real(fd)
        (tmp_path / root_name()).rmdir()
        return names

    monkeypatch.setattr(_root.os, "listdir", cleaner)
    with pytest.raises(FileNotFoundError):
        open_root(tmp_path)


def test_whose_a_vanished_directory_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that shut us out and is gone by the time we look is told as what the system said."""

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(_root, "make_private_directory", denied)
    with pytest.raises(BaseDirectoryError, match="Permission denied"):
        open_root(tmp_path)
