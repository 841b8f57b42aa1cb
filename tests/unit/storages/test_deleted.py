"""Files without a name that are held open, as /proc tells them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tempscope.storages import _deleted
from tempscope.storages._deleted import DeletedFiles


@pytest.fixture(autouse=True)
def told() -> None:
    """Skip where the system does not tell who holds what open."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("/proc does not tell open files here")


def test_what_is_deleted_and_open_is_found_once(tmp_path: Path) -> None:
    """Each inode counts once, below its directory only; what has another name, or a name, does not."""
    found = DeletedFiles()
    (tmp_path / "a").mkdir()
    gone, linked, there = (tmp_path / "a" / name for name in ("gone", "linked", "there"))
    for path in (gone, linked, there):
        path.write_bytes(b"x" * 10_000)
    os.link(linked, tmp_path / "other name")
    with gone.open(), gone.open(), linked.open(), there.open():
        gone.unlink()
        linked.unlink()
        assert found.look()
        assert found
        assert found.below(str(tmp_path / "a")) == 12_288
        assert found.below(str(tmp_path / "b")) == 0
    found.look(at_once=True)
    assert found.below(str(tmp_path)) == 0


def test_they_are_not_looked_for_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking again at once is refused, unless it is wanted all the same."""
    clock = iter([0.0, 1.0, 20.9, 21.0, 22.0, 23.0, 24.0])
    monkeypatch.setattr(_deleted, "monotonic", lambda: next(clock))
    found = DeletedFiles()
    assert [found.look(), found.look(), found.look(), found.look(at_once=True)] == [True, False, True, True]


def test_what_closes_meanwhile_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends, or may not be looked into, and a file that closes, are nobody's error."""

    def refuse(_path: str) -> list[str]:
        raise OSError(errno.EACCES, "no")

    found = DeletedFiles()
    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", refuse)
        assert found.look()
    monkeypatch.setattr(os, "listdir", refuse)
    assert found.look(at_once=True)
    assert not found
