"""The temporary files of one test's fixtures, and which of them stay when it is over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import attrs
import pytest

from tempscope._open_scopes import open_managers
from tempscope._outcomes import describe
from tempscope._pytest.retention import Retention
from tempscope.manager import TempFileManager
from tempscope.model import ScopeRecord
from tempscope.protocols import CleanupPolicy, TempStorage
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage, MemoryPath, MemoryStorage, identify, remove_outside


__all__ = ["FilesOfTest"]

_NAME_CHARACTERS = 30
_RETENTION = pytest.StashKey[Retention]()


@attrs.define(eq=False)
class FilesOfTest:
    """
    Where the fixtures of one test put their files.

    Lives from the first of those fixtures to the end of the test's teardown.

    Args:
        name: What the test is called.

        base: A directory of its own, under pytest's base directory.

        retention: What may stay.
    """

    name: str
    base: Path
    retention: Retention
    storage: LocalDiskStorage = attrs.field(init=False)
    _memory: MemoryStorage | None = None
    _exception: BaseException | None = None
    _failed: bool = False

    def __attrs_post_init__(self) -> None:
        self.storage = LocalDiskStorage(self.base, application="pytest", sweep_on_start=False)

    @classmethod
    def of(cls, item: pytest.Item, places: pytest.TempPathFactory) -> FilesOfTest:
        """Return new ones, for *item*."""
        stash = item.config.stash
        if _RETENTION not in stash:
            stash[_RETENTION] = Retention.configured(item.config)
        safe = re.sub(r"\W", "_", item.name)[:_NAME_CHARACTERS]
        return cls(item.name, places.mktemp(f"tempscope-{safe}"), stash[_RETENTION])

    @property
    def policy(self) -> CleanupPolicy:
        """What becomes of the fixtures' scopes when they close."""
        return self.retention.policy

    def memory(self) -> MemoryStorage:
        """Return a storage in memory for the test, which moves files to the one on disk; asked for once."""
        self._memory = MemoryStorage(spill_to=self.storage)
        return self._memory

    def scopes(self) -> TempScopes:
        """Return what opens scopes on the test's disk."""
        return TempScopes(self.storage, self.policy)

    def scope(self, storage: TempStorage) -> Iterator[TempFileManager]:
        """Give a manager on *storage*, current until the fixture is torn down; closed as the test went."""
        manager = TempScopes(storage, self.policy).open(self.name)
        manager.__enter__()
        yield manager
        exc = self._exception
        manager.__exit__(type(exc) if exc is not None else None, exc, None)

    def went(self, report: pytest.TestReport, raised: pytest.ExceptionInfo[BaseException] | None) -> None:
        """Know how one phase of the test went."""
        if report.failed:
            self._failed = True
            if raised is not None and self._exception is None:
                self._exception = raised.value

    def settle(self) -> str:
        """Keep or remove what is there, now that the test is over; return what to tell about it."""
        try:
            return self._settle()
        except Exception as error:
            # Whatever the test did to its files, the session goes on.
            return f"they could not be settled, and are left in {self.base}: {describe(error)}"

    def _settle(self) -> str:
        kept, told = self._keep() if self._failed or self.retention.of == "all" else (False, "")
        for storage in (self._memory, self.storage):
            if storage is not None:
                storage.close()
        if not kept:
            remove_outside(str(self.base), identify(str(self.base)), roots=True)
        return told

    def _keep(self) -> tuple[bool, str]:
        for manager in reversed(open_managers()):
            if manager.storage is self.storage or manager.storage is self._memory:
                manager.close(self._exception)
        kept = [*self._kept_on_disk(), *self._kept_in_memory()]
        if not kept:
            return False, ""
        refused = self.retention.refuses(sum(record.usage.bytes for record in kept if record.usage))
        if refused:
            return False, f"not kept: {refused}"
        return True, "\n".join(f"kept, scope {_shown(record)}: {record.directory}" for record in kept)

    def _kept_on_disk(self) -> list[ScopeRecord]:
        return [record for record in self.storage.areas() if record.state == "retained"]

    def _kept_in_memory(self) -> list[ScopeRecord]:
        records = [] if self._memory is None else list(self._memory.areas())
        return [self._written(record) for record in records if record.state == "retained"]

    def _written(self, record: ScopeRecord) -> ScopeRecord:
        """Write a scope that was kept in memory to disk."""
        beside = self.base / "memory"
        beside.mkdir(exist_ok=True)
        written = cast(MemoryPath, record.directory).copy(beside / record.token, follow_symlinks=False)
        return attrs.evolve(record, directory=written)


def _shown(record: ScopeRecord) -> str:
    return repr(record.name or record.token)
