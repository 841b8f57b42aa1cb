"""
The public API as type checkers see it: checked by mypy and pyright, never run.

A ``type: ignore`` here is a claim too: mypy is strict, so it fails where the error is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, assert_type

from tempscope import (
    Capability,
    CleanupPolicy,
    CleanupReport,
    DeleteOnClose,
    HardlinkStorage,
    Instant,
    Janitor,
    KeepAll,
    KeepLast,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    Outcome,
    PerScope,
    RamDiskStorage,
    ScopeRecord,
    Settings,
    StagedFile,
    Stats,
    SweepReport,
    TempArea,
    TempContainer,
    TempFileManager,
    TempscopeError,
    TempScopes,
    TempStorage,
    Usage,
    Verdict,
    check_container,
    current_scope,
    in_scope,
    is_disk_pressure,
    is_memory_pressure,
    keep_if_all,
    keep_if_any,
    stats,
    sweep,
    use_storage,
)
from tempscope.janitor import JanitorStatus, SweepBudget
from tempscope.listeners import LoggingListener
from tempscope.model import Event
from tempscope.protocols import Clock, Listener


# Every storage is a TempStorage, every policy a CleanupPolicy.
STORAGES: list[TempStorage] = [LocalDiskStorage(), RamDiskStorage(), MemoryStorage(), HardlinkStorage()]
CONFIGURED: list[TempStorage] = [
    LocalDiskStorage(Path("base"), application="app", sweep_on_start=False, background_removal=True),
    LocalDiskStorage("base", trust_locks=True),
    HardlinkStorage("base", threshold="1MiB"),
    MemoryStorage(max_bytes=1 << 20, max_files=100, spill_to=LocalDiskStorage("base"), spill_above="64KiB"),
]
POLICIES: list[CleanupPolicy] = [
    DeleteOnClose(),
    KeepAll(),
    KeepOnFailure(),
    KeepOnFailure(on=("failed",), at_most=3, for_="7d", up_to="10GiB"),
    keep_if_any(KeepAll(), DeleteOnClose()),
    keep_if_all(KeepAll(), DeleteOnClose()),
]


class OwnPolicy:
    """A policy of somebody else's: by shape, without a base class."""

    may_keep = False

    def at_close(self, record: ScopeRecord) -> Verdict:
        return Verdict(keep=False, reason="mine")

    def select(self, kept: Sequence[ScopeRecord], now: Instant) -> Sequence[Verdict]:
        return [self.at_close(record) for record in kept]


def own_policy_is_a_policy(storage: TempStorage) -> TempScopes:
    return TempScopes(storage, policy=OwnPolicy(), label="jobs", strict=True)


def bounded(storage: TempStorage, manager: TempFileManager) -> TempScopes:
    assert_type(LocalDiskStorage(max_bytes="10GiB").capabilities, frozenset[Capability])
    assert_type(manager.scope("stage", quota=1024), TempFileManager)
    assert_type(TempScopes(storage).open("job", quota="1GiB"), TempFileManager)
    assert_type(TempScopes(storage).quota, int | None)
    manager.register_quota_callback(print, "stop", flush=True)
    manager.register_quota_callback(half, "three")  # type: ignore[arg-type]
    return TempScopes(storage, label="video", quota="50GiB")


def pressure() -> None:
    assert_type(is_memory_pressure(), bool)
    assert_type(is_disk_pressure("/tmp", at=0.95), bool)
    assert_type(MemoryStorage().spill(at_least="1MiB"), int)


def half_a_policy_is_none(storage: TempStorage) -> None:
    TempScopes(storage, policy=object())  # type: ignore[arg-type]
    TempScopes("disk")  # type: ignore[arg-type]


def use_by_with(scopes: TempScopes) -> None:
    with scopes.open("job", policy=KeepAll()) as manager:
        assert_type(manager, TempFileManager)
        with manager.create_temp_file(suffix=".txt") as path:
            assert_type(path, Path)
        with manager.create_temp_dir() as path:
            assert_type(path, Path)
        with manager.scope("stage") as child:
            assert_type(child, TempFileManager)
        assert_type(manager.new_file(name="clip.mkv", create=False), Path)
        assert_type(manager.new_dir(), Path)
        assert_type(manager.stage("in.mkv"), StagedFile)
        assert_type(manager.publish(Path("a"), "out.mkv", overwrite=False), Path)
        assert_type(manager.publish(manager.unnamed_file(), "out.mkv"), Path)
        assert_type(manager.keep(Path("a")), Path)
        assert_type(manager.unnamed_file("w+", encoding="utf-8"), IO[Any])
        assert_type(manager.popen_kwargs(env={"A": "b"}, pass_fds=[0]), dict[str, Any])
        assert_type(manager.usage(), Usage)
        assert_type(manager.cleanup_all(), CleanupReport)
    assert_type(manager.outcome, Outcome | None)
    assert_type(manager.report, CleanupReport | None)
    assert_type(manager.closed, bool)
    assert_type(manager.close(), CleanupReport)
    assert_type(scopes.active(), list[ScopeRecord])
    assert_type(scopes.open().detach(), str)
    assert_type(scopes.attach(scopes.open().detach(ttl=timedelta(hours=1))), TempFileManager)
    scopes.open().detach("1h")  # type: ignore[call-arg]


async def use_by_async_with(scopes: TempScopes) -> None:
    async with scopes.open("job") as manager:
        assert_type(manager, TempFileManager)
        async with manager.create_temp_file() as path:
            assert_type(path, Path)
        async with manager.create_temp_dir() as path:
            assert_type(path, Path)
        assert_type(await manager.astage("in.mkv"), StagedFile)
        assert_type(await manager.apublish(path, "out.mkv"), Path)
        assert_type(await manager.acleanup_all(), CleanupReport)
    assert_type(await manager.aclose(), CleanupReport)


def without_a_container() -> None:
    manager = TempFileManager("app_", "base", storage=MemoryStorage(), policy=KeepAll(), name="job")
    manager.register_file("outside")
    manager.unregister_file(Path("outside"))
    manager.register_cleanup_callback(print, "closed", flush=True)
    assert_type(current_scope(), TempFileManager)


def half(number: int) -> float:
    return number / 2


async def half_later(number: int) -> float:
    return number / 2


def wrapping_keeps_signatures(scopes: TempScopes, manager: TempFileManager) -> None:
    assert_type(in_scope(scopes)(half)(3), float)
    assert_type(in_scope(scopes, "job")(half)(3), float)
    assert_type(manager.bind(half)(3), float)
    in_scope(scopes)(half)("three")  # type: ignore[arg-type]
    manager.bind(half)("three")  # type: ignore[arg-type]


async def wrapping_keeps_coroutines(scopes: TempScopes) -> None:
    assert_type(await in_scope(scopes)(half_later)(3), float)


class Service:
    """Something a container builds."""

    def __init__(self, manager: TempFileManager) -> None:
        self.manager = manager


def by_injection() -> None:
    container = TempContainer()
    assert_type(container.scopes(), TempScopes)
    assert_type(container.manager(), TempFileManager)
    storage: TempStorage = container.storage()
    assert_type(container.janitor(), Janitor)
    TempScopes(storage)
    PerScope(Service, manager=container.manager, per="scope")
    PerScope(Service, per="job")  # type: ignore[arg-type]
    check_container(container)
    with use_storage(MemoryStorage()):
        pass
    assert_type(Settings.from_mapping({"backend": "memory"}), Settings)
    assert_type(Settings.from_env(), Settings)
    assert_type(Settings.from_toml("settings.toml"), Settings)


def note(event: Event) -> None:
    assert_type(event.scope, str)


def look_after(storage: TempStorage, listeners: list[Listener]) -> None:
    janitor = Janitor(
        [storage, "base", lambda: storage],
        lambda: KeepLast(3),
        interval="1h",
        jitter=0.5,
        budget=SweepBudget(entries=5, seconds="1m", bytes_per_second="1MiB"),
        listeners=[note, LoggingListener()],
    )
    Janitor("base", KeepOnFailure())
    Janitor(storage, policy=3)  # type: ignore[arg-type]
    assert_type(janitor.sweep(dry_run=True), SweepReport)
    assert_type(janitor.status(), JanitorStatus)
    with janitor as started:
        assert_type(started, Janitor)
    assert_type(stats(storage), Stats)
    assert_type(stats(Path("base")), Stats)
    assert_type(sweep("base", policy=KeepAll(), budget=SweepBudget()), SweepReport)
    TempScopes(storage, listeners=listeners)
    TempScopes(storage, listeners=[print, note])
    TempScopes(storage, listeners=[3])  # type: ignore[list-item]


async def look_after_on_a_loop(janitor: Janitor) -> None:
    assert_type(await janitor.asweep(), SweepReport)
    async with janitor as started:
        assert_type(started, Janitor)
    await janitor.serve()
    await janitor.astop()


def write_a_storage(storage: TempStorage, area: TempArea, clock: Clock, error: TempscopeError) -> None:
    assert_type(storage.capabilities, frozenset[Capability])
    assert_type(area.create_file("name"), Path)
    assert_type(clock.now(), Instant)
    assert_type(error.scope, str | None)
