"""Descriptors for the day when there are none: cleaning up works then too."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope import KeepAll, StorageFull, TempScopes, sweep
from tempscope.storages import _reserve
from tempscope.storages.local import LocalDiskStorage

from .conftest import below, in_child


def exhaust() -> list[int]:
    """Take every descriptor that this process may have; return those taken, thirty-two or more."""
    soft = max(map(int, os.listdir("/proc/self/fd"))) + 33
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(2))
    except OSError as error:
        assert error.errno == errno.EMFILE
    return taken


def grow(place: Path, levels: int = 8) -> None:
    """Make a small tree, deeper than the deleter keeps directories open."""
    for _ in range(levels):
        place = place / "down"
        place.mkdir()
        (place / "file").touch()


@pytest.fixture
def own_reserve() -> Iterator[None]:
    """What these tests leave in the reserve is closed."""
    yield
    _reserve.give_all_back()


@pytest.mark.parametrize("others", [0, 4])
def test_a_scope_closes_without_any_descriptor(tmp_path: Path, others: int) -> None:
    """
    P7: with not one descriptor left a scope closes, its tree and its registered paths go, its storage closes.

    Whether its own directory is open at that time or was closed in favour of others.
    """
    (tmp_path / "outside").mkdir()
    grow(tmp_path / "outside")

    def job() -> list[Any]:
        storage = LocalDiskStorage(tmp_path / "disk")
        scopes = TempScopes(storage)
        job = scopes.open()
        grow(job.new_dir())
        job.register_file(tmp_path / "outside")
        for _ in range(others):
            with scopes.open() as other:
                other.new_file()
        taken = exhaust()
        report = job.close()
        with pytest.raises(OSError, match="Too many open files"):
            # The reserve is put by again, not given to whoever asks next.
            taken.append(os.dup(2))
            taken.append(os.dup(2))
        storage.close()
        for fd in taken:
            os.close(fd)
        return [report.removed, report.failed, [entry.reason for entry in report.leftovers]]

    assert in_child(job) == [17 + 18, 0, []]
    assert below(tmp_path) == [
        "disk",
        f"disk/tempscope-{os.geteuid()}",
        f"disk/tempscope-{os.geteuid()}/.tempscope-root",
    ]


def test_evidence_is_kept_without_any_descriptor(tmp_path: Path) -> None:
    """P7: with not one descriptor left a scope is retained, whole, with its record."""

    def job() -> list[Any]:
        storage = LocalDiskStorage(tmp_path / "disk")
        job = TempScopes(storage, KeepAll()).open("evidence")
        job.new_file(name="file").write_bytes(b"content")
        taken = exhaust()
        report = job.close()
        for fd in taken:
            os.close(fd)
        (kept,) = storage.areas()
        return [report.failed, kept.state, kept.name, below(kept.directory)]

    assert in_child(job) == [0, "retained", "evidence", [".tempscope-record", "file"]]


def test_a_sweep_with_few_descriptors(tmp_path: Path) -> None:
    """P7: a sweep needs eight descriptors, however much there is; without any it says what is missing."""

    def owner() -> None:
        job = TempScopes(LocalDiskStorage(tmp_path)).open()
        grow(job.new_dir(), 40)
        for _ in range(20):
            job.new_file()
        os._exit(0)

    def job() -> list[Any]:
        sweep(tmp_path / "none")
        taken = exhaust()
        with pytest.raises(StorageFull, match="no file descriptor left"):
            sweep(tmp_path)
        for fd in taken[-8:]:
            os.close(fd)
        report = sweep(tmp_path)
        return [report.removed, report.failed, report.skipped]

    pid = os.fork()
    if not pid:
        owner()
    os.waitpid(pid, 0)
    assert in_child(job) == [1, 0, 0]


def test_a_closed_storage_holds_nothing(tmp_path: Path) -> None:
    """What a storage's file system is asked to let go of is let go of, whatever other storages are open."""

    def held(base: str) -> list[str]:
        found = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/self/fd/{number}"))
        return [path for path in found if path.startswith(str(tmp_path / base))]

    def job() -> list[int]:
        one, two = (LocalDiskStorage(tmp_path / base) for base in ("one", "two"))
        for storage in (one, two):
            TempScopes(storage).open().new_file()
        assert len(held("one")) > len(held("two")) > 0
        one.close()
        with TempScopes(two).open() as job:
            job.new_file()
        two_held = len(held("two"))
        two.close()
        return [len(held("one")), two_held, len(held("two"))]

    one, two, after = in_child(job)
    assert (one, after) == (0, 0)
    assert two >= 6


@pytest.mark.usefixtures("own_reserve")
def test_the_reserve_is_full_or_as_full_as_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given back can be put by again, and where there is no descriptor that is no error."""
    fd = os.open(tmp_path, os.O_RDONLY)
    _reserve.fill(fd)
    assert [_reserve.release() for _ in range(4)] == [True, True, True, False]
    with monkeypatch.context() as patch:
        patch.setattr(_reserve, "open_directory", _refused)
        _reserve.fill(fd)
    assert not _reserve.release()
    os.close(fd)


def _refused(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.usefixtures("own_reserve")
def test_a_number_that_is_another_files_by_now_is_not_closed(tmp_path: Path) -> None:
    """L4: a reserve whose numbers were closed behind our back closes nobody else's file."""
    fd = os.open(tmp_path, os.O_RDONLY)
    _reserve.give_all_back()
    _reserve.fill(fd)
    numbers = [descriptor.fd for descriptor, _ in _reserve._held]
    for number in numbers:
        os.close(number)
    others = [os.open(os.devnull, os.O_RDONLY) for _ in numbers]
    assert sorted(others) == sorted(numbers)
    assert not _reserve.release()
    for other in others:
        os.close(other)
    os.close(fd)


@pytest.mark.usefixtures("own_reserve")
def test_other_errors_are_raised(tmp_path: Path) -> None:
    """The reserve is only for want of descriptors: any other error is raised at once, and so is its end."""
    fd = os.open(tmp_path, os.O_RDONLY)
    _reserve.give_all_back()
    _reserve.fill(fd)

    def fail(code: int) -> None:
        calls.append(code)
        raise OSError(code, os.strerror(code))

    for code, times in ((errno.EIO, 1), (errno.EMFILE, 4)):
        calls: list[int] = []
        with pytest.raises(OSError, match=os.strerror(code)):
            _reserve.with_reserve(lambda code=code: fail(code))
        assert calls == [code] * times
    os.close(fd)
