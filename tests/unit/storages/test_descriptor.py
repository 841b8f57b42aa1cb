"""Open descriptors, each closed exactly once, whenever an interrupt comes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tempscope.storages import _descriptor, _openat2
from tempscope.storages._descriptor import Descriptor, Descriptors
from tempscope.storages._openat2 import open_subdirectory


def descriptors() -> set[str]:
    """Return the numbers that are open in this process."""
    return set(os.listdir("/proc/self/fd"))


def test_it_opens_closes_and_closes_again(tmp_path):
    """A descriptor is open until it is closed; closing again is no error; then it has no number."""
    descriptor = Descriptor.open(str(tmp_path), os.O_RDONLY)
    number = descriptor.fd
    assert not os.get_inheritable(number)
    assert repr(descriptor) == f"<Descriptor {number}>"
    descriptor.close()
    descriptor.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    with pytest.raises(ValueError, match="closed"):
        _ = descriptor.fd
    assert descriptor.closed
    assert repr(descriptor) == "<Descriptor closed>"


def test_it_closes_with_its_with_and_with_its_last_reference(tmp_path):
    """The end of a with, the loss of the last reference and opening anew all close what was held."""
    before = descriptors()
    with Descriptor.open(str(tmp_path), os.O_RDONLY) as descriptor:
        descriptor.reopen(str(tmp_path), os.O_RDONLY)
        assert len(descriptors() - before) == 1
    dropped = Descriptor.open(str(tmp_path), os.O_RDONLY)
    del dropped
    assert descriptors() == before


def test_it_opens_relative_to_another(tmp_path):
    """A name relative to a directory's descriptor is found there, and made with the mode asked for."""
    with Descriptor.open(str(tmp_path), os.O_RDONLY) as directory:
        with Descriptor.open("f", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=directory.fd) as file:
            os.write(file.fd, b"x")
        with pytest.raises(FileNotFoundError):
            Descriptor.open("none", os.O_RDONLY, dir_fd=directory.fd)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_several_close_together(tmp_path):
    """Several are open until the end of their with; finish closes the last of them at once."""
    before = descriptors()
    with Descriptors() as held:
        first = held.open(str(tmp_path), os.O_RDONLY)
        second = held.open(".", os.O_RDONLY, dir_fd=first)
        held.finish()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(second)
        assert held.open(".", os.O_RDONLY, dir_fd=first) == second
        assert os.path.sameopenfile(first, second)
    assert descriptors() == before
    held.finish()


def test_a_number_that_is_somebody_elses_is_forgotten_or_swapped(tmp_path):
    """Forgetting leaves the number open; swapping exchanges what two hold."""
    one, two = Descriptor.open(str(tmp_path), os.O_RDONLY), Descriptor()
    number = one.fd
    one.swap(two)
    assert (one.closed, two.fd) == (True, number)
    two.forget()
    assert two.closed
    os.close(number)


def test_what_closing_says(tmp_path):
    """Row 28: finish raises what closing said, close does not; neither closes a number twice."""
    for end in (Descriptor.close, Descriptor.finish):
        descriptor = Descriptor.open(str(tmp_path), os.O_RDONLY)
        os.close(descriptor.fd)
        if end is Descriptor.finish:
            with pytest.raises(OSError, match="Bad file"):
                end(descriptor)
        else:
            end(descriptor)
        assert descriptor.closed
        end(descriptor)
    descriptor = Descriptor.open(str(tmp_path), os.O_RDONLY)
    descriptor.finish()
    assert descriptor.closed


def test_two_that_close_at_once(tmp_path):
    """Whoever comes second finds nothing to close, and that is no error. The race is made by a fake list."""

    class Emptied(list[int]):
        def __len__(self) -> int:
            return 1

    descriptor = Descriptor()
    descriptor._held = Emptied()
    descriptor.close()
    descriptor._held = []


def _interrupted_at(number: int, job: Callable[[], None], modules: set[str]) -> bool:
    """
    Run *job* and raise KeyboardInterrupt before its *number*-th opcode in *modules*.

    Return whether it was.
    """
    count, fired = 0, False

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count, fired
        if frame.f_code.co_filename not in modules:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == number and not fired:
                fired = True
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        job()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return fired


# Python discards an interrupt that comes inside __del__, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["open", "several", "openat2", "plain"])
def test_an_interrupt_at_any_opcode_neither_leaks_nor_closes_twice(tmp_path, mocker, way):
    """
    Row 5 (OP): an interrupt before any opcode of opening and closing leaks and double-closes nothing.

    Trap: an interrupted shutil.rmtree closes one descriptor twice, and with it somebody else's file.
    """
    (tmp_path / "d").mkdir()
    if way == "plain":
        mocker.patch.object(_openat2, "_openat2", return_value=None)
    parent = os.open(tmp_path, os.O_RDONLY)
    open_subdirectory(parent, "d").close()
    modules = {_descriptor.__file__, _openat2.__file__}
    failed: list[int] = []

    def job() -> None:
        if way == "several":
            with Descriptors() as held:
                held.open("d", os.O_RDONLY, dir_fd=parent)
                held.open("d", os.O_RDONLY, dir_fd=parent)
                held.finish()
            return
        if way == "open":
            descriptor = Descriptor.open("d", os.O_RDONLY, dir_fd=parent)
        else:
            descriptor = open_subdirectory(parent, "d")
        with descriptor:
            pass

    before = descriptors()
    close = os.close

    def closing(fd: int) -> None:
        try:
            close(fd)
        except OSError:
            failed.append(fd)

    mocker.patch.object(os, "close", closing)
    # Python 3.12 tells of opcodes only from the second time on that a function is traced.
    _interrupted_at(0, job, modules)
    number, fired = 0, True
    while fired:
        number += 1
        fired = _interrupted_at(number, job, modules)
        assert descriptors() == before, f"opcode {number} leaks"
        assert failed == [], f"opcode {number} closes twice"
    mocker.stopall()
    os.close(parent)
    assert number > 30


def test_an_interrupt_before_there_is_anything_to_hold():
    """Row 5: an instance that was interrupted while being made goes quietly."""
    descriptor = Descriptor.__new__(Descriptor)
    del descriptor
