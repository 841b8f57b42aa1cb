"""
A program that uses all of the library that touches files: each part of the API at least once.

``whole_life.py MODE BOX``: everything it names is in the directory BOX, so nothing else may be written
or removed.  MODE is ``audit`` (Python tells each such call, and those outside are printed), ``landlock``
(the kernel refuses them), or ``plain``.

Prints JSON: how many calls were seen, and which of them were outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tempscope import (
    HardlinkStorage,
    KeepOnFailure,
    LocalDiskStorage,
    MemoryStorage,
    TempFileManager,
    TempScopes,
    TempStorage,
    sweep,
)


MODE, BOX = sys.argv[1], Path(sys.argv[2]).resolve()
seen: dict[str, int] = {}
outside: list[str] = []


# -- the tripwire: what Python tells


def directory_of(dir_fd: int) -> str:
    """Return the directory that a relative name is relative to."""
    return os.getcwd() if dir_fd in (-1, None) else os.readlink(f"/proc/self/fd/{dir_fd}")


def check(event: str, path: Any, dir_fd: int = -1) -> None:
    """Note a call that changes *path*, by name: a link in its last part is not followed."""
    if isinstance(path, int):
        text = os.readlink(f"/proc/self/fd/{path}")
    else:
        text = os.path.join(directory_of(dir_fd), os.fsdecode(path))
        text = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
        if text.startswith("/proc/self/fd/"):
            text = os.readlink(text)
    seen[event] = seen.get(event, 0) + 1
    if not text.startswith(f"{BOX}/") and text not in (str(BOX), "/dev/null"):
        outside.append(f"{event} {text}")


NAMED: dict[str, Callable[..., list[tuple[Any, int]]]] = {
    "os.remove": lambda path, dir_fd: [(path, dir_fd)],
    "os.rmdir": lambda path, dir_fd: [(path, dir_fd)],
    "os.mkdir": lambda path, mode, dir_fd: [(path, dir_fd)],
    "os.chmod": lambda path, mode, dir_fd: [(path, dir_fd)],
    "os.chown": lambda path, uid, gid, dir_fd: [(path, dir_fd)],
    "os.utime": lambda path, times, ns, dir_fd: [(path, dir_fd)],
    "os.truncate": lambda path, length: [(path, -1)],
    "os.setxattr": lambda path, *rest: [(path, -1)],
    "os.rename": lambda source, target, source_fd, target_fd: [(source, source_fd), (target, target_fd)],
    "os.link": lambda source, target, source_fd, target_fd: [(target, target_fd)],
    "os.symlink": lambda source, target, dir_fd: [(target, dir_fd)],
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def trip(event: str, arguments: tuple[Any, ...]) -> None:
    """Be the audit hook."""
    if event in NAMED:
        for path, dir_fd in NAMED[event](*arguments):
            check(event, path, dir_fd)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
        path = arguments[0]
        # Python does not tell what a relative name is relative to; those are for the kernel's run.
        if isinstance(path, (str, bytes)) and os.path.isabs(path):
            check(event, path)


# -- the fence: what the kernel refuses


def fence() -> None:
    """Let this process, and its children, write and remove nothing outside the box (Landlock)."""
    libc = ctypes.CDLL(None, use_errno=True)
    create, add_rule, restrict, rule_path_beneath = 444, 445, 446, 1
    version = libc.syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 0:
        sys.exit(f"no Landlock here: {os.strerror(ctypes.get_errno())}")
    # WRITE_FILE, REMOVE_DIR, REMOVE_FILE and all seven MAKE_*; then REFER (2) and TRUNCATE (3).
    rights = 0b1_1111_1111_0010 | (0b1 << 13 if version >= 2 else 0) | (0b1 << 14 if version >= 3 else 0)
    attribute = ctypes.create_string_buffer(rights.to_bytes(8, "little"), 8)
    ruleset = libc.syscall(create, attribute, ctypes.c_size_t(8), ctypes.c_uint32(0))
    for place in (BOX, Path("/dev/null")):
        handle = os.open(place, os.O_PATH)
        allowed = rights if place == BOX else rights & 0b10
        rule = ctypes.create_string_buffer(allowed.to_bytes(8, "little") + handle.to_bytes(4, "little"), 12)
        if libc.syscall(add_rule, ruleset, rule_path_beneath, rule, ctypes.c_uint32(0)):
            sys.exit(f"landlock_add_rule failed: {os.strerror(ctypes.get_errno())}")
        os.close(handle)
    if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(restrict, ruleset, ctypes.c_uint32(0)):
        sys.exit(f"landlock_restrict_self failed: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)


def refused(call: Callable[[], object]) -> bool:
    """Return whether the fence stops *call*."""
    try:
        call()
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EXDEV)
    return False


# -- the life


def job(storage: TempStorage, work: Path) -> None:
    """Do all that a job can do to files."""
    source = work / "source.bin"
    source.write_bytes(os.urandom(4096))
    registered = work / "registered"
    registered.mkdir()
    (registered / "file").touch()
    scopes = TempScopes(storage, KeepOnFailure(), label="job")
    with scopes.open("goes well") as scope:
        with scope.create_temp_file(".txt") as path, scope.create_temp_dir() as directory:
            path.write_text("text")
            (directory / "deep" / "er").mkdir(parents=True)
        staged = scope.stage(source)
        assert staged.path.read_bytes() == source.read_bytes()
        copy = scope.stage(source, name="copy", writable=True).path
        copy.write_text("changed")
        scope.publish(copy, work / "published")
        product = scope.new_file(name="product")
        product.write_text("product")
        scope.publish(product, work / "published", durable=False)
        scope.keep(scope.new_file(name="kept"))
        scope.register_file(registered)
        with scope.scope("inner") as inner:
            inner.new_dir()
            inner.new_file(create=False)
        scope.cleanup_all()
        scope.new_file()
        share(scopes, work, registered)
    with contextlib.suppress(RuntimeError), scopes.open("fails") as scope:
        scope.new_file(name="evidence").write_text("evidence")
        raise RuntimeError("the job fails")


def share(scopes: TempScopes, work: Path, registered: Path) -> None:
    """Do what a scope does that other processes have to do with."""
    registered.mkdir(exist_ok=True)
    scope = scopes.open("is handed over")
    scope.stage(work / "source.bin")
    scope.register_file(registered)
    subprocess.run(["cat"], check=True, stdin=subprocess.DEVNULL, **scope.popen_kwargs())
    with scope.unnamed_file("w+") as file:
        file.write("unnamed")
    with scopes.attach(scope.detach()) as again:
        again.new_file()


def fork_and_die(base: Path) -> None:
    """Leave an orphan, and a parent's scope that a child tried to close."""
    with LocalDiskStorage(base) as storage, TempScopes(storage).open("parent") as scope:
        path = scope.new_file()
        pid = os.fork()
        if pid == 0:
            scope.close()
            TempFileManager(base_dir=base).new_file()
            os._exit(0)
        os.waitpid(pid, 0)
        assert path.exists()


def main() -> None:
    """Be the program."""
    work = BOX / "work"
    work.mkdir()
    ready = {"audit": lambda: sys.addaudithook(trip), "landlock": fence, "plain": lambda: None}
    ready[MODE]()
    canary = BOX.parent / f"{BOX.name}-outside"
    for number, storage in enumerate(
        (
            LocalDiskStorage(BOX / "disk"),
            LocalDiskStorage(BOX / "background", background_removal=True),
            HardlinkStorage(BOX / "hardlink"),
        )
    ):
        place = work / str(number)
        place.mkdir()
        with storage:
            job(storage, place)
    with (
        MemoryStorage(spill_to=LocalDiskStorage(BOX / "memory")) as memory,
        TempScopes(memory).open() as scope,
    ):
        path = scope.new_file(name="in memory.txt")
        path.write_text("spilled")
        subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL)
    fork_and_die(BOX / "disk")
    reports = [sweep(BOX / name) for name in ("disk", "background", "hardlink", "memory")]
    answer = {
        "seen": dict(seen),
        "outside": list(outside),
        "failed": [entry.to_dict() for report in reports for entry in report.leftovers],
    }
    # The proof that somebody was watching, and that the fence stands.
    if MODE == "audit":
        canary.write_text("outside")
        answer["trips"] = [entry for entry in outside if str(canary) in entry] != []
    if MODE == "landlock":
        answer["trips"] = refused(lambda: canary.write_text("x")) and refused(lambda: os.unlink(canary))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
