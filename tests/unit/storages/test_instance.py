"""The instance: one for each root and process, its lease, and how a lost lease is noticed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.errors import ForkedScopeError, LeaseLostError, StorageError, StorageFull
from tempscope.storages import _instance, _lock, _registry
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._instance import Instance, close_own, identity_of
from tempscope.storages._journal import OutsidePath
from tempscope.storages._registry import instance_for, leave, let_go_of_inherited

from .conftest import as_nobody, below, in_child, needs_root, record_of


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """An instance under a root of its own."""
    instance, made = instance_for(str(tmp_path))
    assert made
    yield instance
    leave(instance)


def lock_is_free(path: str) -> bool:
    """Return whether nobody holds a lock on *path*."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_an_instance_is_private_and_held(instance: Instance) -> None:
    """An instance is a private directory, held by a shared lock, with who made it and a journal."""
    assert below(Path(instance.path)) == ["journal", "owner"]
    assert stat.S_IMODE(os.stat(instance.path).st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path(instance.path).iterdir()} == {0o600}
    assert not lock_is_free(instance.path)
    instance.check()
    assert "Instance" in repr(instance)


def test_one_root_has_one_instance(instance: Instance, tmp_path: Path) -> None:
    """Storages on one root share one instance; it goes with the last of them."""
    again, made = instance_for(str(tmp_path / "." / ""), user=1)
    assert again is instance
    assert not made
    leave(again, user=1)
    assert not instance.lost
    assert os.path.isdir(instance.path)


def test_two_roots_have_two_instances(instance: Instance, tmp_path: Path) -> None:
    """Another root is another instance."""
    other, _ = instance_for(str(tmp_path / "other"))
    assert other.path != instance.path
    leave(other)
    assert not os.path.exists(other.path)


def test_racing_threads_share_one_instance(tmp_path: Path) -> None:
    """However many threads need the first instance at once, one is made."""
    barrier, found = threading.Barrier(8), []

    def need(user: int) -> None:
        barrier.wait()
        found.append(instance_for(str(tmp_path), user))

    threads = [threading.Thread(target=need, args=(user,)) for user in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(instance) for instance, _ in found}) == 1
    assert sum(made for _, made in found) == 1
    assert found[0][0].users == set(range(8))
    for user in range(8):
        leave(found[0][0], user)
    assert not os.path.exists(found[0][0].path)


def test_an_instance_is_made_under_the_registry_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread makes the instance, no other can make a second one."""
    real, free = _registry._make, []

    def making(root: object) -> Instance:
        def look() -> None:
            free.append(_registry._registry.lock.acquire(blocking=False))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return real(root)  # type: ignore[arg-type]

    monkeypatch.setattr(_registry, "_make", making)
    instance, _ = instance_for(str(tmp_path))
    assert free == [False]
    leave(instance)


# -- races with sweepers


def test_a_name_that_is_taken_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that somebody has already is not used again."""
    first, _ = instance_for(str(tmp_path / "a"))
    tokens = iter([first.token, "b" * 26])
    (tmp_path / "b" / os.path.basename(first.root.path)).mkdir(parents=True, mode=0o700)
    second, _ = instance_for(str(tmp_path / "b"))
    monkeypatch.setattr(_registry, "new_token", lambda: next(tokens))
    os.mkdir(f"{second.root.path}/i-{first.token}")
    made = _registry._make(second.root)
    assert made.token == "b" * 26
    made.remove()
    for instance in (first, second):
        leave(instance)


@pytest.mark.parametrize("when", ["before open", "before lock", "while locking"])
def test_a_sweeper_takes_the_newborn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Row 12, L5, trap: what a sweeper takes between mkdir and lock is left to it; another is made."""
    make, share, taken = _registry.make_private_directory, _lock.share, []

    def swept_before_open(dir_fd: int, name: str) -> Descriptor:
        if taken or when != "before open":
            return make(dir_fd, name)
        taken.append(name)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def sweeping(fd: int) -> _lock.LockState:
        path = os.readlink(f"/proc/self/fd/{fd}")
        if "/i-" not in path or taken:
            return share(fd)
        taken.append(os.path.basename(path))
        if when == "while locking":
            return "busy"
        os.rmdir(path)
        return share(fd)

    monkeypatch.setattr(_registry, "make_private_directory", swept_before_open)
    monkeypatch.setattr(_lock, "share", sweeping)
    instance, _ = instance_for(str(tmp_path))
    assert len(taken) == 1
    assert instance.name not in taken
    instance.check()
    leave(instance)


def test_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every directory is taken at once, making an instance ends with a clear error."""
    monkeypatch.setattr(_registry, "_ATTEMPTS", 2)
    monkeypatch.setattr(_lock, "share", lambda fd: "busy")
    with pytest.raises(StorageError, match="could be locked") as caught:
        instance_for(str(tmp_path))
    assert caught.value.errno == errno.EAGAIN


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 22, L19: where flock is not supported, an instance works and says so."""

    def unsupported(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_lock.fcntl, "flock", unsupported)
    instance, _ = instance_for(str(tmp_path))
    instance.check()
    assert "the file system has no locks" in caplog.text
    leave(instance)
    assert not os.path.exists(instance.path)


# -- the root goes away


def test_a_cleaner_takes_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 45, L16: a root that is removed before anything is in it is made again, once."""
    real, calls = _registry._make, []

    def cleaner_first(root: object) -> Instance:
        calls.append(root)
        if len(calls) == 1:
            shutil.rmtree(tmp_path)
        return real(root)  # type: ignore[arg-type]

    monkeypatch.setattr(_registry, "_make", cleaner_first)
    instance, _ = instance_for(str(tmp_path))
    assert len(calls) == 2
    instance.check()
    leave(instance)


def test_a_cleaner_that_never_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 26: a root that is removed each time is an error, not a loop."""

    def gone(root: object) -> Instance:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(_registry, "_make", gone)
    with pytest.raises(StorageError, match="no directory can be made"):
        instance_for(str(tmp_path))


def test_an_error_is_told_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 19: what the system refuses is told once, as a storage error with its number."""

    def refused(dir_fd: int, name: str) -> Descriptor:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(_registry, "make_private_directory", refused)
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        instance_for(str(tmp_path))
    assert caught.value.errno == errno.EROFS


@needs_root
def test_a_disk_that_fills_while_the_instance_is_made(tiny_disk: Path) -> None:
    """Row 17, 35: with room for only part of an instance, nothing half-made stays."""
    first, _ = instance_for(str(tiny_disk))
    leave(first)
    for left in (2, 1, 0):
        while os.statvfs(tiny_disk).f_favail > left:
            (tiny_disk / f"filler{len(below(tiny_disk)):02d}").touch()
        with pytest.raises(StorageFull, match="no inodes left"):
            instance_for(str(tiny_disk))
        assert below(Path(first.root.path)) == [".tempscope-root"]


@needs_root
@pytest.mark.parametrize("taken", [0o777, 0o000])
def test_an_instance_under_any_umask(open_to_all: Path, umask: Callable[[int], int], taken: int) -> None:
    """Row 93: an instance notices a umask that takes the owner's own permissions, and has its own anyway."""

    def attempt() -> bool:
        umask(taken)
        instance, _ = instance_for(str(open_to_all))
        assert stat.S_IMODE(os.stat(instance.path).st_mode) == 0o700
        for name in ("owner", "journal"):
            assert stat.S_IMODE(os.stat(f"{instance.path}/{name}").st_mode) == 0o600
        instance.journal.reopen(instance.fd)
        assert stat.S_IMODE(os.stat(f"{instance.path}/journal").st_mode) == 0o600
        leave(instance)
        return instance.strips_owner_bits

    assert as_nobody(attempt) is (taken == 0o777)


# -- lost leases


def close_all(instance: Instance) -> list[int]:
    """Close the instance's descriptors behind its back, as a daemoniser does; return the numbers."""
    numbers = [instance.fd, instance.root.fd, instance.journal._file[0].fd]
    os.closerange(min(numbers), max(numbers) + 1)
    return numbers


def test_closed_descriptors_are_opened_and_locked_again(
    instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    """L4: a lease whose descriptors were closed is taken again, if its directory is what it was."""
    instance.journal.add_area("a1", record_of("kept"))
    close_all(instance)
    assert lock_is_free(instance.path)
    instance.check()
    assert not instance.lost
    assert not lock_is_free(instance.path)
    assert "was taken again" in caplog.text
    assert b"kept" in Path(instance.path, "journal").read_bytes()
    instance.journal.add_area("a2", record_of("after"))
    assert b"after" in Path(instance.path, "journal").read_bytes()


def test_a_number_that_is_somebody_elses_is_not_closed(instance: Instance, tmp_path: Path) -> None:
    """L4: a descriptor's number that another file got meanwhile is not used, written to or closed."""
    numbers = close_all(instance)
    (tmp_path / "other").write_bytes(b"")
    others = [os.open(tmp_path / "other", os.O_RDWR) for _ in numbers]
    assert sorted(others) == sorted(numbers)
    instance.check()
    instance.journal.add_area("a1", record_of())
    leave(instance)
    assert [os.fstat(fd).st_size for fd in others] == [0, 0, 0]
    for fd in others:
        os.close(fd)
    assert instance.lost


@pytest.mark.parametrize("how", ["removed", "moved", "replaced", "root removed", "swept"])
def test_a_directory_that_is_not_ours_any_more(
    instance: Instance, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 46, L4: an instance removed or replaced is given up, said so, and never used again."""
    elsewhere = tmp_path / "elsewhere"
    if how == "removed":
        shutil.rmtree(instance.path)
    elif how == "root removed":
        shutil.rmtree(instance.root.path)
    elif how == "swept":
        close_all(instance)
        monkeypatch.setattr(_lock, "share", lambda fd: "busy")
    else:
        os.rename(instance.path, elsewhere)
        if how == "replaced":
            os.mkdir(instance.path)
            (Path(instance.path) / "foreign").touch()
    with pytest.raises(LeaseLostError, match="was taken away from this process"):
        instance.check()
    monkeypatch.undo()
    with pytest.raises(LeaseLostError):
        instance.check()
    another, made = instance_for(str(tmp_path))
    assert made
    assert another.path != instance.path
    leave(another)
    if how == "replaced":
        assert below(Path(instance.path)) == ["foreign"]
        shutil.rmtree(instance.path)
    if how in ("moved", "replaced"):
        assert not lock_is_free(str(elsewhere)), "whoever still has files open there is not swept"


def failing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Have the system say nothing about our directory but the error *code*."""

    def stat(name: str, **_: object) -> os.stat_result:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(_instance.os, "stat", stat)


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_an_error_is_no_lost_lease(instance: Instance, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """L4, row 16: where the system does not say whether the lease holds, that is an error and no loss."""
    with monkeypatch.context() as patch:
        failing(patch, code)
        with pytest.raises(StorageError, match="nobody can tell whether") as caught:
            instance.check()
    assert caught.value.errno == code
    assert not isinstance(caught.value, LeaseLostError)
    instance.check()
    assert not instance.lost
    assert not lock_is_free(instance.path)


@pytest.mark.parametrize("times", [1, 99])
def test_a_stale_handle(instance: Instance, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Row 25: on ESTALE the directories are opened again once; if that does not help it is a lost lease."""
    real, left = os.stat, [times]

    def stale(name: str, **options: Any) -> os.stat_result:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_instance.os, "stat", stale)
        if times == 1:
            instance.check()
        else:
            with pytest.raises(LeaseLostError):
                instance.check()
    assert instance.lost is (times > 1)
    assert not lock_is_free(instance.path)


def test_opening_and_closing_the_locked_directory_frees_nothing(instance: Instance) -> None:
    """Trap 5: POSIX record locks go when any descriptor of the file is closed; this lock does not."""
    for _ in range(2):
        os.close(os.open(instance.path, os.O_RDONLY))
        assert not lock_is_free(instance.path)


def test_an_error_while_taking_a_lease_again(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """L4, row 16: a lease whose descriptors were closed is taken again as soon as the system lets us."""
    close_all(instance)

    def refused(name: str, **_: object) -> Descriptor:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(_instance, "open_directory", refused)
        with pytest.raises(StorageFull, match="no file descriptor left"):
            instance.check()
    instance.check()
    assert not lock_is_free(instance.path)


def test_two_threads_notice_a_lost_lease(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two threads that notice at once, one takes the lease again and the other finds it taken."""
    answers = iter([False, True])
    monkeypatch.setattr(Instance, "_holds", lambda self: next(answers))
    instance.check()
    monkeypatch.undo()

    def notices() -> bool:
        instance.lost = True
        return False

    monkeypatch.setattr(Instance, "_holds", lambda self: notices())
    with pytest.raises(LeaseLostError):
        instance.check()
    monkeypatch.undo()
    instance.lost = False


def test_a_removed_journal_is_written_again(instance: Instance) -> None:
    """A journal that somebody removed is written anew from what is known."""
    instance.journal.add_area("a1", record_of("known"))
    os.unlink(f"{instance.path}/journal")
    instance.check()
    assert b"known" in Path(instance.path, "journal").read_bytes()


def test_a_journal_that_cannot_be_written_again(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is not taken again without its journal: nothing would be known after a crash."""
    close_all(instance)

    def full(old: str, new: str, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempscope.storages._journal.os.rename", full)
    with pytest.raises(LeaseLostError):
        instance.check()


def test_only_our_own_number_is_closed(tmp_path: Path) -> None:
    """A descriptor is closed if it is what it was; another file's number, or none, is forgotten."""
    held = Descriptor.open(str(tmp_path), os.O_RDONLY)
    number = held.fd
    close_own(held, (0, 0))
    assert held.closed
    identity = identity_of(number)
    held.take(iter([number]))
    close_own(held, identity)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    close_own(held, identity)


# -- the end


def test_what_a_sweep_must_know_stays(tmp_path: Path) -> None:
    """Trap: an instance with a scope that could not be removed, or a registered path, stays for the sweep."""
    with_area, _ = instance_for(str(tmp_path / "area"))
    os.mkdir("a1", dir_fd=with_area.fd)
    with_area.journal.add_area("a1", record_of("to be kept"))
    with_path, _ = instance_for(str(tmp_path / "path"))
    with_path.journal.add_outside(OutsidePath("/outside", None))
    for instance in (with_area, with_path):
        leave(instance)
        assert "journal" in below(Path(instance.path))
        assert lock_is_free(instance.path)


def test_what_cannot_be_removed_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 24: an instance that the system does not let go is left to the sweep, which is a warning."""
    instance, _ = instance_for(str(tmp_path))

    def refused(name: str, **_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(_instance.os, "rmdir", refused)
    leave(instance)
    assert below(Path(instance.path)) == []
    assert lock_is_free(instance.path)
    (said,) = caplog.records
    assert said.getMessage() == "an instance directory stays for the sweep"
    assert said.levelname == "WARNING"


def test_what_cannot_be_looked_at_at_the_end_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 16: an instance of which nobody can tell whether it is ours is not removed; that is a warning."""
    instance, _ = instance_for(str(tmp_path))
    failing(monkeypatch, errno.EIO)
    leave(instance)
    monkeypatch.undo()
    assert below(Path(instance.path)) == ["journal", "owner"]
    assert "an instance directory stays for the sweep" in caplog.text


# -- forks


def test_a_child_lets_go_and_makes_its_own(instance: Instance, tmp_path: Path) -> None:
    """Row 60, L1: a forked child closes its copies, removes nothing of its parent's, and makes its own."""

    def child() -> list[str]:
        assert instance.lost
        leave(instance)
        own, made = instance_for(str(tmp_path))
        assert made
        own.remove()
        return [own.path]

    (path,) = in_child(child)
    assert path != instance.path
    assert not instance.lost
    instance.check()


def test_a_child_without_hooks_lets_go_later(instance: Instance, tmp_path: Path) -> None:
    """Row 67: where at-fork hooks do not run, the inherited is let go of at the first use."""

    def child() -> bool:
        # As if the hook had not run: the registry still is the parent's.
        _registry._registry.pid = os.getppid()
        _registry._registry.instances[instance.root.identity] = instance
        instance.lost = False
        _registry._remove_at_exit()
        own, made = instance_for(str(tmp_path))
        return made and own is not instance

    assert in_child(child)
    instance.check()


def test_a_fork_while_the_registry_is_locked(tmp_path: Path) -> None:
    """Row 56: a child can make an instance though another thread of its parent held our lock."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with _registry._registry.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    try:
        assert in_child(lambda: instance_for(str(tmp_path))[1])
    finally:
        done.set()
        thread.join()


def test_nothing_is_let_go_of_in_the_owner(instance: Instance) -> None:
    """Without a fork, letting go of the inherited does nothing."""
    let_go_of_inherited()
    instance.check()


def test_the_end_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At exit each instance of this process is let go of, whatever fails; a child's exit does nothing."""
    one, _ = instance_for(str(tmp_path / "one"))
    two, _ = instance_for(str(tmp_path / "two"))
    monkeypatch.setattr(_registry._registry, "instances", {1: one, 2: two})
    monkeypatch.setattr(_registry._registry, "pid", os.getpid() + 1)
    _registry._remove_at_exit()
    assert os.path.exists(one.path)
    monkeypatch.setattr(_registry._registry, "pid", os.getpid())
    one.journal = None  # type: ignore[assignment]
    _registry._remove_at_exit()
    assert not os.path.exists(two.path)


# -- forks in the middle of making


def forked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process from now on, as far as anybody asks."""
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)


@pytest.mark.parametrize("when", ["made", "failed", "closed", "filled", "refused"])
def test_a_child_forked_while_the_instance_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Row 57: such a child owns and removes nothing, and is told to open a scope of its own. By a fake."""
    real_make, real_instance = _registry._make, _registry.Instance

    def make(root: Any) -> Instance:
        if when == "made":
            instance = real_make(root)
            forked_in(monkeypatch)
            return instance
        if when in ("failed", "closed"):
            forked_in(monkeypatch)
            raise OSError(errno.EIO, "x") if when == "failed" else ValueError("the descriptor is closed")
        return real_make(root)

    def fill(*args: Any) -> Instance:
        forked_in(monkeypatch)
        if when == "refused":
            raise OSError(errno.EEXIST, "the parent wrote it")
        return real_instance(*args)

    monkeypatch.setattr(_registry, "_make", make)
    if when == "refused":
        monkeypatch.setattr(_registry, "Instance", fill)
    if when == "filled":
        real_tell = _registry._tell_made
        monkeypatch.setattr(
            _registry, "_tell_made", lambda *args: (real_tell(*args), forked_in(monkeypatch))[0]
        )
    with pytest.raises(ForkedScopeError, match="was forked while it made its directory"):
        instance_for(str(tmp_path))
    assert [name for name in below(tmp_path) if "/i-" in name] or when in ("failed", "closed")


def test_a_mistake_while_the_instance_is_made_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no system's error, and no fork's, comes through as itself."""

    def make(root: object) -> Instance:
        raise ValueError("a mistake")

    monkeypatch.setattr(_registry, "_make", make)
    with pytest.raises(ValueError, match="a mistake"):
        instance_for(str(tmp_path))


def test_an_error_that_is_ours_already_is_not_its_own_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever walks the causes of an error comes to an end."""

    def refuse(*args: object) -> Instance:
        raise StorageError("ours", errno=errno.EIO)

    monkeypatch.setattr(_registry, "Instance", refuse)
    with pytest.raises(StorageError, match="ours") as caught:
        instance_for(str(tmp_path))
    assert caught.value.__cause__ is not caught.value
