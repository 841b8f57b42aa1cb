"""Which storage a container gives out: the configured one, or the one a test swapped in here."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from dependency_injector import providers

from tempscope.errors import ConfigurationError
from tempscope.protocols import TempStorage


_swapped: ContextVar[TempStorage | None] = ContextVar("tempscope_swapped_storage", default=None)


class use_storage:  # noqa: N801 -- read as a verb: ``with use_storage(storage):``
    """
    Swap the storage of every :class:`~tempscope.TempContainer` inside a ``with``, here only.

    They nest, and the innermost counts; leaving does not close the storage.

    "Here" is the current context: this thread or asyncio task, the tasks it starts, and threads
    started with a copy of the context (:func:`asyncio.to_thread`, :func:`contextvars.copy_context`).
    A plain thread does not see it; there, and for a whole process, override the container:
    ``container.storage.override(storage)``.
    Where both are in force, this one counts.

    Not promised: anything about objects that were built before and hold a storage already.

    Args:
        storage: What the containers give out meanwhile.

    Raises:
        ConfigurationError: If *storage* is none, for example the class of one or a provider.
    """

    __slots__ = ("_storage", "_tokens")

    def __init__(self, storage: TempStorage) -> None:
        if isinstance(storage, type) or not callable(getattr(storage, "open_area", None)):
            raise ConfigurationError(
                f"use_storage() takes a storage, an object with open_area(), not {storage!r}"
            )
        self._storage = storage
        self._tokens: list[Token[TempStorage | None]] = []

    def __enter__(self) -> TempStorage:
        self._tokens.append(_swapped.set(self._storage))
        return self._storage

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Set up and torn down in different contexts, as async fixtures are, the value went with the
        # context it was set in.
        with contextlib.suppress(ValueError):
            _swapped.reset(self._tokens.pop())


class StorageChoice(providers.Selector[TempStorage]):
    """
    A selector that knows :class:`use_storage`, and speaks our errors.

    Lives as long as its container; shared by all threads.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        swapped = _swapped.get()
        return super().__call__(*args, **kwargs) if swapped is None else swapped

    def chosen(self) -> str:
        """
        Return the name of the configured backend.

        Raises:
            ConfigurationError: If no backend goes by that name.
        """
        name = self.selector() if self.selector is not None else None
        if name not in self.providers:
            known = ", ".join(repr(known) for known in sorted(self.providers))
            raise ConfigurationError(
                f"backend: {name!r} is no storage of this container; allowed are {known}"
            )
        return str(name)

    def _provide(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.providers[self.chosen()](*args, **kwargs)
