"""
The two programs that are killed and failed, what each needs, and what it owes afterwards.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import attrs
from tests.integration.faults.injection import Program, Run
from tests.integration.faults.world import World

import tempscope
from tempscope.model import Instant, ScopeRecord, Verdict
from tempscope.storages import identify, new_token
from tempscope.storages._hand_over import outside_paths, put_luggage
from tempscope.storages._openat2 import open_directory


PROGRAMS = Path(__file__).parent / "programs"
IMPORTS = [str(PROGRAMS), *(str(Path(module.__file__ or "").parents[1]) for module in (tempscope, attrs))]
_SOURCE = b"the user's own input"


class Case(Protocol):
    """One program: how its world is prepared for a run, and checked after one and a sweep."""

    @property
    def name(self) -> str:
        """What it is called in what the tests print."""
        ...

    def program(self, world: World) -> Program:
        """Return the program with its arguments."""
        ...

    def prepare(self, world: World) -> None:
        """Put everything where it was before the last run."""
        ...

    def owed(self, world: World, run: Run) -> list[str]:
        """Return what is not as it should be after a run and one clean sweep."""
        ...


class JobCase:
    """``programs/job.py``."""

    name = "job"

    def program(self, world: World) -> Program:
        """Return the program with its arguments."""
        rehearsal = world.place / "rehearsal"
        arguments: dict[str, Any] = {
            "path": IMPORTS,
            "places": {"base": str(world.base), "fresh": str(world.fresh), "outside": str(world.outside)},
            "rehearsal": {name: str(rehearsal / name) for name in ("base", "fresh", "outside")},
        }
        return Program(PROGRAMS / "job.py", arguments)

    def prepare(self, world: World) -> None:
        """Write the files that the job registers, replaces and publishes over."""
        rehearsal = world.place / "rehearsal"
        shutil.rmtree(rehearsal, ignore_errors=True)
        shutil.rmtree(world.fresh, ignore_errors=True)
        (rehearsal / "base").mkdir(parents=True)
        (rehearsal / "outside" / "products").mkdir(parents=True)
        (rehearsal / "outside" / "source").write_bytes(_SOURCE)
        for outside in (world.outside, rehearsal / "outside"):
            write_afresh(outside / "registered", b"registered")
            write_afresh(outside / "replaced", b"registered too")
            write_afresh(outside / "handed", b"registered by the scope that is handed over")
            write_afresh(outside / "other", b"another's")
            write_afresh(outside / "products" / "result", b"old")
            (outside / "products" / "copy").unlink(missing_ok=True)

    def owed(self, world: World, run: Run) -> list[str]:
        """Check the products, whole, and what was registered."""
        result, copy = (content(world.outside / "products" / name) for name in ("result", "copy"))
        faults = []
        if result not in ((b"new",) if "PUBLISHED" in run.marks else (b"old", b"new")):
            faults.append(f"published: {result!r}")
        if copy not in ((_SOURCE,) if "COPIED" in run.marks else (None, _SOURCE)):
            faults.append(f"published by copy: {copy!r}")
        if content(world.outside / "other") is None and content(world.outside / "replaced") != b"another's":
            faults.append("the file that took a registered one's place is gone")
        if "REGISTERED" in run.marks and content(world.outside / "registered") is not None:
            faults.append("a registered path is still there")
        if "HANDING" in run.marks and content(world.outside / "handed") is not None:
            faults.append("the registered path of the scope that was handed over is still there")
        return faults


@attrs.define(eq=False)
class SweepCase:
    """
    ``programs/sweeping.py``, over two orphans, a scope that waited too long, and a trash directory.

    The orphans are copies of what an owner left that was really killed, under new names.
    """

    template: Path
    name: str = "sweep"

    @classmethod
    def made(cls, place: Path) -> SweepCase:
        """Let an owner die in *place*."""
        names = [place / "outside" / name for name in ("registered", "replaced")]
        (place / "outside").mkdir(parents=True)
        for path in names:
            path.write_bytes(b"registered")
        arguments = {"path": IMPORTS, "base": str(place / "base"), "outside": [str(path) for path in names]}
        command = [sys.executable, "-I", "-S", "-B", str(PROGRAMS / "dying.py"), json.dumps(arguments)]
        died = subprocess.run(command, capture_output=True, env={}, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
        (orphan,) = (place / "base").glob("tempscope-*/i-*")
        return cls(orphan)

    def program(self, world: World) -> Program:
        """Return the program with its arguments."""
        arguments: dict[str, Any] = {
            "path": IMPORTS,
            "places": {"base": str(world.base)},
            "rehearsal": {"base": str(world.place / "rehearsal" / "base")},
        }
        return Program(PROGRAMS / "sweeping.py", arguments)

    def prepare(self, world: World) -> None:
        """Put out two orphans, one of them with registered paths, and what else is to be swept."""
        rehearsal = world.place / "rehearsal"
        shutil.rmtree(rehearsal, ignore_errors=True)
        (rehearsal / "outside").mkdir(parents=True)
        shutil.copytree(self.template.parent, rehearsal / "base" / self.template.parent.name)
        self._put_out(rehearsal / "base" / self.template.parent.name, rehearsal / "outside")
        self._put_out(world.root, world.outside)

    def _put_out(self, root: Path, outside: Path) -> None:
        write_afresh(outside / "registered", b"registered")
        write_afresh(outside / "replaced", b"registered too")
        write_afresh(outside / "handed", b"registered by the scope that was handed over")
        # Names that sort before every token: the order of the calls is the same in all runs.
        self._orphan(root / f"i-{'a' * 26}", [outside / "registered", outside / "replaced"])
        self._orphan(root / f"i-{'a' * 25}b", [])
        shutil.copytree(self.template / "a1", root / f"t-{'a' * 26}")
        self._waited(root / f"d-{'a' * 26}", outside / "handed")
        write_afresh(outside / "other", b"another's")
        (outside / "other").rename(outside / "replaced")

    def _waited(self, home: Path, registered: Path) -> None:
        shutil.copytree(self.template / "a1", home)
        before = Instant(1.0, 1.0)
        record = ScopeRecord(
            token=new_token(), opened=before, closed=before, verdict=Verdict(True, for_seconds=1.0)
        )
        with open_directory(str(home)) as directory:
            put_luggage(
                directory.fd, record, outside_paths({str(registered): str(identify(str(registered)))}), {}
            )

    def _orphan(self, home: Path, registered: list[Path]) -> None:
        shutil.copytree(self.template, home)
        lines = [json.loads(line) for line in (home / "journal").read_bytes().splitlines()]
        kept = [line | {"token": new_token()} for line in lines if "area" in line]
        outside = [line for line in lines if "path" in line]
        for line, path in zip(outside, registered, strict=False):
            kept.append(line | {"path": str(path), "identity": str(identify(str(path)))})
        (home / "journal").write_text("".join(json.dumps(line) + "\n" for line in kept))

    def owed(self, world: World, run: Run) -> list[str]:
        """Check what was registered."""
        faults = []
        if content(world.outside / "replaced") != b"another's":
            faults.append("the file that took a registered one's place is gone")
        if [name for name in ("registered", "handed") if content(world.outside / name) is not None]:
            faults.append("a registered path is still there")
        return faults


def write_afresh(path: Path, text: bytes) -> None:
    """Write *path* as a new file, whatever was there."""
    path.unlink(missing_ok=True)
    path.write_bytes(text)


def content(path: Path) -> bytes | None:
    """Return what is in *path*, or None if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class Holder:
    """
    The process whose scopes live through everything; see ``programs/holding.py``.

    Lives for a whole sweep over points.
    """

    def __init__(self) -> None:
        command = [
            sys.executable,
            "-I",
            "-S",
            "-B",
            str(PROGRAMS / "holding.py"),
            json.dumps({"path": IMPORTS}),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={}
        )

    def ask(self, line: str) -> str:
        """Send it a line, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()

    def end(self) -> int:
        """Let it close its scopes, and return how it ended."""
        self._process.communicate()
        return self._process.returncode


def make_world(place: Path, holder: Holder) -> World:
    """Return a new world in *place*, with a scope of *holder* in it."""
    world = World(place)
    world.base.mkdir(parents=True)
    world.make(Path(holder.ask(str(world.base))))
    return world
