"""
KeyboardInterrupt at every opcode of the storages, while files are made and scopes close.

A signal handler runs between two opcodes, so this is all that Ctrl-C can do to Python code; what
runs in C is not interrupted.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import pytest

import tempscope
from tempscope.errors import ScopeClosedError
from tempscope.janitor import sweep
from tempscope.manager import TempFileManager
from tempscope.model import Instant, Outcome, ScopeRecord, Verdict
from tempscope.scopes import TempScopes
from tempscope.storages import LocalDiskStorage, _registry, new_token
from tempscope.storages._root import MARKER


_STORAGES = str(Path(tempscope.__file__).parent / "storages")
_BOUNDED = 300
_ENOUGH = 10


class Interrupter:
    """Raises KeyboardInterrupt before the *at*-th opcode inside the storages, once."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_STORAGES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise KeyboardInterrupt
        return self

    def run(self, work: Callable[[], object]) -> bool:
        """Do *work*; return whether it was interrupted."""

        def alone() -> Iterator[object]:
            # Between some opcodes no signal handler ever runs, and an exception raised there leaves
            # the interpreter's stack of handled exceptions torn; a generator's own ends with it.
            yield work()

        before = sys.gettrace()
        sys.settrace(self)
        try:
            list(alone())
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        return self.left <= 0


@pytest.fixture
def closed_twice(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that were closed when they were not open."""
    twice: list[int] = []
    close = os.close

    def watched(fd: int) -> None:
        try:
            close(fd)
        except OSError as error:
            if error.errno == errno.EBADF:
                twice.append(fd)
            raise

    monkeypatch.setattr(os, "close", watched)
    return twice


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """
    What was raised where nobody could catch it, except for what Python does to an interrupt anyway.

    One that strikes a finaliser is printed by Python and lost; a file object or a listing that it
    keeps from being closed closes with its last reference, and says so.
    """
    seen: list[str] = []

    def note(what: Any) -> None:
        if what.exc_type not in (KeyboardInterrupt, ResourceWarning):
            seen.append(f"{what.exc_value!r} in {what.object!r}")

    monkeypatch.setattr(sys, "unraisablehook", note)
    return seen


def descriptors() -> dict[str, str]:
    """Return the open descriptors and what they are."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # that was the listing's own
            continue
    return found


def record() -> ScopeRecord:
    """Return the record of a scope."""
    return ScopeRecord(token=new_token(), opened=Instant(1.0, 1.0, "boot"))


def create_and_remove(storage: LocalDiskStorage) -> None:
    """Use an area as a job does that ends well."""
    area = storage.open_area(record())
    area.create_file("one")
    inner = area.create_dir("inner")
    (inner / "deep").write_bytes(b"x")
    area.delete(area.create_file("two"))
    area.remove()


def create_and_retain(storage: LocalDiskStorage) -> None:
    """Use an area as a job does that fails, and is kept."""
    opened = record()
    area = storage.open_area(opened)
    area.create_file("one")
    area.retain(
        attrs.evolve(
            opened, closed=Instant(2.0, 2.0, "boot"), outcome=Outcome("failed"), verdict=Verdict(True)
        )
    )


def close(storage: LocalDiskStorage) -> None:
    """Close a storage with an open area."""
    area = storage.open_area(record())
    area.create_file("one")
    storage.close()


def share(storage: LocalDiskStorage) -> None:
    """Use an area as a job does that starts commands."""
    area = storage.open_area(record())
    area.lease_fd()
    with area.unnamed_file("w+b") as file:
        file.write(b"x")
    area.lease_fd()
    area.remove()


def opcodes_of(work: Callable[[LocalDiskStorage], None], base: Path) -> int:
    """Return how many opcodes *work* runs inside the storages."""
    counter = Interrupter(sys.maxsize)
    # What other tests left to the collector would count as ours.
    gc.collect()
    storage = LocalDiskStorage(base, sweep_on_start=False)
    assert not counter.run(partial(work, storage))
    storage.close()
    return sys.maxsize - counter.left


def chosen(count: int, full: bool) -> Iterator[int]:
    """Choose the opcodes to strike: all, or evenly spread ones."""
    return iter(range(1, count + 1, 1 if full else max(1, count // _BOUNDED)))


def repaired(storage: LocalDiskStorage) -> None:
    """Go on after an interrupt: a new area works, and closing takes all away."""
    area = storage.open_area(record())
    path = area.create_file("afterwards")
    assert path.exists()
    assert area.remove().complete
    storage.close()


def strike(at: int, base: Path, work: Callable[[LocalDiskStorage], None]) -> tuple[Interrupter, list[str]]:
    """Interrupt *work* at its *at*-th opcode and go on; return where, and what then went wrong."""
    storage = LocalDiskStorage(base, sweep_on_start=False)
    interrupter = Interrupter(at)
    interrupter.run(partial(work, storage))
    faults = []
    try:
        repaired(storage)
    except ScopeClosedError:
        if work is not close:
            faults.append("the storage cannot be used any more")
        storage.close()
    except Exception as error:
        faults.append(f"afterwards {type(error).__name__}: {error}")
    return interrupter, faults


def leaked(before: dict[str, str]) -> list[str]:
    """Return what is open and was not *before*."""
    if descriptors() != before:
        gc.collect()
    return [f"leaked {path}" for number, path in descriptors().items() if number not in before]


def left(base: Path) -> list[str]:
    """Return what a sweep leaves under the root in *base*."""
    sweep(base)
    return [f"left behind: {path.name}" for path in base.glob("*/*") if path.name != MARKER]


@pytest.fixture(autouse=True)
def fresh_lock() -> Iterator[None]:
    """
    Give the other tests of this process a registry lock that nobody holds.

    One of the opcodes lies between taking a lock and entering its ``with``; CPython runs no signal handler
    there, so what is left locked by our striking there is the test's doing.
    """
    yield
    _registry._registry.lock = threading.RLock()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("work", [create_and_remove, create_and_retain, close, share])
def test_interrupt_at_every_opcode(
    work: Callable[[LocalDiskStorage], None],
    tmp_path: Path,
    full: bool,
    closed_twice: list[int],
    lost: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    Wherever Ctrl-C strikes, no descriptor leaks or is closed twice, and the next call works.

    Rows 5, 75.
    """
    opcodes_of(work, tmp_path / "warm")
    count = opcodes_of(work, tmp_path / "count")
    planned = list(chosen(count, full))
    gc.collect()
    fired, faults = 0, []
    for at in planned:
        before, base = descriptors(), tmp_path / str(at)
        interrupter, found = strike(at, base, work)
        fired += interrupter.left <= 0
        found += leaked(before) + [f"descriptor {fd} closed twice" for fd in closed_twice]
        found += left(base) if work is not create_and_retain else []
        closed_twice.clear()
        faults += [f"{interrupter.where}: {fault}" for fault in found]
        if len(faults) > _ENOUGH:
            break
    with capsys.disabled():
        print(f"\ninterrupts, {work.__name__}: {fired}/{len(planned)} fired, of {count} opcodes")
    assert not faults, "\n".join(faults)
    assert lost == []
    assert fired == len(planned)


def waiting(base: Path) -> list[str]:
    """Return the tokens of the scopes that wait in *base*."""
    return [path.name[2:] for path in base.glob("*/d-*")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["detach", "attach"])
def test_interrupt_between_processes(
    which: str, tmp_path: Path, full: bool, closed_twice: list[int], lost: list[str]
) -> None:
    """Wherever Ctrl-C strikes detach or attach, the scope waits, or is here, or was closed, whole."""
    base, outside, at, again = tmp_path / "base", tmp_path / "outside", 1, 0
    with LocalDiskStorage(base, sweep_on_start=False) as storage:
        scopes = TempScopes(storage)
        fired = True
        while fired:
            outside.write_text("registered")
            manager = scopes.open("job")
            manager.new_file(name="file")
            manager.register_file(outside)
            taken: list[TempFileManager] = []
            if which == "attach":
                token = manager.detach()
                fired = Interrupter(at).run(partial(attach_to, taken, scopes, token))
            else:
                fired = Interrupter(at).run(manager.detach)
            tokens, files = waiting(base), list(base.glob("*/i-*/a*/file"))
            closed = which == "attach" and not outside.exists()
            assert len(tokens) + len(files) == int(not closed), at
            assert outside.exists() is not closed, at
            if which == "detach" and not tokens:
                names = [name for name in os.listdir(manager.directory) if not name.endswith(".new")]
                assert names == ["file"], at
            manager.close()
            assert outside.exists() is (bool(tokens) or (which == "attach" and not closed)), at
            again += len(tokens)
            for each in taken or [scopes.attach(token) for token in tokens]:
                each.close()
            if not tokens and not taken:
                # It was taken over when the interrupt came; whose it is now its storage removes.
                for path in files:
                    path.unlink(missing_ok=True)
            at += 1 if full else 7
    assert again > 5
    assert closed_twice == lost == []


def attach_to(taken: list[TempFileManager], scopes: TempScopes, token: str) -> None:
    """Attach, and remember what that gave."""
    taken.append(scopes.attach(token))
