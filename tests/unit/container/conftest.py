"""What the container's tests share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from tempscope.policies import DeleteOnClose
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage


@pytest.fixture
def scopes(tmp_path: Path) -> TempScopes:
    """Scopes on a disk of their own."""
    return TempScopes(LocalDiskStorage(tmp_path), DeleteOnClose())


@attrs.define(eq=False)
class Log:
    """What happened, in order."""

    events: list[Any] = attrs.field(factory=list)


class Entering:
    """A context manager that writes down how it was entered and left."""

    def __init__(self, log: Log, name: str = "it", **parts: Any) -> None:
        self.log = log
        self.name = name
        self.parts = parts
        log.events.append(("built", name))

    def __enter__(self) -> Self:
        self.log.events.append(("entered", self.name))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.log.events.append(("left", self.name, *exc_info[:2]))


class AsyncEntering:
    """The asynchronous kind of :class:`Entering`."""

    def __init__(self, log: Log, name: str = "it") -> None:
        self.log = log
        self.name = name
        log.events.append(("built", name))

    async def __aenter__(self) -> Self:
        self.log.events.append(("entered", self.name))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.log.events.append(("left", self.name, *exc_info[:2]))


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """Run all *jobs* at once, each in a thread of its own; return what each returned or raised."""
    results: list[Any] = [None] * len(jobs)

    def run(number: int, job: Callable[[], Any]) -> None:
        try:
            results[number] = job()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    return results
