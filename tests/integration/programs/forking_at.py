"""
Forks at every moment of making the first file of a process.

``forking_at.py thread BASE STEP``: another thread is stopped at the N-th system call that it makes in our
code, with whatever locks it holds, and the main thread forks.
``forking_at.py raise BASE STEP``, ``forking_at.py go_on BASE STEP``: the creating thread itself forks
before the N-th line of our code (as a signal handler may), and the child raises there, or goes on.

STEP is how many moments to go on by: 1 for all of them.
Prints JSON: how many moments there were, and what was wrong at which.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import tempscope
from tempscope import LocalDiskStorage, TempFileManager, TempscopeError, TempScopes, sweep


MODE, BASE, STEP = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
PACKAGE = str(Path(tempscope.__path__[0]))
CHILD_SECONDS = 3.0
WRONG: list[str] = []


class InChildError(Exception):
    """Raised in a child in the middle of its parent's work."""


class Job:
    """A process's first job, on a base directory of its own."""

    def __init__(self, number: int) -> None:
        self.base = BASE / f"{number:04}"
        self.base.mkdir()
        self.storage = LocalDiskStorage(self.base, sweep_on_start=False)
        self.scopes = TempScopes(self.storage)
        self.alone = TempFileManager(base_dir=self.base)
        self.pid = os.getpid()
        self.path: Path | None = None

    def create(self) -> Path:
        """Make the first file."""
        self.manager = self.scopes.open("job")
        self.path = self.manager.new_file(".txt")
        return self.path

    def use_in_child(self) -> None:
        """Do what a child may do: open a scope of its own, and use a standalone manager."""
        with self.scopes.open("the child's") as job:
            job.new_file().write_text("the child's")
        self.alone.new_file().write_text("the child's")

    def judge(self, moment: str) -> None:
        """Note what is wrong in the parent."""
        if self.path is None:
            return
        try:
            self.path.write_text("the parent's")
            is_held = held(self.path.parent.parent)
            report = sweep(self.base)
            text = self.path.read_text()
        except OSError as error:
            WRONG.append(f"{moment}: the parent's file was taken away ({error.strerror})")
            return
        if not is_held:
            WRONG.append(f"{moment}: the parent's lease is not held")
        if report.failed or report.skipped:
            WRONG.append(f"{moment}: {report.entries}")
        if text != "the parent's":
            WRONG.append(f"{moment}: the parent's file is not what it was")
        there = [entry for entry in os.listdir(self.path.parents[2]) if entry[0] != "."]
        if there != [self.path.parent.parent.name]:
            WRONG.append(f"{moment}: a sweep left {there}")
        self.manager.close()
        self.storage.close()


def held(directory: Path) -> bool:
    """Return whether a stranger finds *directory* locked."""
    stranger = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(stranger, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(stranger)
    return False


def be_child(job: Job) -> None:
    """Use the library, and end: 0 if that worked, killed by an alarm if it hangs."""
    signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
    status = 1
    try:
        job.use_in_child()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def reap(pid: int, moment: str) -> None:
    """Wait for a child and note how it ended."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        WRONG.append(
            f"{moment}: the child hung" if status == -signal.SIGALRM else f"{moment}: the child failed"
        )


# -- another thread creates


class Stop:
    """Stops one thread at its N-th audited system call."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.left = 0
        sys.addaudithook(self.hook)

    def arm(self, thread: threading.Thread, number: int) -> None:
        """Stop *thread* at its call *number*."""
        self.reached, self.go = threading.Event(), threading.Event()
        self.thread, self.left, self.where = thread, number, "the end"

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Be the audit hook."""
        calls = event == "open" or event.startswith(("os.", "fcntl."))
        if self.thread is None or threading.current_thread() is not self.thread or not calls:
            return
        self.left -= 1
        if self.left == 0:
            self.where = f"{event}{arguments}"
            self.reached.set()
            self.go.wait()


def fork_beside_a_thread() -> int:
    """Fork with another thread stopped at each of its calls in turn."""
    stop, number = Stop(), 1 - STEP
    while True:
        number += STEP
        job = Job(number)

        def create(job: Job = job, stop: Stop = stop) -> None:
            job.create()
            stop.reached.set()

        thread = threading.Thread(target=create)
        stop.arm(thread, number)
        thread.start()
        stop.reached.wait()
        pid = os.fork()
        if pid == 0:
            be_child(job)
        moment = stop.where
        reap(pid, moment)
        stop.go.set()
        thread.join()
        stop.thread = None
        job.judge(moment)
        if moment == "the end":
            return number // STEP


# -- the creating thread forks


class Tracer:
    """Forks before the N-th line of our code."""

    def __init__(self, number: int) -> None:
        self.left, self.moment, self.child = number, "", 0

    def trace(self, frame: Any, event: str, argument: object) -> Any:
        """Be the trace function."""
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.moment = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self.fork()
        return self.trace

    def fork(self) -> None:
        """Fork; in the child, raise or go on."""
        self.child = os.fork()
        if self.child == 0:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
            if MODE == "raise":
                raise InChildError


def fork_in_the_middle() -> int:
    """Fork before each line of our code in turn."""
    number = 1 - STEP
    while True:
        number += STEP
        job, tracer = Job(number), Tracer(number)
        sys.settrace(tracer.trace)
        try:
            job.create()
        except (InChildError, TempscopeError) as error:
            if job.pid == os.getpid():
                WRONG.append(f"{tracer.moment}: the parent failed: {error}")
        finally:
            sys.settrace(None)
        if job.pid != os.getpid():
            be_child(job)
        if not tracer.child:
            return number // STEP
        reap(tracer.child, tracer.moment)
        job.judge(tracer.moment)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 says that forking beside threads is dangerous
    moments = fork_beside_a_thread() if MODE == "thread" else fork_in_the_middle()
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"moments": moments, "wrong": WRONG}))
