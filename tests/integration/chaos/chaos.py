"""
Chaos: owners that fork and kill themselves, sweepers that never pause, and an observer that counts.

``chaos.py BASE SECONDS KILLS`` runs for SECONDS or KILLS, whichever is later, and prints JSON.

The observer is this process, and uses nothing of the library while it watches: an owner tells it which
files it has and waits for the answer, so while the observer looks, the owner is alive by construction.
An answer to a *patient* owner comes only after every sweeper began and ended a whole sweep meanwhile.
Owners are forked from nurseries, which imported everything once: that is what makes a hundred a second.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from tempscope import LocalDiskStorage, TempFileManager, TempScopes, sweep


NURSERIES, SWEEPERS = 6, 2
MESSAGE_BYTES = 64 * 1024
STOPPING_SECONDS = 20.0
DAWDLING_SECONDS = 2.0


class Counters:
    """Numbers that all processes see: whether to stop, and how many sweeps each sweeper ended."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 * (1 + SWEEPERS))

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("q", self.memory, 8 * index)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("q", self.memory, 8 * index, value)

    def stop(self) -> None:
        """Have everybody come to an end."""
        self[0] = 1

    @property
    def stopped(self) -> bool:
        """Whether everybody shall come to an end."""
        return bool(self[0])

    def sweeps(self) -> list[int]:
        """Return how many sweeps each sweeper ended."""
        return [self[1 + index] for index in range(SWEEPERS)]


COUNTERS = Counters()


def swept_since(then: list[int]) -> bool:
    """Return whether every sweeper began and ended a whole sweep since its count was *then*."""
    # Two ends: the second of these sweeps began after it.
    return all(now >= before + 2 for now, before in zip(COUNTERS.sweeps(), then, strict=True))


def start(life: Callable[[], None]) -> int:
    """Fork a process that lives *life* and nothing else."""
    pid = os.fork()
    if pid == 0:
        try:
            life()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def tell(channel: socket.socket, **message: Any) -> None:
    """Send the observer one message."""
    channel.send(json.dumps(message).encode())


# -- owners


class Owner:
    """One short life: open scopes, fork, be looked at, die."""

    def __init__(self, base: Path, number: int, channel: socket.socket) -> None:
        self.chance = random.Random(number)
        self.base, self.channel, self.number = base, channel, number
        self.files: list[str] = []

    def live(self) -> None:
        """Live, and end by SIGKILL."""
        try:
            self.work()
        except BaseException:
            tell(self.channel, violation=f"an owner failed: {traceback.format_exc()[-1500:]}")
        os.kill(os.getpid(), signal.SIGKILL)

    def work(self) -> None:
        """Make files, have them looked at, fork, have them looked at again, perhaps close one scope."""
        if self.chance.random() < 0.1:
            sys.addaudithook(Dawdle())
        self.storage = LocalDiskStorage(self.base, sweep_on_start=self.chance.random() < 0.2)
        self.scopes = TempScopes(self.storage)
        self.managers = [self.scopes.open(f"job {i}") for i in range(self.chance.choice((1, 1, 2, 3)))]
        for manager in self.managers:
            self.fill(manager)
        self.be_looked_at()
        for _ in range(self.chance.choice((0, 0, 0, 1, 1, 2))):
            self.fork()
            self.be_looked_at()
        if self.chance.random() < 0.3:
            self.close_one()
            self.be_looked_at()
        if self.files and self.chance.random() < 0.3:
            self.lose_one()

    def fill(self, manager: TempFileManager) -> None:
        """Make a file in the scope, and one outside that is registered with it."""
        inside = manager.new_file(".dat")
        outside = self.base / f"outside-{self.number}-{len(self.files)}"
        for path in (inside, outside):
            path.write_text(str(path))
            self.files.append(str(path))
        manager.register_file(outside)
        manager.register_cleanup_callback(self.callback, os.getpid())

    def callback(self, pid: int) -> None:
        """Be the clean-up callback of the process *pid*."""
        if os.getpid() != pid:
            tell(self.channel, violation="a callback ran in a forked child")

    def be_looked_at(self) -> None:
        """Have the observer check our files while we live."""
        tell(self.channel, files=self.files, patient=self.chance.random() < 0.15)
        self.channel.recv(1)

    def fork(self) -> None:
        """Have a child that closes what it inherited, uses the library itself, and ends in its way."""
        child_chance = random.Random(self.chance.random())
        pid = ctypes.PyDLL(None).fork() if self.chance.random() < 0.2 else os.fork()
        if pid == 0:
            try:
                self.be_child(child_chance)
            except BaseException:
                tell(self.channel, violation=f"a child failed: {traceback.format_exc()[-1500:]}")
            os._exit(0)
        os.waitpid(pid, 0)

    def be_child(self, chance: random.Random) -> None:
        """Live as a child."""
        for manager in self.managers:
            manager.close(chance.choice([None, RuntimeError("the child fails")]))
        if chance.random() < 0.5:
            with self.scopes.open("the child's") as job:
                job.new_file().write_text("the child's")
        if chance.random() < 0.5:
            TempFileManager(base_dir=self.base).new_file().write_text("the child's")
        if chance.random() < 0.3:
            self.managers.clear()
            gc.collect()
        ending = chance.choice(["_exit", "kill", "atexit"])
        if ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if ending == "atexit":
            atexit._run_exitfuncs()

    def close_one(self) -> None:
        """Close a scope as a job does that went well: its files are gone, the others' stay."""
        gone, self.files = self.files[:2], self.files[2:]
        self.managers.pop(0).close()
        if left := [path for path in gone if os.path.exists(path)]:
            tell(self.channel, violation=f"closed, but still there: {left}")

    def lose_one(self) -> None:
        """Let somebody else's file take the place of one that we registered: no sweep may delete it."""
        path = self.files.pop()
        fresh = f"{path}.fresh"
        Path(fresh).write_text("somebody else's")
        os.replace(fresh, path)
        tell(self.channel, foreign=path)


class Dawdle:
    """
    An audit hook that widens, once, the window between making a directory and locking it.

    The owner goes on when every sweeper began and ended a whole sweep in it.
    """

    def __init__(self) -> None:
        self.armed = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Be the hook."""
        if not self.armed or event != "fcntl.flock" or not arguments[1] & fcntl.LOCK_SH:
            return
        if not os.path.basename(os.readlink(f"/proc/self/fd/{arguments[0]}")).startswith("i-"):
            return
        self.armed = False
        since, deadline = COUNTERS.sweeps(), time.monotonic() + DAWDLING_SECONDS
        while not swept_since(since) and not COUNTERS.stopped and time.monotonic() < deadline:
            time.sleep(0.001)


def nursery(base: Path, index: int, channel: socket.socket) -> None:
    """Bring up one owner after the other."""
    gc.freeze()  # or every owner copies what its collector touches
    number = index
    while not COUNTERS.stopped:
        number += NURSERIES
        pid = start(Owner(base, number, channel).live)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        tell(channel, killed=status == -signal.SIGKILL)


# -- sweepers


def sweeper(base: Path, index: int, channel: socket.socket) -> None:
    """Sweep without a pause."""
    while not COUNTERS.stopped:
        try:
            report = sweep(base)
            if report.failed:
                tell(
                    channel, violation=f"a sweep could not remove {[e.to_dict() for e in report.entries][:3]}"
                )
        except Exception:
            tell(channel, violation=f"a sweep raised: {traceback.format_exc()[-1500:]}")
        COUNTERS[1 + index] += 1


# -- the observer


class Observer:
    """Looks at the files of living owners, and counts."""

    def __init__(self, channels: list[socket.socket]) -> None:
        self.channels = channels
        self.kills = self.looks = 0
        self.violations: list[str] = []
        self.foreign: list[str] = []
        self.waiting: list[tuple[socket.socket, list[str], list[int]]] = []

    def watch(self) -> None:
        """Hear all that is said now, and answer."""
        for channel in select.select(self.channels, [], [], 0.001 if self.waiting else 0.02)[0]:
            self.hear(channel, json.loads(channel.recv(MESSAGE_BYTES)))
        for entry in list(self.waiting):
            channel, files, since = entry
            if swept_since(since):
                self.waiting.remove(entry)
                self.answer(channel, files)

    def hear(self, channel: socket.socket, message: dict[str, Any]) -> None:
        """Take one message."""
        if "violation" in message:
            self.violations.append(message["violation"])
        elif "foreign" in message:
            self.foreign.append(message["foreign"])
        elif "killed" in message:
            self.kills += message["killed"]
        elif message["patient"] and not COUNTERS.stopped:
            self.look(message["files"])
            self.waiting.append((channel, message["files"], COUNTERS.sweeps()))
        else:
            self.answer(channel, message["files"])

    def answer(self, channel: socket.socket, files: list[str]) -> None:
        """Look, and let the owner go on."""
        self.look(files)
        channel.send(b"!")

    def look(self, files: list[str]) -> None:
        """Look at the files of an owner that is alive, since it waits for us."""
        self.looks += 1
        for path in files:
            try:
                with open(path, encoding="utf-8") as file:
                    if file.read() != path:
                        self.violations.append(f"a live owner's file was changed: {path}")
            except OSError as error:
                self.violations.append(f"a live owner's file is missing: {path} ({error.strerror})")

    def take_foreign(self) -> None:
        """See that the files which took the places of registered ones are there, and take them away."""
        for path in self.foreign:
            if not os.path.exists(path):
                self.violations.append(f"somebody else's file was deleted: {path}")
            Path(path).unlink(missing_ok=True)

    def release_waiting(self) -> None:
        """Answer those that wait for sweeps which will not come any more."""
        for channel, files, _ in self.waiting:
            self.answer(channel, files)
        self.waiting.clear()


def leftovers(base: Path) -> Iterator[str]:
    """Tell what is there that should not be: all but the roots and their markers."""
    for path in base.rglob("*"):
        if path.name != ".tempscope-root" and not (
            path.parent == base and path.name.startswith("tempscope-")
        ):
            yield str(path)


def run(base: Path, seconds: float, kills: int) -> dict[str, Any]:
    """Let chaos reign."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(NURSERIES + SWEEPERS)]
    lives = [(nursery, index) for index in range(NURSERIES)] + [(sweeper, index) for index in range(SWEEPERS)]
    pids = [
        start(lambda life=life, index=index, pair=pair: life(base, index, pair[1]))  # type: ignore[misc]
        for (life, index), pair in zip(lives, pairs, strict=True)
    ]
    observer = Observer([pair[0] for pair in pairs])
    began = time.monotonic()
    while not observer.violations and (time.monotonic() < began + seconds or observer.kills < kills):
        observer.watch()
    took = time.monotonic() - began
    COUNTERS.stop()
    wind_up(observer, pids)
    report = sweep(base)
    observer.take_foreign()
    left = list(leftovers(base))
    observer.violations += [f"left after the final sweep: {path}" for path in left[:10]]
    return {
        "seconds": round(took, 1),
        "kills": observer.kills,
        "sweeps": sum(COUNTERS.sweeps()),
        "looks": observer.looks,
        "foreign": len(observer.foreign),
        "leftovers": len(left),
        "last_sweep": [entry.to_dict() for entry in report.entries][:10],
        "violations": observer.violations[:10],
    }


def wind_up(observer: Observer, pids: list[int]) -> None:
    """Go on answering until all have ended."""
    deadline, left = time.monotonic() + STOPPING_SECONDS, set(pids)
    while left and time.monotonic() < deadline:
        observer.release_waiting()
        observer.watch()
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
    for pid in left:
        observer.violations.append("a process did not come to an end")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    observer.watch()


def main() -> NoReturn:
    """Be the program."""
    base = Path(sys.argv[1])
    print(json.dumps(run(base, float(sys.argv[2]), int(sys.argv[3]))))
    sys.exit(0)


if __name__ == "__main__":
    main()
