"""
Killing and failing a program at one system call, by ``strace``.

A *point* is one system call of a program between its marker calls, found by a dry run.
Whether a fault was really injected there is read from strace's own log, never guessed from how the
program ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import attrs


# What touches files or descriptors; memory and time are left out, as docs/explanation says.
TRACED = "%file,%desc,getrandom"
NOT_COUNTED = frozenset(["mmap", "epoll_wait", "execve"])
SECONDS = 20.0
# A child that was forked holds a copy of every descriptor until its exec, a sweeper's locks too:
# whoever sweeps in this process keeps others from forking meanwhile.
FORKING = threading.Lock()

_LINE = re.compile(r"^(?:\d+ +)?(?P<call>[a-z]\w*)\((?P<rest>.*)$")
_BEGIN, _END = '"/@@BEGIN"', '"/@@END"'
_MARK = re.compile(r'"/@@([A-Z]+)"')


@attrs.frozen
class Mode:
    """What is done at a point: a signal, or an error, once or from then on."""

    name: str
    persistent: bool = False

    @property
    def is_signal(self) -> bool:
        """Whether it is a signal."""
        return self.name.startswith("SIG")

    @property
    def kills(self) -> bool:
        """Whether the program ends there and then."""
        return self.name in ("SIGKILL", "SIGTERM")

    def injection(self, point: Point) -> str:
        """Return it in strace's words."""
        what = f"signal={self.name}" if self.is_signal else f"error={self.name}"
        return f"inject={point.call}:{what}:when={point.ordinal}{'+' if self.persistent else ''}"

    def __str__(self) -> str:
        return f"{self.name}{'+' if self.persistent else ''}"


ERRORS = ("EIO", "ENOSPC", "EACCES", "EMFILE")
MODES = (
    *(Mode(name) for name in ("SIGKILL", "SIGTERM", "SIGINT")),
    *(Mode(name) for name in ERRORS),
    *(Mode(name, persistent=True) for name in ERRORS),
)


@attrs.frozen
class Point:
    """
    One system call of a program.

    ``ordinal`` counts the calls of that name from the program's start, from 1, as strace does;
    ``text`` is the call with its arguments as the dry run saw it, for people and for the table of
    fallbacks.
    """

    call: str
    ordinal: int
    text: str = attrs.field(eq=False)

    def __str__(self) -> str:
        return f"{self.call} #{self.ordinal} ({self.text[:150]}"


@attrs.frozen(kw_only=True)
class Run:
    """
    How one run went: what strace injected, how far the program came, and what it was told.

    ``struck`` is the call at which the fault happened, as this run's own log shows it, and ``phase``
    the last marker before it.
    """

    fired: bool
    struck: str
    phase: str
    marks: frozenset[str]
    timed_out: bool
    told: dict[str, list[str]] | None
    stderr: str


@attrs.frozen
class Program:
    """A program under test and its arguments, which are JSON."""

    path: Path
    arguments: dict[str, Any]

    def command(self) -> list[str]:
        """Return the command line; no site, no environment, no byte code written: nothing varies."""
        return [sys.executable, "-I", "-S", "-B", str(self.path), json.dumps(self.arguments)]


def probe(directory: Path) -> str | None:
    """Return why strace cannot be used here, or None."""
    log = directory / "probe"
    try:
        done = subprocess.run(
            ["strace", "-f", "-o", log, "-e", "trace=exit_group", "true"],
            check=False,
            capture_output=True,
            timeout=SECONDS,
        )
    except OSError as error:
        return f"strace cannot be run: {error}"
    if done.returncode or "exit_group" not in log.read_text():
        return f"strace cannot trace: {done.stderr.decode(errors='replace').strip()}"
    return None


def points_of(program: Program, log: Path) -> tuple[list[Point], Run]:
    """Return all points of *program*, by a run in which nothing happens to it."""
    run = _run(program, log, ["-y", "-s", "200", "-e", f"trace={TRACED}"], None)
    counts: Counter[str] = Counter()
    points: list[Point] = []
    inside = False
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        call = match["call"]
        counts[call] += 1
        if _END in line:
            break
        if inside and call not in NOT_COUNTED and not _MARK.search(line):
            points.append(Point(call, counts[call], match["rest"]))
        inside = inside or _BEGIN in line
    return points, run


def inject(program: Program, point: Point, mode: Mode, log: Path) -> Run:
    """Run *program* with *mode* at *point*."""
    trace = ",".join(dict.fromkeys([point.call, "?stat", "?newfstatat", "?statx"]))
    options = ["-y", "-s", "200", "-e", f"trace={trace}", "-e", mode.injection(point)]
    # Stopping at traced calls only is much faster, but strace sends no signals then.
    return _run(program, log, options if mode.is_signal else ["--seccomp-bpf", *options], mode)


def _run(program: Program, log: Path, options: list[str], mode: Mode | None) -> Run:
    log.unlink(missing_ok=True)
    command = ["strace", "-f", "-q", "-o", str(log), *options, *program.command()]
    with FORKING:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
        )
    timed_out = False
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    struck, phase, marks = _read(log.read_text(errors="replace"), mode)
    return Run(
        fired=struck is not None,
        struck=struck or "",
        phase=phase,
        marks=marks,
        timed_out=timed_out,
        told=json.loads(out) if out else None,
        stderr=err.decode(errors="replace"),
    )


def _read(log: str, mode: Mode | None) -> tuple[str | None, str, frozenset[str]]:
    """Return at which call *mode* first struck between the markers, the last one before it, and all."""
    passed: list[str] = []
    struck, phase, last, sign = None, "", "", _sign(mode)
    for line in log.splitlines():
        mark, call = _MARK.search(line), _LINE.match(line)
        last = call["rest"] if call is not None else last
        if mark is not None:
            # What the rehearsal passed does not count.
            passed = [mark[1]] if mark[1] == "BEGIN" else [*passed, mark[1]]
        if struck is None and sign in line and "BEGIN" in passed and "END" not in passed:
            struck, phase = last, passed[-1]
    return struck, phase, frozenset(passed)


def _sign(mode: Mode | None) -> str:
    """Return by which words in strace's log *mode* shows."""
    if mode is None or not mode.is_signal:
        return "(INJECTED)"
    return f"killed by {mode.name}" if mode.kills else f"--- {mode.name} "
