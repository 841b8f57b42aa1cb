"""Quotas: of one scope, of a label's scopes together, of a storage; by our own calls and by others'."""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from tempscope import (
    ConfigurationError,
    HardlinkStorage,
    KeepAll,
    LocalDiskStorage,
    MemoryStorage,
    QuotaExceededError,
    RamDiskStorage,
    StorageFull,
    TempFileManager,
    TempScopes,
)
from tempscope.storages import _quota
from tempscope.storages._deleted import DeletedFiles
from tempscope.storages._quota import check_quotas
from tempscope.testing import RecordingStorage


KIB, MIB = 1024, 1024 * 1024
LIMITS = ["1MiB", MIB, str(MIB)]


@pytest.fixture(autouse=True)
def eager(mocker: MockerFixture) -> None:
    """Every call measures, however busy the machine, and whatever others free on the disk meanwhile."""
    mocker.patch.object(_quota, "_SHARE", 0)
    mocker.patch.object(_quota, "monotonic", side_effect=itertools.count().__next__)


@pytest.fixture
def scopes(storage: LocalDiskStorage) -> Iterator[TempScopes]:
    """What opens scopes on a disk, without a quota of its own."""
    yield TempScopes(storage)
    storage.close()


def fill(manager: TempFileManager, size: int) -> Path:
    """Write a file behind the manager's back, as a command would."""
    path = manager.directory / f"by-a-command-{size}"
    path.write_bytes(b"x" * size)
    return path


@pytest.mark.parametrize("quota", LIMITS)
def test_a_scope_over_its_quota_makes_nothing_more(scopes: TempScopes, quota: int | str) -> None:
    """What others wrote is measured at the next call that makes something: that raises, and says all."""
    with scopes.open("job", quota=quota) as manager:
        manager.new_file()
        fill(manager, 2 * MIB)
        calls: list[Callable[[], object]] = [
            manager.new_file,
            manager.new_dir,
            manager.create_temp_file().__enter__,
            lambda: manager.new_file(name="later", create=False),
            lambda: manager.stage(__file__),
        ]
        for call in calls:
            with pytest.raises(QuotaExceededError) as caught:
                call()
        error = caught.value
        assert isinstance(error, OSError)
        assert error.errno == errno.EDQUOT
        assert (error.scope, error.limit) == ("job", MIB)
        assert error.used is not None and error.used >= 2 * MIB
        assert error.path == str(manager.directory)
        assert error.mount and error.path.startswith(error.mount) and error.mount_kind
        for word in ("'job'", "1MiB", "2MiB", error.mount, error.mount_kind):
            assert word in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (again.limit, again.used, again.mount) == (error.limit, error.used, error.mount)


def test_what_lessens_the_use_is_never_refused(scopes: TempScopes, tmp_path: Path) -> None:
    """Over its quota a scope still publishes, keeps, looks, deletes and closes; then it has room again."""
    with scopes.open(quota="1MiB") as manager:
        first, second, third = (fill(manager, size * MIB) for size in (2, 3, 4))
        with pytest.raises(QuotaExceededError):
            manager.new_file()
        manager.publish(first, tmp_path / "out")
        manager.keep(second)
        assert manager.usage().bytes >= 4 * MIB
        third.unlink()
        manager.new_file()
        fill(manager, 2 * MIB)
        manager.cleanup_all()
        manager.new_file()


def test_a_copy_is_counted_before_it_is_written(scopes: TempScopes, tmp_path: Path) -> None:
    """Staging what does not fit raises before the first byte; nothing of it stays, and what fits goes on."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 700 * KIB)
    told: list[int] = []
    with scopes.open("job", quota="1MiB") as manager:
        manager.stage(source)
        with pytest.raises(QuotaExceededError, match="would be written") as caught:
            manager.stage(source, progress=lambda done, _: told.append(done))
        assert caught.value.wanted_bytes == 700 * KIB
        assert not told
        assert [path.name for path in manager.directory.iterdir()] == ["source"]
        os.unlink(manager.directory / "source")
        manager.stage(source)


def test_copies_at_once_never_exceed_it_together(scopes: TempScopes, tmp_path: Path) -> None:
    """Threads that stage at once into one scope stay within its quota: what is being written counts."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 400 * KIB)
    meet = threading.Barrier(4)
    refused: list[QuotaExceededError] = []

    def work(manager: TempFileManager) -> None:
        meet.wait()
        try:
            manager.stage(source)
        except QuotaExceededError as error:
            refused.append(error)

    with scopes.open(quota="1MiB") as manager:
        manager.new_file()
        threads = [threading.Thread(target=work, args=(manager,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 2
        assert manager.usage().bytes == 800 * KIB


def test_a_copy_that_fails_counts_for_nothing(scopes: TempScopes, tmp_path: Path) -> None:
    """What a cancelled copy had been counted with is free again at once."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 700 * KIB)

    def cancel(_done: int, _total: int) -> None:
        raise RuntimeError("cancelled")

    with scopes.open(quota="1MiB") as manager:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                manager.stage(source, progress=cancel)
        manager.stage(source)


def test_sparse_and_linked_files_count_what_they_occupy(scopes: TempScopes, tmp_path: Path) -> None:
    """Trap: blocks count, each inode once; what another name outside holds would not go with the scope."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 2 * MIB)
    with scopes.open(quota="1MiB") as manager:
        with open(fill(manager, 1), "r+b") as file:
            file.truncate(1 << 40)
        kept = fill(manager, 600 * KIB)
        os.link(kept, manager.directory / "again")
        os.link(outside, manager.directory / "of-somebody-else")
        manager.new_file()


def test_a_hard_linked_input_is_free(base: Path, tmp_path: Path) -> None:
    """Staging by hard link writes nothing and is not bounded; a copy of the same file is."""
    source = base / "source"
    source.write_bytes(b"x" * 2 * MIB)
    with HardlinkStorage(base) as storage, TempScopes(storage).open(quota="1MiB") as manager:
        assert manager.stage(source).method == "hardlink"
        with pytest.raises(QuotaExceededError):
            manager.stage(source, writable=True)
        manager.new_file()


def test_a_childs_files_count_for_its_parents(scopes: TempScopes) -> None:
    """A quota bounds a scope with all scopes inside it; a child's own bounds the child alone."""
    with scopes.open("parent", quota="4MiB") as parent:
        with parent.scope("small", quota="1MiB") as small:
            fill(small, 2 * MIB)
            with pytest.raises(QuotaExceededError, match="of scope 'small' is 1MiB"):
                small.new_file()
            parent.new_file()
        with parent.scope("large") as large:
            fill(large, 5 * MIB)
            for manager in (parent, large):
                with pytest.raises(QuotaExceededError, match="of scope 'parent' is 4MiB"):
                    manager.new_file()
        parent.new_file()


def test_a_labels_scopes_count_together(storage: LocalDiskStorage) -> None:
    """TempScopes(quota=) bounds its open scopes together, also those that an equal one opened."""
    video, again = (TempScopes(storage, label="video", quota="3MiB") for _ in range(2))
    other = TempScopes(storage, label="audio", quota="3MiB")
    assert (video.quota, TempScopes(storage).quota) == (3 * MIB, None)
    with video.open() as first, again.open() as second, other.open() as third:
        for manager in (first, second, third):
            fill(manager, 2 * MIB)
        for manager in (first, second):
            with pytest.raises(QuotaExceededError, match="of all scopes of label 'video' is 3MiB; 4MiB"):
                manager.new_file()
        third.new_file()
        with first.scope() as child, pytest.raises(QuotaExceededError, match="'video'"):
            child.new_file()
        second.close()
        first.new_file()


def test_scopes_without_a_label_count_together(storage: LocalDiskStorage) -> None:
    """No label is a label of its own."""
    scopes = TempScopes(storage, quota="1MiB")
    with scopes.open() as first, scopes.open() as second:
        fill(first, 2 * MIB)
        with pytest.raises(QuotaExceededError, match="of all scopes without a label"):
            second.new_file()


@pytest.mark.parametrize("make", [LocalDiskStorage, HardlinkStorage])
def test_a_storages_scopes_count_together(base: Path, make: type[LocalDiskStorage]) -> None:
    """max_bytes bounds all open scopes of a storage, whoever opened them; what is kept is the policy's."""
    with make(base, max_bytes="3MiB") as storage:
        with TempScopes(storage, label="a").open() as first:
            with TempScopes(storage, label="b").open() as second:
                fill(first, 2 * MIB)
                fill(second, 2 * MIB)
                with pytest.raises(QuotaExceededError, match=f"of {make.__name__} is 3MiB"):
                    first.new_file()
            first.new_file()
        with TempScopes(storage, KeepAll()).open() as kept:
            fill(kept, 4 * MIB)
        with TempFileManager(storage=storage) as alone:
            alone.new_file()


def test_a_ram_disk_has_it_too() -> None:
    """RamDiskStorage(max_bytes=) bounds it, and the error says that the room is a tmpfs."""
    with RamDiskStorage(max_bytes="64KiB") as storage, TempScopes(storage).open() as manager:
        fill(manager, MIB)
        with pytest.raises(QuotaExceededError) as caught:
            manager.new_file()
        assert caught.value.mount_kind == "tmpfs"


@pytest.mark.parametrize("spilling", [False, True])
def test_files_in_memory_are_counted_before_they_grow(storage: LocalDiskStorage, spilling: bool) -> None:
    """In memory the write itself is refused, and writes nothing; also where it would go to disk for it."""
    memory = MemoryStorage(spill_to=storage, spill_above="600KiB") if spilling else MemoryStorage()
    with memory, TempScopes(memory).open("job", quota="1MiB") as manager:
        path = manager.new_file()
        path.write_bytes(b"x" * 900 * KIB)
        other = manager.new_file()
        with pytest.raises(QuotaExceededError) as caught:
            other.write_bytes(b"x" * 200 * KIB)
        with other.open("wb", buffering=0) as file, pytest.raises(QuotaExceededError):
            file.write(b"x" * 800 * KIB)
        assert other.stat().st_size == 0
        assert (caught.value.limit, caught.value.used) == (MIB, 900 * KIB)
        if not spilling:
            assert (caught.value.mount, caught.value.mount_kind) == (None, "memory")
            assert "in memory" in str(caught.value)
        path.unlink()
        other.write_bytes(b"x" * 900 * KIB)


def test_a_full_quota_is_not_a_full_storage() -> None:
    """A quota is EDQUOT and QuotaExceededError; no room is ENOSPC and StorageFull."""
    with MemoryStorage(max_bytes="1KiB") as memory, TempScopes(memory).open(quota="1MiB") as manager:
        path = manager.new_file()
        with pytest.raises(StorageFull) as full:
            path.write_bytes(b"x" * 2 * KIB)
        with pytest.raises(QuotaExceededError) as quota:
            path.write_bytes(b"x" * 2 * MIB)
    assert (full.value.errno, quota.value.errno) == (errno.ENOSPC, errno.EDQUOT)
    assert not isinstance(full.value, QuotaExceededError)
    assert not isinstance(quota.value, StorageFull)


@pytest.mark.parametrize("quota", ["0B", -1, True, 1.5, float("nan"), "much", "9000PiB"])
def test_what_is_no_size_is_refused(storage: LocalDiskStorage, base: Path, quota: object) -> None:
    """A quota that cannot be one is refused where it is given, and names itself."""
    refused: list[Callable[[], object]] = [
        lambda: TempScopes(storage, quota=quota),  # type: ignore[arg-type]
        lambda: TempScopes(storage).open(quota=quota),  # type: ignore[arg-type]
        lambda: LocalDiskStorage(base, max_bytes=quota),  # type: ignore[arg-type]
    ]
    for call in refused:
        with pytest.raises(ConfigurationError, match="quota|max_bytes"):
            call()
    with (
        TempScopes(storage).open() as manager,
        pytest.raises(ConfigurationError, match="quota"),
    ):
        manager.scope(quota=quota)  # type: ignore[arg-type]


def test_a_callback_stops_a_command(scopes: TempScopes) -> None:
    """When a quota is exceeded the job's command is stopped, once, by whoever notices."""
    source = (
        "import sys, time; open(sys.argv[1], 'wb').write(b'x' * 2**21); print(flush=True); time.sleep(60)"
    )
    with scopes.open("job", quota="1MiB") as manager:
        output = manager.new_file()
        with subprocess.Popen(
            [sys.executable, "-c", source, str(output)], stdout=subprocess.PIPE, text=True
        ) as command:
            manager.register_quota_callback(command.terminate)
            assert command.stdout is not None
            command.stdout.readline()
            (error,) = check_quotas()
            assert error.scope == "job"
            assert command.wait(30) == -15
        with pytest.raises(QuotaExceededError):
            manager.new_file()


def test_the_scope_that_uses_most_is_told(storage: LocalDiskStorage) -> None:
    """Of a quota on several scopes the largest that wants to be told is; the next at the next look."""
    scopes, told = TempScopes(storage, quota="1MiB"), []
    with scopes.open() as small, scopes.open() as large, scopes.open() as silent:
        for manager, name in ((small, "small"), (large, "large")):
            manager.register_quota_callback(told.append, name)
        fill(small, MIB)
        fill(large, 2 * MIB)
        fill(silent, 3 * MIB)
        with pytest.raises(QuotaExceededError):
            small.new_file()
        assert told == ["large"]
        assert len(check_quotas()) == 1
        assert told == ["large", "small"]
        assert len(check_quotas()) == 1
        assert told == ["large", "small"]


def test_a_callback_that_fails_harms_nothing(scopes: TempScopes, caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged; the others are called, and the call that noticed raises its own."""
    told = []

    def fail() -> None:
        raise ValueError("broken")

    with scopes.open("job", quota="1MiB") as manager:
        manager.register_quota_callback(fail)
        manager.register_quota_callback(told.append, 1)
        fill(manager, 2 * MIB)
        with caplog.at_level(logging.WARNING), pytest.raises(QuotaExceededError):
            manager.new_file()
    assert told == [1]
    assert "a quota callback failed" in caplog.text


def test_what_cannot_be_a_callback_is_refused(scopes: TempScopes) -> None:
    """A quota callback is called at once, so a coroutine function, or nothing to call, is refused."""

    async def coroutine() -> None: ...

    with scopes.open() as manager:
        for wrong in (None, coroutine):
            with pytest.raises(ConfigurationError, match="callback"):
                manager.register_quota_callback(wrong)  # type: ignore[arg-type]
        # Nothing bounds it, so it is never called.
        manager.register_quota_callback(print)
        assert check_quotas() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc does not tell open files here")
def test_deleted_files_that_are_open_count(scopes: TempScopes) -> None:
    """What has no name any more but is held open occupies room: it counts until it is closed, once."""
    with scopes.open("job", quota="1MiB") as manager:
        manager.new_file()
        path = fill(manager, 2 * MIB)
        with path.open("rb"), path.open("rb"):
            path.unlink()
            (error,) = check_quotas()
            assert error.used is not None and 2 * MIB <= error.used < 3 * MIB
            with pytest.raises(QuotaExceededError):
                manager.new_file()
        manager.new_file()
        assert check_quotas() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc does not tell open files here")
def test_room_that_no_file_with_a_name_took_is_looked_for(
    scopes: TempScopes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call looks for deleted files by itself where more room went than those with a name took."""
    monkeypatch.setattr(_quota, "_deleted", DeletedFiles())
    with scopes.open("job", quota="1MiB") as manager:
        manager.new_file()
        path = fill(manager, 1)
        with path.open("wb", buffering=0) as file:
            path.unlink()
            manager.new_file()
            file.write(b"x" * 8 * MIB)
            with pytest.raises(QuotaExceededError):
                manager.new_file()


def test_nothing_is_measured_without_a_reason(scopes: TempScopes, mocker: MockerFixture) -> None:
    """A call walks over the files only if the limit may have been reached since the last walk."""
    with scopes.open(quota="1GiB") as manager:
        for _ in range(200):
            manager.new_file()
        clock = [0.0]
        mocker.patch.object(_quota, "monotonic", side_effect=lambda: clock[0])
        mocker.patch.object(_quota.Meter, "free", return_value=10**12)
        manager.new_file()
        walks = mocker.spy(_quota.Meter, "measure")
        meter = manager._meter
        assert meter is not None
        (limit,) = meter.limits
        limit._gap, limit._quiet = 0.0, 10.0
        for _ in range(50):
            manager.new_file()
        assert walks.call_count == 0
        clock[0] = 11.0
        manager.new_file()
        assert walks.call_count == 1


def test_room_that_went_is_a_reason(scopes: TempScopes, mocker: MockerFixture) -> None:
    """As soon as the file system lost as much room as the limit has left, the next call measures."""
    with scopes.open(quota="1MiB") as manager:
        manager.new_file()
        free = mocker.patch.object(_quota.Meter, "free", return_value=10**9)
        mocker.patch.object(_quota, "monotonic", return_value=5.0)
        meter = manager._meter
        assert meter is not None
        meter.limits[0].measure(10**9)
        meter.limits[0]._gap, meter.limits[0]._quiet = 0.0, 10.0
        walks = mocker.spy(_quota.Meter, "measure")
        free.return_value = 10**9 - MIB // 2
        manager.new_file()
        assert walks.call_count == 0
        free.return_value = 10**9 - 2 * MIB
        manager.new_file()
        assert walks.call_count == 1


def test_a_storage_that_does_not_ask_is_measured(storage: LocalDiskStorage) -> None:
    """An area that knows nothing of quotas, nor tells where it stands, is bounded by its usage alone."""

    class Plain:
        def __init__(self, area: object) -> None:
            self._area = area

        def __getattr__(self, name: str) -> object:
            if name in ("record", "reserve_by"):
                raise AttributeError(name)
            return getattr(self._area, name)

    class Storage:
        capabilities = storage.capabilities

        def open_area(self, record: object) -> Plain:
            return Plain(storage.open_area(record))  # type: ignore[arg-type]

    with TempScopes(Storage()).open(quota="1MiB") as manager:  # type: ignore[arg-type]
        manager.new_file()
        fill(manager, 2 * MIB)
        meter = manager._meter
        assert meter is not None
        meter.limits[0]._gap = meter.limits[0]._quiet = 0.0
        with pytest.raises(QuotaExceededError) as caught:
            manager.new_file()
        assert (caught.value.path, caught.value.mount, caught.value.mount_kind) == (None, None, None)


def test_wrapped_storages_are_bounded_as_well(base: Path, tmp_path: Path) -> None:
    """What wraps a storage hands on its limit, and its areas' asking."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)
    storage = RecordingStorage(LocalDiskStorage(base, max_bytes="512KiB"))
    with storage, TempScopes(storage).open() as manager, pytest.raises(QuotaExceededError):
        manager.stage(source)


def test_an_area_that_cannot_be_measured_keeps_its_figure(scopes: TempScopes, mocker: MockerFixture) -> None:
    """If measuring fails the last figure stands: the call itself tells what is wrong."""
    with scopes.open(quota="1MiB") as manager:
        manager.new_file()
        fill(manager, 600 * KIB)
        meter = manager._meter
        assert meter is not None
        meter.measure()
        area = type(manager._area)
        mocker.patch.object(area, "usage", side_effect=OSError(errno.EIO, "no"))
        meter.measure()
        assert meter.used >= 600 * KIB


def test_a_walk_that_a_write_overtook_is_dropped(scopes: TempScopes, mocker: MockerFixture) -> None:
    """What was written through us while somebody measured is neither lost nor counted twice."""
    with scopes.open(quota="1MiB") as manager:
        manager.new_file()
        meter = manager._meter
        assert meter is not None
        area = type(manager._area)
        usage = area.usage

        def overtaken(self: object) -> object:
            found = usage(self)  # type: ignore[arg-type]
            with meter.reserve(1000):
                pass
            return found

        before = meter.used
        mocker.patch.object(area, "usage", overtaken)
        meter.measure()
        assert meter.used == before + 1000
        with meter.reserve(500):
            meter.measure()
            assert meter.used == before + 1500


def test_a_closed_scope_counts_no_more(storage: LocalDiskStorage) -> None:
    """Nothing of a scope that closed, or was forgotten, is left in what bounds the others."""
    scopes = TempScopes(storage, quota="1GiB")
    with scopes.open() as stays:
        stays.new_file()
        meter = stays._meter
        assert meter is not None
        (limit,) = meter.limits
        with scopes.open() as goes:
            fill(goes, MIB)
            check_quotas()
            assert limit.used >= MIB
            gone = goes._meter
        assert gone is not None
        assert limit.used < MIB
        assert limit.meters() == [meter]
        gone.measure()
        with gone.reserve(10):
            pass
        gone.count_deleted(_quota._deleted)
        assert (gone.used, gone.place(), gone.free()) == (0, gone.place(), gone.free())
        assert limit.used < MIB


def test_without_a_quota_nothing_is_there(storage: LocalDiskStorage) -> None:
    """A scope that nothing bounds has no meter, and neither have its children."""
    with TempScopes(storage).open() as manager, manager.scope() as child:
        manager.new_file()
        child.new_file()
        assert manager._meter is None
        assert child._meter is None


def test_a_forked_child_counts_its_own(program: Callable[..., object]) -> None:
    """In a forked child what the parent opened does not count; in the parent it still does."""
    ended = program(
        """
        import os
        from tempscope import *
        storage = LocalDiskStorage(base, max_bytes="1MiB")
        scopes = TempScopes(storage)
        with scopes.open() as manager:
            manager.new_file().write_bytes(b"x" * 600_000)
            try:
                manager.new_file()
            finally:
                pid = os.fork()
            if not pid:
                try:
                    with scopes.open() as mine:
                        mine.new_file().write_bytes(b"x" * 600_000)
                        mine.new_file()
                except BaseException as error:
                    os.write(2, repr(error).encode())
                    os._exit(1)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            with scopes.open() as another:
                another.new_file().write_bytes(b"x" * 600_000)
                try:
                    another.new_file()
                except QuotaExceededError:
                    print("bounded")
        """
    )
    assert ended.stdout == "bounded\n", ended.stderr


def test_forgotten_limits_go(storage: LocalDiskStorage) -> None:
    """A label's limit lives as long as its scopes; many jobs leave nothing behind."""
    gc.collect()
    before = len(_quota._labels)
    for number in range(20):
        with TempScopes(storage, label=f"job {number}", quota="1MiB").open() as manager:
            manager.new_file()
    gc.collect()
    assert len(_quota._labels) == before


def test_a_scope_that_is_taken_over_counts_where_it_arrives(storage: LocalDiskStorage) -> None:
    """Handing over is never refused; then the quota of those who took the scope over bounds it."""
    with TempScopes(storage, label="video").open(quota="1MiB") as manager:
        fill(manager, 2 * MIB)
        with pytest.raises(QuotaExceededError):
            manager.new_file()
        token = manager.detach()
    with (
        TempScopes(storage, quota="1MiB").attach(token) as taken,
        pytest.raises(QuotaExceededError, match="of all scopes of label 'video'"),
    ):
        taken.new_file()
    with TempScopes(storage, quota="1MiB").open() as another:
        another.new_file()


def test_without_bounded_scopes_nobody_looks(mocker: MockerFixture) -> None:
    """Where no open scope is bounded, looking after quotas looks at nothing."""
    mocker.patch.object(_quota, "_limits", set())
    look = mocker.spy(DeletedFiles, "look")
    assert check_quotas() == []
    assert look.call_count == 0
