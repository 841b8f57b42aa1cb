"""The container's janitor and listeners: made once, asking for everything anew."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from dependency_injector import containers, providers

from tempscope import Janitor, KeepAll, KeepLast, LocalDiskStorage, MemoryStorage, TempScopes
from tempscope.container import TempContainer, check_container, use_storage
from tempscope.errors import ConfigurationError
from tempscope.janitor import SweepBudget
from tempscope.model import Event


def configured(**config: Any) -> Any:
    """Return a container with that configuration."""
    container: Any = TempContainer()
    container.config.from_dict(config)
    return container


def keep(storage: Any, *names: str) -> None:
    """Keep scopes of these names on *storage*."""
    for name in names:
        with TempScopes(storage, KeepAll()).open(name) as scope:
            scope.new_file()


def test_there_is_one_janitor(tmp_path: Path) -> None:
    """All threads that ask at once get the same janitor, and nothing runs or is made before its start."""
    container = configured(base_dir=str(tmp_path / "base"))
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        found.append(container.janitor())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(janitor) for janitor in found}) == 1
    assert isinstance(found[0], Janitor)
    assert not found[0].status().running
    assert not (tmp_path / "base").exists()


def test_it_goes_by_the_settings() -> None:
    """Interval and budget are those of the settings."""
    janitor = configured(
        janitor_interval="1h",
        janitor_jitter=0.5,
        janitor_entries=5,
        janitor_seconds="1m",
        janitor_bytes_per_second="1MiB",
    ).janitor()
    assert janitor._jitter == 0.5
    assert janitor._interval == 3600.0
    assert janitor._budget == SweepBudget(entries=5, seconds=60, bytes_per_second=1 << 20)
    assert configured(janitor_interval="off").janitor()._interval is None


def test_it_asks_for_storage_and_policy_at_each_pass(tmp_path: Path) -> None:
    """An override of the storage or the policy is seen by the next pass of the one janitor."""
    container = configured(base_dir=str(tmp_path), application="mine")
    janitor = container.janitor()
    keep(container.storage(), "a", "b", "c")
    assert janitor.sweep().kept == 3
    with container.policy.override(providers.Object(KeepLast(1))):
        assert janitor.sweep().removed == 2
    with MemoryStorage() as memory:
        keep(memory, "d", "e")
        with container.storage.override(memory):
            assert janitor.sweep().kept == 2
        with use_storage(memory):
            assert janitor.sweep().kept == 2
    assert janitor.sweep().kept == 1
    assert container.janitor() is janitor


def test_bad_settings_fail_when_the_janitor_is_asked_for() -> None:
    """A setting that cannot be is an error of who asks, not of a thread."""
    with pytest.raises(ConfigurationError, match="janitor_interval cannot be 'soon'"):
        configured(janitor_interval="soon").janitor()


def test_listeners_are_told_by_scopes_and_janitor(tmp_path: Path) -> None:
    """Listeners that the container provides hear of scopes and passes; there are none by default."""
    container = configured(base_dir=str(tmp_path))
    assert container.listeners() == ()
    events: list[Event] = []
    container.listeners.override(providers.List(providers.Object(events.append)))
    with container.scopes().open("job") as scope:
        scope.new_file()
    container.janitor().sweep()
    assert [event.kind for event in events] == ["created", "removed", "closed", "swept"]


def test_the_check_knows_the_janitor() -> None:
    """A container with our janitor passes; one that captures a storage in a janitor of its own does not."""

    class Application(containers.DeclarativeContainer):
        config = providers.Configuration()
        temp = providers.Container(TempContainer, config=config.temp)
        other = providers.ThreadSafeSingleton(Janitor, temp.storage.provider)

    check_container(Application())

    class Captive(Application):
        captive = providers.ThreadSafeSingleton(Janitor, Application.temp.storage)

    with pytest.raises(ConfigurationError, match="captive is a ThreadSafeSingleton and captures"):
        check_container(Captive())


def test_a_janitor_of_ones_own_by_provider(tmp_path: Path) -> None:
    """A janitor that is given a storage's provider calls it for each pass."""
    storage = providers.ThreadSafeSingleton(LocalDiskStorage, tmp_path)
    janitor = providers.ThreadSafeSingleton(Janitor, storage.provider)()
    assert janitor.sweep().failed == 0
