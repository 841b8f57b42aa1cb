"""Removing trash in a thread: the quick way, never the only one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tempscope.storages import _background
from tempscope.storages._background import BackgroundRemoval, wait_for_all
from tempscope.storages._descriptor import Descriptor
from tempscope.storages._root import Root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """A root that is open."""
    descriptor = Descriptor.open(str(tmp_path), os.O_RDONLY)
    yield Root(str(tmp_path), descriptor, (0, 0))
    descriptor.close()


def trash(tmp_path: Path, name: str) -> str:
    """Make some trash."""
    (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / name / "sub" / "f").write_text("x")
    return name


class Gate:
    """Holds the first removal until it is let go."""

    def __init__(self, mocker: Any) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.threads: set[str] = set()
        self._really = _background.remove_entry
        mocker.patch.object(_background, "remove_entry", self.remove)

    def remove(self, fd: int, name: str) -> Any:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.opened.wait(30)
        return self._really(fd, name)


def test_all_that_was_put_is_gone_after_waiting(tmp_path, root):
    """What is put is removed; after waiting nothing of it is left, and there is no thread any more."""
    removal = BackgroundRemoval()
    for round_ in range(2):
        for number in range(5):
            removal.put(root, trash(tmp_path, f"t{round_}{number}"))
        removal.wait()
        assert os.listdir(tmp_path) == []
    removal.wait()
    assert [thread for thread in threading.enumerate() if thread.name == "tempscope-removal"] == []


def test_one_thread_does_all_and_putting_does_not_wait(tmp_path, root, mocker):
    """Putting returns at once, also while a removal takes long; one thread works through all of it."""
    gate, removal = Gate(mocker), BackgroundRemoval()
    for number in range(4):
        removal.put(root, trash(tmp_path, f"t{number}"))
    assert gate.entered.wait(30)
    removal.wait(0.0)
    assert len(os.listdir(tmp_path)) == 4
    gate.opened.set()
    wait_for_all(30.0)
    assert os.listdir(tmp_path) == []
    assert gate.threads == {"tempscope-removal"}


def test_without_threads_it_is_done_at_once(tmp_path, root, mocker):
    """
    P7, row 70: where no thread can be started, as at the interpreter's end.

    The removal is done in place.
    """
    mocker.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))
    removal = BackgroundRemoval()
    for number in range(2):
        removal.put(root, trash(tmp_path, f"t{number}"))
    assert os.listdir(tmp_path) == []
    removal.wait()


def test_a_finaliser_may_put_while_putting(tmp_path, root, mocker):
    """
    A finaliser that closes a scope in the middle of a put neither waits for itself nor starts a second.

    Thread.
    """
    removal, really, started = BackgroundRemoval(), threading.Thread, []

    def made(*args: Any, **kwargs: Any) -> threading.Thread:
        if not started:
            started.append(1)
            removal.put(root, trash(tmp_path, "inner"))
        started.append(1)
        return really(*args, **kwargs)

    mocker.patch.object(threading, "Thread", made)
    with removal._lock:
        removal.put(root, trash(tmp_path, "outer"))
    removal.wait()
    assert os.listdir(tmp_path) == []
    assert len(started) == 2


def test_trouble_is_told_and_the_rest_goes_on(tmp_path, root, mocker, caplog):
    """
    What cannot be removed, or a root that is gone, is a warning; the next sweep tries again.

    The rest goes.
    """
    closed = Root("/gone", Descriptor(), (0, 0))
    removal = BackgroundRemoval()
    removal.put(closed, "t1")
    removal.put(root, trash(tmp_path, "t2"))
    removal.wait()
    assert os.listdir(tmp_path) == []
    unlink = mocker.patch.object(os, "unlink", side_effect=PermissionError(1, "no"))
    removal.put(root, trash(tmp_path, "t3"))
    removal.wait()
    assert unlink.called
    assert [record.getMessage() for record in caplog.records] == [
        "trash could not be removed; the next sweep tries again"
    ] * 2


def test_a_child_waits_for_nothing(tmp_path, root, mocker):
    """After a fork the parent's removals are the parent's: the child does not wait for them."""
    removal = BackgroundRemoval()
    removal.pid += 1
    wait = mocker.patch.object(removal, "wait")
    wait_for_all(1.0)
    assert not wait.called


def test_what_is_put_while_the_thread_is_ending_is_done_too(tmp_path, root, mocker):
    """What comes between the last look at the queue and the thread's end is still removed by that thread."""
    removal, really, late = BackgroundRemoval(), BackgroundRemoval._drain, ["late"]

    def drain(self: BackgroundRemoval) -> None:
        really(self)
        if late:
            self._waiting.append((root, trash(tmp_path, late.pop())))

    mocker.patch.object(BackgroundRemoval, "_drain", drain)
    removal.put(root, trash(tmp_path, "early"))
    removal._thread.join(30)
    assert os.listdir(tmp_path) == []
