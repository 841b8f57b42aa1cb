"""Statistics: what is counted, across processes, and that nothing is changed by counting."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

import tempscope
from tempscope import KeepAll, LocalDiskStorage, MemoryStorage, Stats, TempScopes, stats
from tempscope.errors import BaseDirectoryError, ConfigurationError
from tempscope.janitor._stats import count
from tempscope.model import Instant, Owner, StateStats, Usage

from .test_sweep import NOW, Shelf, abandon, leave, names_in, record_of


def state_of(told: Stats, state: str) -> StateStats:
    """Return what is told of one state."""
    [one] = [each for each in told.states if each.state == state]
    return one


def test_records_are_counted_by_state() -> None:
    """Scopes, files and bytes are counted state by state, and the oldest of each is told."""
    earlier = attrs.evolve(NOW, wall=NOW.wall - 60, boot=NOW.boot - 60)
    usage = Usage(files=2, bytes=100)
    told = count(
        [
            record_of("a", "live", usage=usage, opened=earlier),
            record_of("b", "live", usage=usage),
            record_of("c", "retained", usage=usage, closed=earlier),
            record_of("d", "given_up"),
            record_of("e", "handed_over", usage=usage),
            record_of("f", "orphaned", usage=usage),
            record_of("g", "trash", usage=usage, opened=Instant(0.0, 0.0)),
        ],
        NOW,
    )
    assert (told.live, told.retained, told.given_up, told.handed_over) == (2, 1, 1, 1)
    assert (told.orphaned, told.trash, told.files, told.bytes) == (1, 1, 12, 600)
    assert state_of(told, "live") == StateStats(
        state="live", scopes=2, files=4, bytes=200, oldest_seconds=60.0
    )
    assert state_of(told, "retained").oldest_seconds == 60.0
    assert state_of(told, "given_up") == StateStats(state="given_up", scopes=1)
    assert state_of(told, "trash").oldest_seconds == 0.0


def test_owners_are_told_apart() -> None:
    """Owners of open and orphaned scopes are told by process and application, with who holds the lease."""
    one, two = Owner(pid=1, started=5), Owner(pid=1, started=6)
    told = count(
        [
            record_of("a", "live", owner=one, application="x", held_by="process 1", usage=Usage(bytes=5)),
            record_of("b", "live", owner=one, application="x", held_by="process 1", usage=Usage(bytes=6)),
            record_of("c", "live", owner=one, application="y"),
            record_of("d", "orphaned", owner=two, application="x"),
            record_of("e", "live"),
            record_of("f", "retained", owner=one, application="x"),
        ],
        NOW,
    ).owners
    assert [(each.pid, each.application, each.alive, each.scopes, each.bytes) for each in told] == [
        (1, "x", True, 2, 11),
        (1, "y", True, 1, 0),
        (1, "x", False, 1, 0),
        (0, "", True, 1, 0),
    ]
    assert told[0].held_by == "process 1"


def test_a_storage_that_cannot_survey() -> None:
    """A storage of somebody else's is counted by what it tells of its areas."""
    told = stats(Shelf(record_of("a", usage=Usage(files=1, bytes=512)), record_of("b", "orphaned")))
    assert (told.retained, told.orphaned, told.files, told.bytes) == (1, 1, 1, 512)


def test_memory_is_measured_now() -> None:
    """On a storage in memory open scopes are measured when they are counted."""
    with MemoryStorage() as storage, TempScopes(storage, KeepAll()).open() as scope:
        scope.new_file().write_bytes(b"x" * 100)
        with TempScopes(storage, KeepAll()).open() as other:
            other.new_file().write_bytes(b"x" * 50)
        told = stats(storage)
        assert (told.live, told.retained, told.files, told.bytes) == (1, 1, 2, 150)


@pytest.mark.parametrize("given", [3, object(), LocalDiskStorage])
def test_what_has_no_statistics(given: Any) -> None:
    """What is neither a storage nor a base directory is refused."""
    with pytest.raises(ConfigurationError, match=r"stats\(\) needs a storage or a base directory"):
        stats(given)


def test_nothing_there(tmp_path: Path, own_base_dir: Path) -> None:
    """A place without a root has nothing in it, and none is made; a broken root is an error."""
    assert stats(tmp_path / "none") == stats(None) == stats(LocalDiskStorage(tmp_path))
    assert stats(tmp_path).bytes == 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / f"tempscope-{os.geteuid()}").touch()
    with pytest.raises(BaseDirectoryError):
        stats(tmp_path)


def living(base: Path, number: int) -> tuple[int, int]:
    """Have a child live with so many scopes open; return its number, and what ends it when closed."""
    told, tell = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go)
        try:
            storage = LocalDiskStorage(base, application="child", sweep_on_start=False)
            scopes = [TempScopes(storage).open() for _ in range(number)]
            for scope in scopes:
                scope.new_file().write_bytes(b"x" * 4096)
            os.write(tell, b".")
            os.read(wait, 1)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(wait)
    os.close(tell)
    assert os.read(told, 1)
    os.close(told)
    return pid, go


def test_across_processes(tmp_path: Path) -> None:
    """What other processes hold, left, kept, gave up and began to delete is counted, and left as it is."""
    pid, go = living(tmp_path, 3)
    leave(tmp_path, "dead 1", "dead 2", application="dead")
    storage = LocalDiskStorage(tmp_path, application="mine", sweep_on_start=False)
    with TempScopes(storage, KeepAll()).open() as scope:
        scope.new_file().write_bytes(b"x" * 8192)
        scope.keep(scope.new_file())
    trash = tmp_path / f"tempscope-{os.geteuid()}" / f"t-{'b' * 26}"
    trash.mkdir()
    (trash / "file").write_bytes(b"x" * 4096)
    before = sorted(tmp_path.rglob("*"))

    told = stats(tmp_path)

    assert sorted(tmp_path.rglob("*")) == before
    assert (told.live, told.orphaned, told.retained, told.given_up, told.trash) == (3, 2, 1, 1, 1)
    assert state_of(told, "live").bytes == 3 * 4096
    # Its record, which lies among its files, was written after it was measured.
    assert state_of(told, "retained").bytes == 8192
    assert state_of(told, "trash").bytes == 4096
    assert state_of(told, "given_up").files == 1
    assert told.files == 3 + 2 + 1 + 1 + 1
    assert [(each.pid, each.application, each.alive, each.scopes) for each in told.owners] in (
        [(pid, "child", True, 3), (os.getpid(), "dead", False, 2)],
        [(os.getpid(), "dead", False, 2), (pid, "child", True, 3)],
    )
    assert {each.held_by for each in told.owners} == {f"process {pid} (python)", None} or any(
        str(pid) in (each.held_by or "") for each in told.owners
    )
    os.close(go)
    os.waitpid(pid, 0)
    assert stats(tmp_path).orphaned == 5
    storage.close()


def test_who_inherited_a_lease_is_told(tmp_path: Path, program: Callable[..., Any]) -> None:
    """Trap: a lease that a daemon inherited pins its owner's files, and statistics tell by whom."""
    source = """
        import ctypes, os, signal
        from tempscope import LocalDiskStorage, TempScopes, stats
        scope = TempScopes(LocalDiskStorage(base)).open()
        scope.new_file()
        ready, tell = os.pipe()
        middle = os.fork()
        if not middle:
            inner = TempScopes(LocalDiskStorage(base)).open()
            inner.new_file()
            # As a C extension forks: no hook of Python's runs in the child.
            daemon = ctypes.PyDLL(None).fork()
            if daemon:
                os.write(tell, str(daemon).encode())
                os._exit(0)
            signal.pause()
        os.waitpid(middle, 0)
        daemon = int(os.read(ready, 20))
        owners = {each.pid: each for each in stats(base).owners}
        held = owners[middle].held_by
        os.kill(daemon, 9)
        scope.close()
        assert owners[middle].alive
        print(f"process {daemon}" in held and f"inherited it from process {middle}" in held, held)
    """
    done = program(source)
    assert done.stdout.startswith("True"), done.stdout + done.stderr


def test_areas_that_cannot_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be looked into is counted all the same, as empty."""
    leave(tmp_path, "left")
    storage = LocalDiskStorage(tmp_path, sweep_on_start=False)
    with TempScopes(storage).open() as scope:
        scope.keep(scope.new_file())
    storage.close()

    def refuse(fd: int) -> None:
        raise OSError(5, "no")

    with monkeypatch.context() as patched:
        patched.setattr("tempscope.storages._scan.measure", refuse)
        told = stats(tmp_path)
    assert (told.orphaned, told.given_up, told.files) == (1, 1, 0)

    with monkeypatch.context() as patched:
        patched.setattr("tempscope.storages._scan.open_subdirectory", lambda fd, name: refuse(fd))
        told = stats(tmp_path)
    assert (told.orphaned, told.files) == (1, 1)


def test_counting_leaves_the_dead_to_the_sweep(tmp_path: Path) -> None:
    """After statistics a sweep finds what it would have found without."""
    leave(tmp_path, "a", "b")
    stats(tmp_path)
    assert tempscope.sweep(tmp_path).removed == 2
    assert names_in(tmp_path) == [".tempscope-root"]


def test_links_are_counted_once(tmp_path: Path) -> None:
    """A file of several names in one scope counts for its bytes once."""
    storage = LocalDiskStorage(tmp_path, sweep_on_start=False)
    with TempScopes(storage).open() as scope:
        path = scope.new_file()
        path.write_bytes(b"x" * 4096)
        os.link(path, path.with_name("again"))
        told = stats(tmp_path)
        assert (told.files, told.bytes) == (2, 4096)
        abandon(storage)
        scope._closed = True
    assert stats(tmp_path).orphaned == 1
