"""
A job that does all a job can do: creates, stages, publishes, nests, registers, fails, hands over, closes.

Run as ``python -I -S -B job.py ARGUMENTS``, the arguments being JSON: where to import from, and the
directories to work in.
It does everything twice, the first time in a directory of no interest: that imports what is
imported late.
"""

from __future__ import annotations

import json
import os
import sys


ARGUMENTS = json.loads(sys.argv[1])
sys.path[:0] = ARGUMENTS["path"]

from telling import Told, mark  # noqa: E402

from tempscope import HardlinkStorage, KeepOnFailure, TempScopes  # noqa: E402
from tempscope.storages import _start_sweep  # noqa: E402


class JobFailed(Exception):
    """What the child's job fails with."""


def sweep_at_start(*given: object, swept=_start_sweep.sweep_at_start, **named: object) -> None:
    """Do what the library does there, and mark where it begins and ends."""
    mark("SWEEPING")
    swept(*given, **named)
    mark("SWEPT")


_start_sweep.sweep_at_start = sweep_at_start


def fill(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, with no system call too many."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def job(told: Told, base: str, fresh: str, outside: str) -> None:
    """Do it in *fresh*, where no root is yet, then under the root in *base*, with the files in *outside*."""
    with (
        HardlinkStorage(fresh, application="job") as storage,
        TempScopes(storage).open("the first") as manager,
    ):
        manager.new_file()
        mark("MADE")
    mark("STARTED")
    with HardlinkStorage(base, application="job") as storage:
        manager = TempScopes(storage).open("the job")
        try:
            with manager:
                work(told, manager, outside)
        finally:
            told.report(manager.report)
        hand_on(told, TempScopes(storage), outside)


def hand_on(told: Told, scopes: TempScopes, outside: str) -> None:
    """Lease a scope to a command, hand it over, and take it up again."""
    manager = scopes.open("the hand-over")
    try:
        with manager:
            token = share(manager, outside)
    finally:
        told.report(manager.report)
    mark("HANDED")
    manager = scopes.attach(token)
    mark("TAKEN")
    try:
        with manager:
            manager.new_file()
    finally:
        told.report(manager.report)


def share(manager, outside: str) -> str:
    """Do what a scope does that others have to do with; return its token."""
    fill(manager.new_file(name="work"), b"work")
    manager.popen_kwargs()
    mark("LEASED")
    with manager.unnamed_file() as file:
        file.write(b"unnamed")
    manager.stage(f"{outside}/source")
    manager.register_file(f"{outside}/handed")
    mark("HANDING")
    return manager.detach()


def work(told: Told, manager, outside: str) -> None:
    """Do what happens while the scope is open."""
    result = manager.new_file(".txt")
    mark("WORKING")
    fill(result, b"new")
    parts = manager.new_dir()
    os.mkdir(parts / "deeper")
    fill(parts / "deeper" / "part", b"part")
    with manager.create_temp_file(".tmp") as path:
        fill(path, b"for a moment")
    linked = manager.stage(f"{outside}/source")
    manager.stage(f"{outside}/source", name="own", writable=True)
    mark("STAGED")
    manager.stage(f"{outside}/holes", writable=True)
    manager.stage(f"{outside}/tree")
    tree = manager.stage(f"{outside}/tree", name="own tree", writable=True)
    mark("TREES")
    manager.publish(tree.path, f"{outside}/products/tree")
    mark("PUT")
    manager.publish(result, f"{outside}/products/result")
    mark("PUBLISHED")
    manager.publish(linked.path, f"{outside}/products/copy", overwrite=False)
    mark("COPIED")
    manager.register_file(f"{outside}/registered")
    mark("REGISTERED")
    manager.register_file(f"{outside}/replaced")
    os.rename(f"{outside}/other", f"{outside}/replaced")
    child(told, manager)


def child(told: Told, manager) -> None:
    """Fail in a scope inside the scope; its files are kept."""
    inner = manager.scope("the child", policy=KeepOnFailure(on=("failed",)))
    try:
        with inner:
            fill(inner.new_file(name="evidence"), b"evidence")
            raise JobFailed("the job failed")
    except JobFailed as error:
        told.notes(error)
    finally:
        told.report(inner.report)
    mark("FAILED")


def main() -> None:
    """Rehearse, then do it for the trace."""
    told = Told()
    job(told, **ARGUMENTS["rehearsal"])
    told = Told()
    mark("BEGIN")
    told.run(lambda told: job(told, **ARGUMENTS["places"]))
    mark("END")
    told.tell()


main()
