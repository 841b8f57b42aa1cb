"""Storages that fail on demand, and that remember what was asked of them."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tempscope import (
    Capability,
    DeleteOnClose,
    Instant,
    LocalDiskStorage,
    MemoryStorage,
    ScopeRecord,
    StorageFull,
    TempScopes,
    Verdict,
)
from tempscope.protocols import (
    CommandLease,
    GivingUp,
    HandingOver,
    OutsidePathJournal,
    TakingOver,
    UnnamedFiles,
)
from tempscope.testing import Call, FaultyStorage, RecordingStorage


RECORD = ScopeRecord(token="a" * 26, name="job", opened=Instant(1.0, 1.0))
OPTIONAL = (GivingUp, OutsidePathJournal, HandingOver, CommandLease, UnnamedFiles)


class Everything:
    """An inner storage, or area, that has every method and says which was called with what."""

    application = "everything"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def open_area(self, record: ScopeRecord) -> Everything:
        return self

    def areas(self) -> list[ScopeRecord]:
        return [RECORD]

    def reclaim(self, record: ScopeRecord, verdict: Verdict) -> str:
        return "reclaimed"

    def close(self) -> None:
        self.told.append(("close",))

    def take_over(self, token: str) -> tuple[ScopeRecord, Everything, dict[str, str], list[Any]]:
        return RECORD, self, {"/path": token}, []

    def give_up(self, path: Path) -> Path:
        return path / "given_up"

    def note_outside(self, path: Path, identity: str) -> None:
        self.told.append(("note_outside", path, identity))

    def forget_outside(self, path: Path) -> None:
        self.told.append(("forget_outside", path))

    def hand_over(self, record: ScopeRecord, outside: dict[str, str], staged: list[Any]) -> str:
        return "token"

    def lease_fd(self) -> int:
        return 7

    def unnamed_file(self, mode: str) -> str:
        return f"file {mode}"


def test_every_optional_call_gets_through() -> None:
    """Whatever an inner storage can do, the wrapped one hands on and answers alike."""
    inner = Everything()
    storage: Any = RecordingStorage(inner)
    area = storage.open_area(RECORD)
    assert storage.inner is inner
    assert storage.application == "everything"
    assert storage.capabilities == frozenset(Capability)
    assert list(storage.areas()) == [RECORD]
    assert storage.reclaim(RECORD, Verdict(keep=False)) == "reclaimed"
    assert area.give_up(Path("/a")) == Path("/a/given_up")
    area.note_outside(Path("/b"), "identity")
    area.forget_outside(Path("/b"))
    assert area.hand_over(RECORD, {}, []) == "token"
    assert area.lease_fd() == 7
    assert area.unnamed_file("w+b") == "file w+b"
    record, taken, outside, staged = storage.take_over("token")
    assert (record, outside, staged) == (RECORD, {"/path": "token"}, [])
    assert taken.lease_fd() == 7
    storage.close()
    assert inner.told == [
        ("note_outside", Path("/b"), "identity"),
        ("forget_outside", Path("/b")),
        ("close",),
    ]
    assert storage.methods[-4:] == ("unnamed_file", "take_over", "lease_fd", "close")


def test_what_the_inner_one_cannot_is_not_there() -> None:
    """A wrapped area has those optional protocols that the inner one has, and no others."""
    bare = SimpleNamespace(open_area=lambda record: object())
    for inner, able in ((bare, False), (Everything(), True)):
        storage = FaultyStorage(inner)  # type: ignore[arg-type]
        area = storage.open_area(RECORD)
        assert [isinstance(area, protocol) for protocol in OPTIONAL] == [able] * len(OPTIONAL)
        assert isinstance(storage, TakingOver) is able
        assert type(storage).__name__ == "FaultyStorage"
    assert RecordingStorage(MemoryStorage()).application == ""


def test_the_nth_call_fails() -> None:
    """The call asked for raises the error given, instead of being done; all others are done."""
    storage = FaultyStorage(MemoryStorage())
    storage.fail("create_file", StorageFull("no room"), call=2)
    with TempScopes(storage, DeleteOnClose()).open() as manager:
        first = manager.new_file(name="first")
        with pytest.raises(StorageFull, match="no room") as caught:
            manager.new_file(name="second")
        assert caught.value.errno == errno.ENOSPC
        assert sorted(path.name for path in manager.directory.iterdir()) == ["first"]
        assert manager.new_file(name="second").parent == first.parent


def test_several_calls_fail() -> None:
    """A fault lasts for as many calls as asked for, or until it is healed."""
    area = (storage := FaultyStorage(MemoryStorage())).open_area(RECORD)
    storage.fail("create_dir", OSError, times=2)
    storage.fail("usage", KeyboardInterrupt, times=None)
    for _ in range(2):
        with pytest.raises(OSError, match=r"^$"):
            area.create_dir("name")
    area.create_dir("name")
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            area.usage()
    storage.heal()
    assert area.usage().directories == 1


def test_a_hook_sees_the_call() -> None:
    """A hook is called before the call, with its arguments; its answer does not matter."""
    storage = FaultyStorage(MemoryStorage())
    area = storage.open_area(RECORD)
    seen: list[tuple[str, list[str]]] = []

    def look(name: str) -> str:
        seen.append((name, [path.name for path in area.directory.iterdir()]))
        return "ignored"

    storage.hook("create_file", look, call=2, times=1)
    for name in "abc":
        assert area.create_file(name).name == name
    assert seen == [("b", ["a"])]


def test_calls_are_counted_together() -> None:
    """Of several threads one meets the fault: calls are counted for all areas together."""
    storage = FaultyStorage(MemoryStorage())
    area = storage.open_area(RECORD)
    storage.fail("create_file", StorageFull("no room"), call=4)
    start = threading.Barrier(8)
    failed = []

    def work(number: int) -> None:
        start.wait()
        try:
            area.create_file(str(number))
        except StorageFull:
            failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 1
    assert area.usage().files == 7


def test_the_directory_can_fail() -> None:
    """The area's property is told by its name, like a method."""
    storage = FaultyStorage(MemoryStorage())
    area = storage.open_area(RECORD)
    storage.fail("directory", StorageFull("no room"))
    with pytest.raises(StorageFull):
        _ = area.directory
    assert area.directory.is_dir()


def test_a_wrong_fault_is_refused() -> None:
    """A method that nobody has, or a call before the first, is an error that says so."""
    storage = FaultyStorage(MemoryStorage())
    with pytest.raises(ValueError, match=r"no area has a method 'publish': areas, close, .*give_out"):
        storage.fail("publish", OSError())
    with pytest.raises(ValueError, match="call is 0: calls are counted from 1"):
        storage.hook("usage", print, call=0)


def test_calls_are_recorded(tmp_path: Path) -> None:
    """Every call is written down with its arguments and its answer, or the error it raised."""
    with RecordingStorage(LocalDiskStorage(tmp_path)) as storage:
        area = storage.open_area(RECORD)
        path = area.create_file("name")
        with pytest.raises(FileExistsError) as caught:
            area.create_file("name")
        area.give_out(path, tmp_path / "out", overwrite=False, durable=False, mode=None, progress=None)
        assert storage.methods == ("open_area", "create_file", "create_file", "give_out")
        assert storage.calls[1] == Call(method="create_file", args=("name",), result=path)
        assert storage.calls[2].error is caught.value
        assert storage.calls[3].args == (path, tmp_path / "out")
        assert storage.calls[3].kwargs["overwrite"] is False
        storage.forget()
        assert storage.calls == ()
    assert storage.methods == ("close",)


def test_they_show_what_they_wrap() -> None:
    """The repr of a fake names what it wraps."""
    storage = FaultyStorage(MemoryStorage())
    assert repr(storage) == "FaultyStorage(MemoryStorage())"
    assert repr(storage.open_area(RECORD)).startswith("FaultyStorage's <")
