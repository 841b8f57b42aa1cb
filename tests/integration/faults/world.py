"""
The surroundings of a program that is killed and failed, and what must be true of them afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

import attrs
from tests.integration.faults.injection import FORKING

from tempscope._clock import SystemClock
from tempscope.errors import TempscopeError
from tempscope.janitor import Sweep
from tempscope.policies import DeleteOnClose
from tempscope.storages import LocalDiskStorage
from tempscope.storages._root import MARKER
from tempscope.testing import FakeClock


APPLICATION = "job"
_CANARIES = {"foreign": b"somebody else's", "source": b"the user's own input", "products/other": b"unrelated"}


def much_later() -> FakeClock:
    """Return a clock by which what was handed over and never taken has waited its hour."""
    now = SystemClock().now()
    return FakeClock(now.wall + 4_000, now.boot + 4_000, now.boot_id)


def snapshot(path: Path) -> dict[str, tuple[int, int, int, str]]:
    """Return what is at *path* and below it: inode, mode, modification time, content."""
    found = {".": _state(path)}
    if path.is_dir():
        for each in sorted(path.rglob("*")):
            found[str(each.relative_to(path))] = _state(each)
    return found


def _state(path: Path) -> tuple[int, int, int, str]:
    status = path.lstat()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
    return status.st_ino, status.st_mode, status.st_mtime_ns, content


@attrs.define(eq=False)
class World:
    """
    One worker's directories: a base with our root in it, and files outside.

    Lives for a whole sweep over points; used by one thread.
    In the root stand a living process's scope and a foreign file.
    """

    place: Path
    canaries: dict[str, dict[str, tuple[int, int, int, str]]] = attrs.Factory(dict)
    expected: set[str] = attrs.Factory(set)

    @property
    def base(self) -> Path:
        """The base directory of the program's storage."""
        return self.place / "base"

    @property
    def root(self) -> Path:
        """Our root in it."""
        return self.base / f"tempscope-{os.geteuid()}"

    @property
    def fresh(self) -> Path:
        """A base directory in which there is nothing before the program comes, not even itself."""
        return self.place / "fresh"

    @property
    def outside(self) -> Path:
        """Where the files are that are staged, registered and published."""
        return self.place / "outside"

    @property
    def log(self) -> Path:
        """Where strace writes."""
        return self.place / "log"

    def make(self, held: Path) -> None:
        """Put the canaries out; *held* is the file in the living process's scope."""
        (self.root / "notes of a stranger").write_bytes(b"foreign")
        (self.outside / "products").mkdir(parents=True)
        for name, content in _CANARIES.items():
            (self.outside / name).write_bytes(content)
        self.expected = set(os.listdir(self.root))
        living = self.root / held.relative_to(self.root).parts[0]
        guarded = [living, self.root / "notes of a stranger", *(self.outside / name for name in _CANARIES)]
        self.canaries = {str(path): snapshot(path) for path in guarded}

    def harm(self) -> list[str]:
        """Return which canaries are not what they were."""
        return [
            f"the canary {path} is harmed"
            for path, before in self.canaries.items()
            if not os.path.lexists(path) or snapshot(Path(path)) != before
        ]

    def left(self) -> list[str]:
        """Return what is under the root, or beside the products, that should not be, and remove it."""
        found = [self.root / name for name in set(os.listdir(self.root)) - self.expected]
        found += (self.outside / "products").glob(".tempscope-*")
        found += (path for path in self.fresh.glob("*/*") if path.name != MARKER)
        names = []
        for path in found:
            below = [str(each.relative_to(path)) for each in path.rglob("*")] if path.is_dir() else []
            names.append(f"left behind: {path.name} {below or ''}".strip())
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return names

    def sweep(self) -> list[str]:
        """Sweep once, as the next start of the same application does; return what it complains of."""
        complaints = []
        for base in (self.base, self.fresh):
            storage = LocalDiskStorage(base, application=APPLICATION)
            try:
                with FORKING:
                    report = Sweep(storage, DeleteOnClose(), clock=much_later()).run()
            except TempscopeError as error:
                complaints.append(f"the clean sweep raised {type(error).__name__}: {error}")
            else:
                complaints += [
                    f"the clean sweep failed: {each}" for each in report.entries if each.kind == "failed"
                ]
        return complaints
