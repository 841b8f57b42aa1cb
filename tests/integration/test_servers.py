"""
Servers that load the application first and fork their workers then: gunicorn and uWSGI.

Rows 65 to 67 of the fault catalogue.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tempscope import sweep


PROGRAMS = Path(__file__).resolve().parent / "programs"
SECONDS = 30.0
REQUESTS = 24
REQUESTS_A_WORKER = 4


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system: no port is taken."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


@attrs.define
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    socket: str
    base: Path
    log: Path

    def ask(self) -> dict[str, Any]:
        """Send one request; a worker that is just being replaced may refuse it, so ask again."""
        deadline = time.monotonic() + SECONDS
        while True:
            connection = UnixConnection(self.socket)
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                assert response.status == 200, self.log.read_text()
                answer: dict[str, Any] = json.loads(response.read())
                return answer
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError(f"the server does not answer: {self.log.read_text()}") from None
                time.sleep(0.02)
            finally:
                connection.close()

    def workers(self) -> set[int]:
        """Return the processes that the master has now."""
        pid = self.process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def end(self, number: int) -> None:
        """Send the master a signal, and wait until it and its workers are gone."""
        workers = self.workers()
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        wait_until(lambda: not any(map(is_alive, workers)), f"the workers {workers} are gone")

    def left(self) -> list[str]:
        """Return what is under our root, but for the marker."""
        return [path.name for path in self.base.glob("tempscope-*/*") if not path.name.startswith(".")]


def is_alive(pid: int) -> bool:
    """Return whether *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"in {SECONDS} s it did not come about that {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def served(command: list[str], address: Path, base: Path, environment: dict[str, str]) -> Iterator[Server]:
    """Run a server for one ``with`` block."""
    log = base / "log"
    environment = {**environment, "TEST_BASE": str(base), "PYTHONPATH": os.pathsep.join(sys.path)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=PROGRAMS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield Server(process, str(address), base, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def server_program(name: str) -> str:
    """Return where *name* is in this Python's environment, or skip."""
    found = shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip(f"no {name} in {sysconfig.get_path('scripts')} (extra: dev)")
    return found


@pytest.fixture
def address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server listens; the path must be short."""
    return tmp_path_factory.mktemp("s") / "s"


@pytest.fixture
def gunicorn(tmp_path: Path, address: Path, unmeasured: dict[str, str]) -> Iterator[Server]:
    """Start gunicorn with an application loaded before the fork, and workers that are replaced often."""
    command = [
        *(server_program("gunicorn"), "wsgi_app:application"),
        *("--bind", f"unix:{address}", "--workers", "2", "--preload"),
        *("--max-requests", str(REQUESTS_A_WORKER), "--graceful-timeout", "10", "--timeout", "6"),
        *("--worker-tmp-dir", str(address.parent)),
    ]
    with served(command, address, tmp_path, unmeasured) as server:
        yield server


@pytest.fixture
def uwsgi(tmp_path: Path, address: Path, unmeasured: dict[str, str]) -> Iterator[Server]:
    """Start uWSGI as it is by default: no at-fork hook of Python runs; and no at-exit one, either."""
    command = [
        *(server_program("uwsgi"), "--wsgi-file", "wsgi_app.py"),
        *("--http-socket", str(address), "--master", "--processes", "2", "--die-on-term"),
        *("--max-requests", str(REQUESTS_A_WORKER), "--skip-atexit", "--min-worker-lifetime", "0"),
    ]
    with served(command, address, tmp_path, unmeasured) as server:
        yield server


def check_requests(server: Server) -> None:
    """Send requests through several generations of workers, and judge the answers."""
    answers = [server.ask() for _ in range(REQUESTS)]
    for answer in answers:
        assert answer["preloaded"] == ["made by the master"] * 2
        assert answer["present"]
        assert answer["refused"], "a worker created in the master's scope"
        assert answer["own_cache"] == str(answer["pid"])
        assert answer["instance"] == answer["instance_of_cache"] != answer["instance_of_master"]
        assert answer["pid"] != answer["master"]
    assert len({answer["pid"] for answer in answers}) > 2, "no worker was replaced"
    assert len({(answer["pid"], answer["instance"]) for answer in answers}) == len(
        {answer["pid"] for answer in answers}
    ), "a worker changed its instance, or two share one"


def test_gunicorn_keeps_the_masters_files(gunicorn: Server) -> None:
    """
    What the master made while loading is there for all requests, however many workers came and went.

    SIGTERM then leaves nothing at all.
    Rows 65, 66.
    """
    check_requests(gunicorn)

    gunicorn.end(signal.SIGTERM)

    assert gunicorn.left() == [], gunicorn.log.read_text()


def test_gunicorn_killed(gunicorn: Server) -> None:
    """
    After SIGKILL of the master, and the end of its workers, one sweep leaves nothing.

    Row 66.
    """
    gunicorn.ask()

    gunicorn.end(signal.SIGKILL)
    assert gunicorn.left()
    report = sweep(gunicorn.base)

    assert report.leftovers == ()
    assert gunicorn.left() == []


def test_uwsgi_without_hooks(uwsgi: Server) -> None:
    """
    Without at-fork hooks a worker makes an instance of its own; what it leaves, one sweep removes.

    Row 67.
    """
    check_requests(uwsgi)

    uwsgi.end(signal.SIGTERM)
    report = sweep(uwsgi.base)

    assert report.leftovers == ()
    assert uwsgi.left() == []
