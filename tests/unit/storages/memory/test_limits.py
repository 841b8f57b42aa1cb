"""Limits are exact, errors clear, and permissions honoured."""

from __future__ import annotations

import errno
import os
import stat
import tracemalloc

import pytest

from tempscope.errors import ConfigurationError, StorageError, StorageFull
from tempscope.storages.memory import MemoryStorage


@pytest.fixture
def small(record):
    """An area of ten bytes and three files."""
    with MemoryStorage(max_bytes=10, max_files=3) as storage:
        yield storage.open_area(record())


def held(area) -> tuple[int, int]:
    """Return what is counted: bytes, and files with directories."""
    return area.tree.volume.bytes, area.tree.volume.files


def full(action) -> StorageFull:
    """Return the error of *action*, which is about room."""
    with pytest.raises(StorageFull) as error:
        action()
    assert isinstance(error.value, OSError)
    assert error.value.errno == errno.ENOSPC
    return error.value


def test_one_byte_too_many_is_a_full_disk(small):
    """Exactly max_bytes fit; one more is StorageFull, an ENOSPC that names the limit, and counts nothing."""
    path = small.create_file("file")
    path.write_bytes(bytes(10))
    error = full(lambda: (small.directory / "other").write_bytes(b"x"))
    assert (error.wanted_bytes, error.free_bytes) == (1, 0)
    assert "max_bytes=10" in str(error)
    assert held(small) == (10, 2)
    with path.open("ab", buffering=0) as handle:
        full(lambda: handle.write(b"x"))
        full(lambda: handle.truncate(11))
    assert path.read_bytes() == bytes(10)
    assert held(small) == (10, 2)


def test_a_write_that_fits_not_is_not_written_in_part(small):
    """A write beyond the limit writes nothing; a buffered one fails when it is flushed."""
    path = small.create_file("file")
    handle = path.open("wb")
    handle.write(bytes(11))
    full(handle.close)
    assert path.read_bytes() == b""
    assert held(small) == (0, 1)


def test_what_goes_is_free_again(small):
    """Unlinking, truncating, overwriting and removing give back exactly what they freed."""
    path = small.create_file("file")
    path.write_bytes(bytes(10))
    path.write_bytes(bytes(4))
    assert held(small) == (4, 1)
    with path.open("r+b") as handle:
        handle.truncate(1)
    assert held(small) == (1, 1)
    with path.open("w"):
        assert held(small) == (0, 1)
    path.write_bytes(bytes(10))
    other = path.with_name("other")
    other.hardlink_to(path)
    path.unlink()
    assert held(small) == (10, 1)
    other.unlink()
    assert held(small) == (0, 0)
    small.create_file("again").write_bytes(bytes(10))
    small.remove()
    assert held(small) == (0, 0)


def test_replacing_frees_what_was_there(small):
    """A rename onto a file, or an empty directory, frees that."""
    one, two = small.create_file("one"), small.create_file("two")
    one.write_bytes(bytes(5))
    two.write_bytes(bytes(5))
    one.replace(two)
    assert held(small) == (5, 1)
    first, second = small.create_dir("first"), small.create_dir("second")
    first.rename(second)
    assert held(small) == (5, 2)


@pytest.mark.parametrize("make", ["create_file", "create_dir", "open", "touch", "mkdir"])
def test_one_file_too_many_is_a_full_disk(make, small):
    """Exactly max_files files and directories fit; one more of either is StorageFull and leaves nothing."""
    small.create_file("a")
    (small.create_dir("b") / "c").touch()
    path = small.directory / "d"
    actions = {
        "create_file": lambda: small.create_file("d"),
        "create_dir": lambda: small.create_dir("d"),
        "open": lambda: path.open("w"),
        "touch": path.touch,
        "mkdir": path.mkdir,
    }
    error = full(actions[make])
    assert error.free_inodes == 0
    assert "max_files=3" in str(error)
    assert not path.exists()
    (small.directory / "a").unlink()
    actions[make]()
    assert path.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": "10G"},
        {"max_bytes": -1},
        {"max_files": -1},
        {"max_files": "3"},
        {"max_files": True},
        {"spill_above": 5},
    ],
)
def test_a_limit_that_cannot_be_one_is_refused(options):
    """Sizes without a unit, negative counts and a threshold without a place name the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        MemoryStorage(**options)


def test_sizes_may_be_text(record):
    """A size is bytes or text with a unit."""
    with MemoryStorage(max_bytes="1KiB") as storage:
        path = storage.open_area(record()).create_file("file")
        path.write_bytes(bytes(1024))
        full(lambda: path.write_bytes(bytes(1025)))
        assert "1024" in repr(storage)


@pytest.mark.parametrize("size", [64, 10_000])
def test_a_stored_file_costs_little(size, area):
    """Beyond its content a file takes at most 600 bytes, written at once or in pieces of any size."""
    directory, taken = area.directory, {}

    def write(path, piece):
        with path.open("wb") as buffered:
            for _ in range(0, size, piece):
                buffered.write(bytes(piece))

    def write_raw(path, piece):
        with path.open("wb", buffering=0) as raw:
            for _ in range(0, size, piece):
                raw.write(bytes(piece))

    ways = {
        "whole": lambda path: path.write_bytes(bytes(size)),
        "pieces": lambda path: write(path, size // 16),
        "raw": lambda path: write_raw(path, size // 16),
    }
    tracemalloc.start()
    try:
        for way, make in ways.items():
            before = tracemalloc.get_traced_memory()[0]
            for number in range(500):
                make(directory / f"{way}{number}")
            taken[way] = (tracemalloc.get_traced_memory()[0] - before) / 500 - size
    finally:
        tracemalloc.stop()
    assert max(taken.values()) < 600, taken


def test_a_large_file_is_not_copied_when_it_closes(area):
    """A file above a mebibyte stays where it was written, so that closing it costs nothing."""
    path = area.directory / "large"
    with path.open("wb", buffering=0) as file:
        for _ in range(3):
            file.write(bytes(1 << 19))
        node = file.node
        held = node.data
    assert node.data is held


# -- permissions


@pytest.fixture
def humble(area):
    """An area in a process to which permissions apply."""
    volume = area.tree.volume
    assert volume.privileged is (os.geteuid() == 0)
    volume._privileged = False
    return area


@pytest.mark.parametrize(
    ("mode", "action"),
    [
        (0o200, lambda file: file.read_bytes()),
        (0o400, lambda file: file.write_bytes(b"")),
        (0o400, lambda file: file.open("r+")),
        (0o200, lambda file: file.open("a+")),
    ],
)
def test_a_file_without_permission_is_refused(mode, action, humble):
    """What the owner may not read or write is EACCES."""
    file = humble.create_file("file")
    file.chmod(mode)
    with pytest.raises(PermissionError):
        action(file)


@pytest.mark.parametrize(
    ("mode", "action"),
    [
        (0o300, lambda top: list(top.iterdir())),
        (0o600, lambda top: (top / "file").stat()),
        (0o500, lambda top: (top / "new").touch()),
        (0o500, lambda top: (top / "file").unlink()),
        (0o500, lambda top: (top / "file").rename(top / "new")),
        (0o500, lambda top: (top / "sub").rmdir()),
        (0o500, lambda top: (top / "new").mkdir()),
        (0o500, lambda top: (top / "new").hardlink_to(top / "file")),
        (0o600, lambda top: (top / "file").exists()),
    ],
)
def test_a_directory_without_permission_is_refused(mode, action, humble):
    """What the owner may not list, enter or change is EACCES, and nothing happens."""
    top = humble.create_dir("top")
    (top / "file").touch()
    (top / "sub").mkdir()
    top.chmod(mode)
    with pytest.raises(PermissionError):
        action(top)
    top.chmod(0o700)
    assert sorted(path.name for path in top.iterdir()) == ["file", "sub"]


def test_who_is_privileged_enters_every_directory(humble):
    """Permissions that stop others do not stop root, as on the disk."""
    directory = humble.directory / "closed"
    directory.mkdir()
    directory.chmod(0o600)
    humble.tree.volume._privileged = True
    (directory / "file").write_bytes(b"content")
    assert (directory / "file").read_bytes() == b"content"


def test_modes_are_private_or_by_the_umask(area, monkeypatch):
    """What the scope makes is private; what the job opens itself follows the umask."""
    assert stat.S_IMODE(area.create_file("file").stat().st_mode) == 0o600
    assert stat.S_IMODE(area.create_dir("dir").stat().st_mode) == 0o700
    assert stat.S_IMODE(area.directory.stat().st_mode) == 0o700
    area.tree.volume._umask = 0o027
    (area.directory / "open").write_text("")
    (area.directory / "made").mkdir()
    assert stat.S_IMODE((area.directory / "open").stat().st_mode) == 0o640
    assert stat.S_IMODE((area.directory / "made").stat().st_mode) == 0o750


def test_the_umask_is_read_not_set(monkeypatch):
    """The umask is read from the system; where it cannot be, the usual one counts."""
    from tempscope.storages.memory import _node

    set_before = os.umask(0o035)
    try:
        assert _node.read_umask() == 0o035
    finally:
        os.umask(set_before)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOENT, "no /proc here")

    monkeypatch.setattr("builtins.open", fail)
    assert _node.read_umask() == 0o022


def test_status_is_complete(area):
    """Stat tells size, blocks, links, times, owner and a number; two storages have two devices."""
    file = area.create_file("file")
    file.write_bytes(bytes(513))
    status = file.stat()
    assert (status.st_size, status.st_blocks, status.st_nlink, status.st_blksize) == (513, 2, 1, 4096)
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
    assert status.st_mtime_ns // 10**9 == int(status.st_mtime) == status.st_atime_ns // 10**9
    assert status.st_ino not in (0, area.directory.stat().st_ino)
    assert area.directory.stat().st_nlink == 2
    area.create_dir("sub")
    assert area.directory.stat().st_nlink == 3
    with MemoryStorage() as other:
        assert other._volume.device != status.st_dev


def test_times_move_with_changes(area):
    """Writing sets a file's time, making and removing names a directory's, touch both of a file's."""
    file = area.create_file("file")
    file._set_times(1, 2)
    assert (file.stat().st_atime_ns, file.stat().st_mtime_ns) == (1, 2)
    with file.open("ab") as handle:
        handle.write(b"x")
    assert file.stat().st_mtime_ns > 2
    file._set_times(1, 2)
    file.touch()
    assert file.stat().st_atime_ns == file.stat().st_mtime_ns > 2
    area.directory._set_times(1, 2)
    assert area.directory.stat().st_mtime_ns == 2
    file.unlink()
    assert area.directory.stat().st_mtime_ns > 2
    area.directory._set_times(1, 2)
    area.directory.touch()
    assert area.directory.stat().st_mtime_ns > 2


def test_what_may_not_be_made_is_a_storage_error(humble):
    """A scope whose directory may not be written to says so with the storage's own error."""
    humble.directory.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be made") as error:
        humble.create_file("file")
    assert error.value.errno == errno.EACCES
