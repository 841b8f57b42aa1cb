"""The container that an application nests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from dependency_injector import containers, providers

from tempscope.container._storage_choice import StorageChoice
from tempscope.janitor import Janitor, SweepBudget
from tempscope.protocols import CleanupPolicy, Listener, TempStorage
from tempscope.scopes import TempScopes, current_scope
from tempscope.settings import Settings
from tempscope.storages import HardlinkStorage, LocalDiskStorage, MemoryStorage, RamDiskStorage


def _disk_to_spill_to(spill: bool, disk: Callable[[], LocalDiskStorage]) -> LocalDiskStorage | None:
    return disk() if spill else None


def _of_a_disk(max_bytes: int | None, backend: str) -> int | None:
    # With the memory backend it bounds the memory, not the disk that is spilled to.
    return None if backend == "memory" else max_bytes


def _storage_of(settings: Any) -> StorageChoice:
    """
    Return the choice between our storages, each made once and from its settings.

    Thread-safe singletons: a plain one builds as many as there are threads that race.
    """
    common = {
        "application": settings.application,
        "sweep_on_start": settings.sweep_on_start,
        "background_removal": settings.background_removal,
        "trust_locks": settings.trust_locks,
        "max_bytes": providers.Callable(_of_a_disk, settings.max_bytes, settings.backend),
    }
    once = providers.ThreadSafeSingleton
    disk = once(LocalDiskStorage, base_dir=settings.base_dir, **common)
    return StorageChoice(
        settings.backend,
        disk=disk,
        ram=once(RamDiskStorage, **common),
        memory=once(
            MemoryStorage,
            max_bytes=settings.max_bytes,
            max_files=settings.max_files,
            spill_to=providers.Callable(_disk_to_spill_to, settings.spill, disk.provider),
            spill_above=settings.spill_above,
        ),
        hardlink=once(
            HardlinkStorage,
            base_dir=settings.base_dir,
            threshold=settings.threshold,
            verify_content=settings.verify_content,
            **common,
        ),
    )


def _janitor_of(
    storage: Callable[[], TempStorage],
    policy: Callable[[], CleanupPolicy],
    settings: Settings,
    listeners: Iterable[Listener],
) -> Janitor:
    """
    Return a janitor that asks for storage and policy anew at each pass.

    They come as functions of their own, since a provider has whatever attribute it is asked for.
    """
    return Janitor(
        partial(storage),
        partial(policy),
        interval=settings.janitor_interval,
        jitter=settings.janitor_jitter,
        budget=SweepBudget(
            entries=settings.janitor_entries,
            seconds=settings.janitor_seconds,
            bytes_per_second=settings.janitor_bytes_per_second,
        ),
        listeners=listeners,
    )


class TempContainer(containers.DeclarativeContainer):
    """
    What services receive: scopes, the current scope's manager, and the storage below them.

    An instance lives as long as the application; shared by all threads.
    Nest it, and override what is different in a test::

        class Application(containers.DeclarativeContainer):
            config = providers.Configuration()
            temp = providers.Container(TempContainer, config=config.temp)
            service = providers.Factory(VideoService, scopes=temp.scopes)

    The storages are made once: a setting of theirs that changes later, ``base_dir`` for one, is not
    seen before ``storage.disk.reset()`` (or ``ram``, ``memory``, ``hardlink``).
    Everything above a storage is made anew each time, so that an override is seen at once.
    The janitor is made once too, and asks for storage and policy anew at each pass; nothing runs
    before its ``start()``.
    The container only wires: a scope lives by the ``with`` of the service that opened it.

    Attributes:
        config: The settings as a mapping; a missing or partial one gets the defaults.

        settings: The checked :class:`~tempscope.Settings`; unknown keys raise.

        storage: The one that the setting ``backend`` names.

        policy: What the settings say about keeping.

        scopes: A :class:`~tempscope.TempScopes`, for services that own jobs.

        manager: The current scope's :class:`~tempscope.TempFileManager`, for those that work in one.

        janitor: The application's :class:`~tempscope.Janitor`.

        listeners: Functions that are told what happens in scopes and in the janitor's passes; none,
            until it is overridden.
    """

    config = providers.Configuration()
    settings = providers.Callable(Settings.from_mapping, config)
    storage = _storage_of(settings.provided)
    policy = settings.provided.policy
    listeners = providers.Object[tuple[Listener, ...]](())
    scopes = providers.Factory(
        TempScopes,
        storage,
        policy,
        label=settings.provided.label,
        quota=settings.provided.quota,
        strict=settings.provided.strict,
        listeners=listeners,
    )
    manager = providers.Callable(current_scope)
    janitor = providers.ThreadSafeSingleton(
        _janitor_of, storage.provider, policy.provider, settings, listeners
    )
