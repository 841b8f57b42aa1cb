"""``TempContainer``: what it gives out, from what configuration, and how it nests."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import containers, providers

from tempscope.container import TempContainer, use_storage
from tempscope.errors import ConfigurationError, NoOpenScopeError, StagedSourceChangedError
from tempscope.policies import DeleteOnClose
from tempscope.scopes import TempScopes
from tempscope.settings import Settings
from tempscope.storages import HardlinkStorage, LocalDiskStorage, MemoryStorage, RamDiskStorage


def configured(**config: Any) -> Any:
    """Return a container with that configuration."""
    container: Any = TempContainer()
    container.config.from_dict(config)
    return container


def nested(config: dict[str, Any] | None = None) -> Any:
    """Return an application container that nests ours, with *config* if there is any."""

    class Application(containers.DeclarativeContainer):
        config = providers.Configuration()
        temp = providers.Container(TempContainer, config=config.temp)

    application: Any = Application()
    if config is not None:
        application.config.from_dict(config)
    return application


# Configuration


def test_without_configuration_there_are_the_defaults() -> None:
    """A missing configuration is the default one, alone and nested."""
    assert TempContainer().settings() == Settings()
    assert nested().temp.settings() == Settings()
    assert nested({"other": 1}).temp.settings() == Settings()


def test_a_partial_configuration_gets_the_other_defaults(tmp_path: Path) -> None:
    """What a nested configuration leaves out has its default, although nesting replaced ours wholly."""
    settings = nested({"temp": {"base_dir": str(tmp_path)}}).temp.settings()
    assert settings == Settings(base_dir=tmp_path)


@pytest.mark.parametrize("backend", ["disk", "memory", "hardlink", "ram"])
def test_a_storage_is_made_anew_when_its_provider_is_reset(backend: str) -> None:
    """A setting that changes later makes no other storage; resetting the storage's provider does."""
    container = configured(backend=backend, max_bytes=1)
    storage, janitor = container.storage(), container.janitor()
    container.config.from_dict({"max_bytes": 2})
    assert container.storage() is storage
    getattr(container.storage, backend).reset()
    assert container.storage() is not storage
    assert type(container.storage()) is type(storage)
    assert container.janitor() is janitor


def test_the_configuration_can_be_replaced_by_a_plain_mapping() -> None:
    """A mapping passed when nesting, or as an override, is the configuration."""

    class Application(containers.DeclarativeContainer):
        temp = providers.Container(TempContainer, config={"backend": "memory"})

    assert Application().temp.settings().backend == "memory"
    container = TempContainer(config={"backend": "ram"})
    assert container.settings().backend == "ram"


def test_an_unknown_key_raises() -> None:
    """A mistyped key is named when anything is asked for, and not silently passed over."""
    container = nested({"temp": {"bakcend": "disk"}}).temp
    for provider in (container.settings, container.storage, container.scopes):
        with pytest.raises(ConfigurationError, match="bakcend"):
            provider()


def test_an_unknown_backend_raises() -> None:
    """A backend that is none is named with those that are, when the storage is asked for."""
    with pytest.raises(ConfigurationError, match="tape.*disk.*ram.*memory.*hardlink"):
        configured(backend="tape").storage()


def test_a_choice_without_that_backend_raises() -> None:
    """A container that offers fewer storages than the settings know says which it has."""
    container = configured(backend="ram")
    container.storage.set_providers(disk=container.storage.disk)
    with pytest.raises(ConfigurationError, match="backend: 'ram' is no storage of this container.*'disk'"):
        container.storage()


def test_a_configuration_that_changes_is_seen() -> None:
    """Another backend counts from the next call; the settings are not kept."""
    container = configured(backend="disk")
    assert isinstance(container.storage(), LocalDiskStorage)
    container.config.from_dict({"backend": "memory"})
    assert isinstance(container.storage(), MemoryStorage)


# Storages


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("disk", LocalDiskStorage),
        ("ram", RamDiskStorage),
        ("memory", MemoryStorage),
        ("hardlink", HardlinkStorage),
    ],
)
def test_each_backend_is_one_storage(backend: str, kind: type, tmp_path: Path) -> None:
    """One line of configuration says where the bytes live; the storage is made once."""
    container = configured(backend=backend, base_dir=str(tmp_path))
    assert type(container.storage()) is kind
    assert container.storage() is container.storage()
    assert container.scopes().storage is container.storage()


def test_building_a_storage_makes_nothing(tmp_path: Path) -> None:
    """Asking for storage and scopes touches no disk; the first file does."""
    container = configured(base_dir=str(tmp_path))
    container.storage()
    with container.scopes().open() as manager:
        assert list(tmp_path.iterdir()) == []
        assert tmp_path in manager.new_file().parents


def test_memory_spills_to_the_configured_disk(tmp_path: Path) -> None:
    """The container's memory storage moves a file to our disk when its real path is asked for."""
    container = configured(backend="memory", base_dir=str(tmp_path))
    with container.scopes().open() as manager:
        path = manager.new_file(".txt")
        path.write_text("x")
        assert tmp_path in Path(str(path)).parents
        with open(path) as file:
            assert file.read() == "x"


def test_the_disk_that_memory_spills_to_is_as_configured(tmp_path: Path) -> None:
    """What is set for a disk is for the one below the memory storage too, and nothing is ignored."""
    container = configured(
        backend="memory",
        base_dir=str(tmp_path),
        application="cutter",
        background_removal=True,
        trust_locks=True,
        sweep_on_start=False,
    )
    disk = container.storage()._spill_to
    assert disk is container.storage.providers["disk"]()
    made = {
        name: getattr(disk, f"_{name}") for name in ("background_removal", "trust_locks", "sweep_on_start")
    }
    assert made == {"background_removal": True, "trust_locks": True, "sweep_on_start": False}
    assert disk.application == "cutter"


def test_links_are_made_and_checked_as_set(tmp_path: Path) -> None:
    """The hard-linking storage gets its threshold, and whether it compares content."""
    source = tmp_path / "source"
    source.write_bytes(b"theirs")
    before = source.stat()
    container = configured(backend="hardlink", base_dir=str(tmp_path), threshold="6B", verify_content=True)
    with pytest.raises(StagedSourceChangedError, match="content"), container.scopes().open() as job:
        assert job.stage(source).method == "hardlink"
        source.write_bytes(b"forged")
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_swapped_storage_asks_nothing_of_the_settings() -> None:
    """A storage that a test puts in place goes with any settings, made for whatever backend."""
    for settings in (
        {"backend": "memory", "spill_above": "1MiB", "max_files": 7},
        {"backend": "hardlink", "threshold": "1MiB", "trust_locks": True},
    ):
        container = configured(**settings)
        for storage in (MemoryStorage(), RamDiskStorage()):
            with use_storage(storage):
                assert container.scopes().storage is storage
            with container.storage.override(providers.Object(storage)):
                assert container.scopes().storage is storage


def test_a_storage_of_ones_own_is_one_more_choice() -> None:
    """Another backend is added to the selector, or put in place of ours by an override."""
    storage = MemoryStorage()
    container: Any = TempContainer()
    container.storage.override(providers.Object(storage))
    assert container.storage() is storage
    assert container.scopes().storage is storage
    container.storage.reset_override()
    container.storage.set_providers(**container.storage.providers, disk2=providers.Object(storage))
    container.settings.override(Settings())
    assert isinstance(container.storage(), LocalDiskStorage)


def test_each_container_has_storages_of_its_own() -> None:
    """Two containers share no storage object."""
    assert TempContainer().storage() is not TempContainer().storage()


# Scopes, policy, manager


def test_scopes_are_made_from_the_settings() -> None:
    """Everything above the storage is made anew, with the policy that the settings name."""
    container = TempContainer()
    scopes = container.scopes()
    assert isinstance(scopes, TempScopes)
    assert container.scopes() is not scopes
    assert isinstance(scopes.policy, DeleteOnClose)


def test_the_manager_is_the_current_scopes() -> None:
    """``manager`` is whatever scope is current, and an error outside of any."""
    container = TempContainer()
    with pytest.raises(NoOpenScopeError):
        container.manager()
    with container.scopes().open() as job:
        assert container.manager() is job
        with job.scope() as stage:
            assert container.manager() is stage


def test_an_override_is_seen_at_once() -> None:
    """Scopes that are made after an override have the other storage, and the first again after it."""
    container: Any = TempContainer()
    before = container.scopes()
    memory = MemoryStorage()
    with container.storage.override(memory):
        assert container.scopes().storage is memory
        assert before.storage is not memory
    assert container.scopes().storage is container.storage()


def test_a_nested_container_is_overridden_from_outside() -> None:
    """``application.temp.storage`` and ``override_providers`` reach what nests."""
    application = nested()
    memory = MemoryStorage()
    with application.temp.override_providers(storage=providers.Object(memory)):
        assert application.temp.scopes().storage is memory
    assert isinstance(application.temp.storage(), LocalDiskStorage)


# Wiring


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module that wiring can find."""
    module = types.ModuleType("tempscope_wired_service")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


SERVICE = """
from dependency_injector.wiring import Provide, inject
from tempscope.scopes import current_scope, in_scope

@in_scope(scopes, name="job")
@inject
def work(number, manager=Provide["manager"]):
    return number, manager, current_scope()

@in_scope(scopes, name="job")
@inject
async def awork(number, *, manager=Provide["manager"]):
    return number, manager, current_scope()
"""


def test_in_scope_outside_inject_gives_the_scope_it_opened(module: types.ModuleType) -> None:
    """Wiring must not slip in between: the injected manager is the one of the scope just opened."""
    import asyncio

    container: Any = TempContainer()
    module.__dict__["scopes"] = container.scopes
    exec(compile(SERVICE, module.__name__, "exec", dont_inherit=True), module.__dict__)
    container.wire(modules=[module])
    number, manager, current = module.work(3)
    assert number == 3
    assert manager is current
    number, manager, current = asyncio.run(module.awork(number=4))
    assert number == 4
    assert manager is current
    container.unwire()


@pytest.mark.parametrize("backend", ["disk", "ram", "hardlink", "memory"])
def test_quotas_are_settings(backend: str, tmp_path: Path) -> None:
    """The settings quota and max_bytes reach the scopes and the storage."""
    container = configured(backend=backend, base_dir=str(tmp_path), quota="1MiB", max_bytes="2MiB")
    storage = container.storage()
    try:
        assert container.scopes().quota == 1024**2
        if backend == "memory":
            # It bounds the memory, not the disk that is spilled to.
            assert (storage._volume.max_bytes, storage._spill_to.limit) == (2 * 1024**2, None)
        else:
            assert storage.limit.max_bytes == 2 * 1024**2
    finally:
        storage.close()
