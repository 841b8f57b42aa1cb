"""A container for a test: on the test's storage, and as it was before when the test is over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tempscope._pytest.files import FilesOfTest
from tempscope.container import TempContainer
from tempscope.container._storage_choice import StorageChoice


__all__ = ["container_of_test", "overrides_undone"]


@contextlib.contextmanager
def container_of_test(application: Any, files: FilesOfTest) -> Iterator[Any]:
    """
    Put *application*, or a container made for the purpose, on the test's storage for a ``with`` block.

    The policies of an application are its own.
    """
    container = application
    if container is None:
        container = TempContainer()
        container.policy.override(files.policy)
    with overrides_undone(container):
        for choice in container.traverse(types=[StorageChoice]):
            choice.override(files.storage)
        yield container


@contextlib.contextmanager
def overrides_undone(container: Any) -> Iterator[None]:
    """
    Undo, at the end of a ``with`` block, every override made in it anywhere in *container*.

    Values of a configuration are overrides too.
    What was overridden before stays so.
    """
    before = [(provider, len(provider.overridden)) for provider in container.traverse()]
    overriding = container.overridden
    try:
        yield
    finally:
        for provider, count in before:
            while len(provider.overridden) > count:
                provider.reset_last_overriding()
        # Not by the container's own method: that fails as soon as one of its providers has no override.
        container.overridden = overriding
