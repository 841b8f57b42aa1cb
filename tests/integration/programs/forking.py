"""
A parent with open scopes that forks in one style, and a child that ends in one way.

``forking.py STYLE ENDING BASE NOTES``: whoever learns a fact writes it into the directory NOTES, as
JSON in a file of its name; the test reads and judges them.
The child waits at a barrier before it ends, so that the parent can look at the world with both alive.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import fcntl
import gc
import json
import logging
import multiprocessing
import os
import pty
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tempscope import LocalDiskStorage, TempFileManager, TempScopes


STYLE, ENDING, BASE, NOTES = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
ARRIVED, MAY_END = NOTES / "arrived", NOTES / "may_end"  # FIFOs
SECONDS = 10


def note(name: str, **facts: Any) -> None:
    """Write facts down."""
    (NOTES / f"{name}.json").write_text(json.dumps({"pid": os.getpid(), **facts}))


def descriptors_into(directory: Path) -> list[str]:
    """Tell which files in *directory*, or it itself, this process has open."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in found if f"{name}/".startswith(f"{directory}/")]


def refused(call: Callable[[], object]) -> str:
    """Return the name of what *call* raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "nothing"


class Parent:
    """What the parent has when it forks; a forked child inherits all of it."""

    def __init__(self) -> None:
        self.storage = LocalDiskStorage(BASE, sweep_on_start=False)
        self.scopes = TempScopes(self.storage)
        self.outside = Path(BASE, "outside.txt")
        self.outside.write_text("registered by the parent")
        self.manager = self.scopes.open("the parent's job")
        self.alone = TempFileManager(base_dir=BASE)

    def begin(self) -> None:
        """Fill the scopes."""
        self.kept = self.manager.new_file(".txt")
        self.kept.write_text("the parent's")
        self.manager.register_file(self.outside)
        self.manager.register_cleanup_callback(self.called)
        self.alone_file = self.alone.new_file()
        self.alone_file.write_text("standing alone")
        self.instance = self.kept.parent.parent

    def called(self) -> None:
        """Be the clean-up callback."""
        with (NOTES / "callbacks").open("a") as file:
            print(os.getpid(), file=file)

    def intact(self) -> bool:
        """Return whether all the parent's files are as it left them."""
        return (
            self.kept.read_text() == "the parent's"
            and self.alone_file.read_text() == "standing alone"
            and self.outside.read_text() == "registered by the parent"
        )

    def held(self) -> bool:
        """Return whether a stranger finds the lease held."""
        stranger = os.open(self.instance, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(stranger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(stranger)
        return False


class Messages(logging.Handler):
    """Collects what the library logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        logging.getLogger("tempscope").addHandler(self)
        logging.getLogger("tempscope").setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one."""
        self.lines.append(record.getMessage())


# -- the child


def be_the_heir(parent: Parent) -> None:
    """Be a child that inherited everything: try it all, wait for the parent, and end."""
    inherited_at_once = descriptors_into(parent.instance)
    messages = Messages()
    parent.manager.close()
    said = len(messages.lines)
    own = parent.alone.new_file()
    with parent.scopes.open("the child's job") as job:
        mine = job.new_file()
        made = [str(own), str(mine), str(mine.parent.parent)]
    note(
        "child",
        inherited_at_once=inherited_at_once,
        inherited_after_use=descriptors_into(parent.instance),
        messages_of_close=said,
        refusals={
            "new_file": refused(parent.manager.new_file),
            "new_dir": refused(parent.manager.new_dir),
            "scope": refused(parent.manager.scope),
            "register_file": refused(lambda: parent.manager.register_file("/nowhere")),
            "callback": refused(lambda: parent.manager.register_cleanup_callback(print)),
            "cleanup_all": refused(parent.manager.cleanup_all),
            "stage": refused(lambda: parent.manager.stage(__file__)),
        },
        made=made,
        mine_is_gone=not mine.exists(),
        own_is_there=own.exists(),
    )
    wait_for_parent()


def be_a_stranger(paths: tuple[str, str]) -> None:
    """Be a child that inherited nothing but the text of two paths."""
    scopes = TempScopes(LocalDiskStorage(BASE, sweep_on_start=False))
    alone = TempFileManager(base_dir=BASE)
    own = alone.new_file()
    with scopes.open("the child's job") as job:
        mine = job.new_file()
        made = [str(own), str(mine), str(mine.parent.parent)]
    note(
        "child",
        inherited_at_once=descriptors_into(Path(paths[1])),
        inherited_after_use=descriptors_into(Path(paths[1])),
        made=made,
        mine_is_gone=not mine.exists(),
        own_is_there=own.exists(),
    )
    wait_for_parent()


def wait_for_parent() -> None:
    """Say that we are here, and wait until the parent has looked."""
    with ARRIVED.open("r+b", buffering=0) as arrived, MAY_END.open("r+b", buffering=0) as may_end:
        arrived.write(b"!")
        wait_for_byte(may_end.fileno(), "the parent")


def wait_for_byte(fd: int, whose: str) -> None:
    """Read one byte, or give up."""
    if not select.select([fd], [], [], SECONDS)[0]:
        raise TimeoutError(f"nothing was heard of {whose} for {SECONDS} s")
    os.read(fd, 1)


def end() -> None:
    """End as the command line says; returning is one way."""
    if ENDING == "exception":
        raise RuntimeError("the child fails")
    if ENDING == "sys_exit":
        sys.exit(3)
    if ENDING == "os_exit":
        os._exit(3)


def heir_in_multiprocessing(parent: Parent) -> None:
    """Be the target of a process that was forked: drop the references before the end."""
    be_the_heir(parent)
    del parent
    gc.collect()
    end()


def stranger_in_multiprocessing(paths: tuple[str, str]) -> None:
    """Be the target of a process that was spawned."""
    be_a_stranger(paths)
    end()


_inherited: list[Parent] = []


def heir_in_pool(_: int) -> None:
    """Be the task of a pool's worker; it finds what it inherited where the parent left it."""
    heir_in_multiprocessing(_inherited[0])


# -- the parent


def watch(parent: Parent, when: str) -> None:
    """Look at the world as the parent sees it now."""
    note(
        f"parent-{when}",
        intact=parent.intact(),
        held=parent.held(),
        open=len(descriptors_into(parent.instance)),
    )


def while_child_waits(parent: Parent) -> None:
    """Look, with the child alive and at the barrier, then let it end."""
    with ARRIVED.open("r+b", buffering=0) as arrived, MAY_END.open("r+b", buffering=0) as may_end:
        wait_for_byte(arrived.fileno(), "the child")
        watch(parent, "beside")
        may_end.write(b"!")


def wait_for(pid: int) -> None:
    """Wait until the child *pid* ended."""
    note("ended", status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def drain(fd: int) -> None:
    """Read a terminal to its end, which Linux tells by an error."""
    with contextlib.suppress(OSError):
        while os.read(fd, 4096):
            pass
    os.close(fd)


def fork_raw(fork: Callable[[], int | tuple[int, int]]) -> None:
    """Fork by *fork* inside the ``with``: the child leaves that block in its way, too."""
    parent = Parent()
    messages: Messages | None = None
    with parent.manager:
        parent.begin()
        forked = fork()
        pid, terminal = forked if isinstance(forked, tuple) else (forked, None)
        if pid == 0:
            be_the_heir(parent)
            messages = Messages()
            end()
        else:
            while_child_waits(parent)
            if terminal is not None:
                drain(terminal)
            wait_for(pid)
            watch(parent, "after")
    if messages is not None:
        # A child that came out of the block: it left quietly, with one message.
        note("child-left", messages=messages.lines)
        return
    note("closed", outside_is_gone=not parent.outside.exists(), scope_is_gone=not parent.kept.parent.exists())


def fork_without_hooks() -> int:
    """Fork as a C program does that embeds Python: no at-fork hook runs (uWSGI's default)."""
    return int(ctypes.PyDLL(None).fork())


def fork_by_multiprocessing(method: str) -> None:
    """Have multiprocessing start the child."""
    parent = Parent()
    context: Any = multiprocessing.get_context(method)
    with parent.manager:
        parent.begin()
        if method == "fork":
            process = context.Process(target=heir_in_multiprocessing, args=(parent,))
        else:
            paths = (str(parent.kept), str(parent.instance))
            process = context.Process(target=stranger_in_multiprocessing, args=(paths,))
        process.start()
        while_child_waits(parent)
        process.join()
        note("ended", status=process.exitcode)
        watch(parent, "after")
    note("closed", outside_is_gone=not parent.outside.exists(), scope_is_gone=not parent.kept.parent.exists())


def fork_by_pool() -> None:
    """Have an executor's worker be the child."""
    parent = Parent()
    with parent.manager:
        parent.begin()
        _inherited.append(parent)
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            future = pool.submit(heir_in_pool, 0)
            while_child_waits(parent)
            failure = future.exception()
            note("ended", status=0 if failure is None else type(failure).__name__)
        watch(parent, "after")
    note("closed", outside_is_gone=not parent.outside.exists(), scope_is_gone=not parent.kept.parent.exists())


STYLES: dict[str, Callable[[], None]] = {
    "fork": lambda: fork_raw(os.fork),
    "pty.fork": lambda: fork_raw(pty.fork),
    "forkpty": lambda: fork_raw(os.forkpty),
    "no_hooks": lambda: fork_raw(fork_without_hooks),
    "mp_fork": lambda: fork_by_multiprocessing("fork"),
    "mp_spawn": lambda: fork_by_multiprocessing("spawn"),
    "mp_forkserver": lambda: fork_by_multiprocessing("forkserver"),
    "pool": fork_by_pool,
}


if __name__ == "__main__":
    os.mkfifo(ARRIVED)
    os.mkfifo(MAY_END)
    STYLES[STYLE]()
