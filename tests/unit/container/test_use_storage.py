"""``use_storage``: another storage, here only."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.container import TempContainer, use_storage
from tempscope.errors import ConfigurationError
from tempscope.storages import LocalDiskStorage, MemoryStorage

from .conftest import in_threads


@pytest.fixture
def container(tmp_path: Path) -> Any:
    """A container on a disk of its own."""
    container: Any = TempContainer()
    container.config.from_dict({"base_dir": str(tmp_path)})
    return container


def test_every_container_gives_out_the_swapped_storage(container: Any) -> None:
    """Inside the ``with`` all containers, and the scopes they make, have the other storage."""
    memory = MemoryStorage()
    with use_storage(memory) as given:
        assert given is memory
        assert container.storage() is memory
        assert container.scopes().storage is memory
        assert TempContainer().storage() is memory
    assert isinstance(container.storage(), LocalDiskStorage)


def test_it_nests_and_the_innermost_counts(container: Any) -> None:
    """Leaving an inner one brings the outer one back."""
    outer, inner = MemoryStorage(), MemoryStorage()
    with use_storage(outer):
        with use_storage(inner):
            assert container.storage() is inner
        assert container.storage() is outer


def test_leaving_by_an_exception_brings_the_other_back(container: Any) -> None:
    """An error inside goes on, and the swap ends with it."""
    with pytest.raises(ValueError, match="test"), use_storage(MemoryStorage()):
        raise ValueError("test")
    assert isinstance(container.storage(), LocalDiskStorage)


def test_one_object_can_be_used_again(container: Any) -> None:
    """The same object serves several ``with``, also inside of itself."""
    memory = MemoryStorage()
    swap = use_storage(memory)
    with swap, swap:
        assert container.storage() is memory
    with swap:
        assert container.storage() is memory
    assert isinstance(container.storage(), LocalDiskStorage)


def test_it_counts_more_than_an_override_of_the_container(container: Any) -> None:
    """Beside a process-wide override this one decides; without it the override does."""
    overriding, swapped = MemoryStorage(), MemoryStorage()
    with container.storage.override(overriding):
        with use_storage(swapped):
            assert container.storage() is swapped
        assert container.storage() is overriding
    assert isinstance(container.storage(), LocalDiskStorage)


def test_each_asyncio_task_has_its_own(container: Any) -> None:
    """Tasks that swap at the same time do not see each other's; a child task sees its parent's."""
    first, second = MemoryStorage(), MemoryStorage()

    async def ask() -> Any:
        return container.storage()

    async def main() -> None:
        both = asyncio.Barrier(2)

        async def swap(storage: MemoryStorage) -> None:
            with use_storage(storage):
                await both.wait()
                assert container.storage() is storage
                assert await asyncio.create_task(ask()) is storage
                assert await asyncio.to_thread(container.storage) is storage
                await both.wait()

        await asyncio.gather(swap(first), swap(second))
        assert isinstance(container.storage(), LocalDiskStorage)

    asyncio.run(main())


def test_a_plain_thread_does_not_see_it_and_a_copied_context_does(container: Any) -> None:
    """The swap is the context's: a new thread begins without, ``copy_context`` takes it along."""
    memory = MemoryStorage()
    with use_storage(memory):
        copied = contextvars.copy_context()
        plain, carried = in_threads(container.storage, lambda: copied.run(container.storage))
    assert isinstance(plain, LocalDiskStorage)
    assert carried is memory


def test_a_thread_sees_an_override_of_the_container(container: Any) -> None:
    """For what plain threads do, the container's own override is the one to use."""
    memory = MemoryStorage()
    with container.storage.override(memory):
        assert in_threads(container.storage) == [memory]


def test_it_may_be_left_in_another_context() -> None:
    """Async fixtures are set up and torn down in different contexts: leaving is no error."""

    def fixture() -> Iterator[None]:
        with use_storage(MemoryStorage()):
            yield

    running = fixture()
    contextvars.copy_context().run(next, running)
    with pytest.raises(StopIteration):
        contextvars.copy_context().run(next, running)


@pytest.mark.parametrize("wrong", [MemoryStorage, "memory", None, TempContainer.storage])
def test_only_a_storage_will_do(wrong: Any) -> None:
    """A class, a name or a provider is refused at once, and named."""
    with pytest.raises(ConfigurationError, match="takes a storage"):
        use_storage(wrong)


def test_racing_threads_build_one_storage(tmp_path: Path) -> None:
    """Threads that ask a new container at once receive the same storage: one lease, not several."""
    container: Any = TempContainer()
    container.config.from_dict({"base_dir": str(tmp_path)})
    all_ask = threading.Barrier(8, timeout=10)

    def ask() -> Any:
        all_ask.wait()
        return container.storage()

    assert len({id(one) for one in in_threads(*[ask] * 8)}) == 1
