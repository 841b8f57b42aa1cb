"""
The FastAPI service, run for real under uvicorn in a process of its own.

Large uploads, clients and workers that vanish, a full disk, and load.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from tempscope import LocalDiskStorage, TempFileManager, sweep


httpx = pytest.importorskip("httpx", reason="httpx is not installed (extra: examples)")
for each in ("av", "fastapi", "python_multipart", "uvicorn"):
    pytest.importorskip(each, reason=f"{each} is not installed (extra: examples)")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "video_api"
SECONDS = 60.0


def load(name: str) -> Any:
    """Import one of the example's modules, and leave no trace of that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        module = importlib.import_module(name)
    sys.modules.pop(name, None)
    return module


muxing = load("muxing")
SUBTITLES = muxing.make_subtitles()


def video_of(seconds: int) -> bytes:
    """Return a video so long; 750 KiB a second."""
    file = io.BytesIO()
    muxing.make_video(file, seconds)
    return file.getvalue()


def joined(video: bytes, place: Path) -> bytes:
    """Return what the service has to answer."""
    with TempFileManager(storage=LocalDiskStorage(place)) as job:
        paths = job.new_file(name="video"), job.new_file(name="subtitles")
        for path, content in zip(paths, (video, SUBTITLES), strict=True):
            path.write_bytes(content)
        result: bytes = muxing.Muxer(job).mux(*paths, threading.Event()).read_bytes()
    return result


def until(what: Callable[[], Any]) -> Any:
    """Ask until the answer is true; return it."""
    deadline = time.monotonic() + SECONDS
    while not (answer := what()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return answer


class Server:
    """The service in a process of its own; it may be killed and started again."""

    def __init__(
        self, place: Path, env: dict[str, str], base_dir: Path | None = None, **settings: str
    ) -> None:
        self.base_dir = base_dir or place / "base"
        self.spool = place / "tmp"
        for directory in (self.base_dir, self.spool):
            directory.mkdir(exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.env = {**env, "TEMPSCOPE_BASE_DIR": str(self.base_dir), "TMPDIR": str(self.spool), **settings}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=SECONDS)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, str(EXAMPLE / "main.py"), "--serve", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=self.env, start_new_session=True)
        until(self.answers)

    def answers(self) -> bool:
        """Whether it takes requests."""
        assert self.process.poll() is None, "the server ended"
        try:
            return bool(self.client.get("/health").is_success)
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Let it end by itself."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)
        self.client.close()

    def peak(self) -> int:
        """Return the most memory it ever took, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def upload(self, video: Any) -> Any:
        """Post a job; return the answer."""
        return self.client.post("/jobs", files={"video": video, "subtitles": SUBTITLES})

    def finished(self, name: str) -> dict[str, str]:
        """Wait for a job's end; return how it went."""

        def ended() -> Any:
            job = self.client.get(f"/jobs/{name}").json()
            return job if job["state"] in ("done", "failed") else None

        return dict(until(ended))

    def open_scopes(self) -> int:
        """Return how many scopes it has open."""
        return int(self.client.get("/health").json()["open_scopes"])

    def files(self) -> list[Path]:
        """Return what is on its disk, our own book-keeping apart."""
        ours = {"owner", "journal", ".tempscope-root"}
        places = [*self.base_dir.rglob("*"), *self.spool.rglob("*")]
        return [path for path in places if path.is_file() and path.name not in ours]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def server(tmp_path: Path, unmeasured: dict[str, str]) -> Iterator[Server]:
    """A running server."""
    with Server(tmp_path, unmeasured) as server:
        yield server


def test_a_job(server: Server, tmp_path: Path) -> None:
    """Upload, wait, fetch: what comes back is whole, and when it is sent it is gone."""
    video = video_of(2)
    answer = server.upload(video)
    assert answer.status_code == 202
    name = answer.json()["name"]
    assert server.finished(name) == {"name": name, "state": "done", "problem": ""}
    assert sorted(path.name for path in server.files()) == ["result.mkv", "subtitles", "video"]
    assert server.client.get(f"/jobs/{name}/result").content == joined(video, tmp_path / "here")
    until(lambda: server.open_scopes() == 0 and server.files() == [])
    assert server.client.get(f"/jobs/{name}").json()["state"] == "gone"
    assert server.client.get(f"/jobs/{name}/result").status_code == 409


MULTIPART = {"content-type": "multipart/form-data; boundary=x"}
NO_REQUESTS: list[tuple[int, dict[str, Any]]] = [
    (400, {"files": {"video": b"v"}}),
    (400, {"files": [("video", b"v"), ("video", b"v"), ("subtitles", b"s")]}),
    (400, {"data": {"video": "v", "subtitles": "s"}}),
    (400, {"content": b"--x\r\nrubbish", "headers": MULTIPART}),
    (400, {"content": b"--x\r\n", "headers": MULTIPART}),
    (413, {"files": {"video": b"v" * 2_000_000, "subtitles": b"s"}}),
]


def test_requests_that_are_none(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """What is no such form, or too large, is refused, and nothing of it is left."""
    with Server(tmp_path, unmeasured, VIDEO_API_MAX_UPLOAD="1MiB") as server:
        for status, request in NO_REQUESTS:
            assert server.client.post("/jobs", **request).status_code == status, request
            assert (server.open_scopes(), server.files()) == (0, [])
        assert server.client.get("/jobs/missing").status_code == 404


def test_what_is_no_video(server: Server) -> None:
    """A job whose files cannot be worked on fails, says why, and leaves nothing."""
    name = server.upload(b"something else").json()["name"]
    job = server.finished(name)
    assert job["state"] == "failed" and "FFmpeg cannot work on it" in job["problem"]
    assert (server.open_scopes(), server.files()) == (0, [])


def test_large_uploads_are_not_held_in_memory(server: Server, tmp_path: Path, full: bool) -> None:
    """An upload goes through block by block, and so does the answer."""
    server.finished(server.upload(video_of(1)).json()["name"])
    before = server.peak()
    source = tmp_path / "large.mkv"
    with source.open("wb") as file:
        muxing.make_video(file, 640 if full else 64)
    size = source.stat().st_size
    assert size > (450 if full else 45) * 1024 * 1024
    with source.open("rb") as file:
        name = server.upload(file).json()["name"]
    assert server.finished(name)["state"] == "done"
    received = 0
    with server.client.stream("GET", f"/jobs/{name}/result") as answer:
        for block in answer.iter_bytes():
            received += len(block)
    assert received == int(answer.headers["content-length"]) > size
    assert server.peak() - before < 24 * 1024 * 1024


def begin_upload(server: Server, video: bytes) -> socket.socket:
    """Send the first half of a form, and go on holding the connection."""
    body = b'--x\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n' + video
    head = (
        f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(head.encode() + body)
    until(lambda: any(path.name == "video" and path.stat().st_size > 0 for path in server.files()))
    return connection


def begin_download(server: Server, name: str) -> socket.socket:
    """Ask for a result, and take no more than the beginning of the answer."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    # Little room on this side, so that the server cannot send all of a large one at once.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    request = f"GET /jobs/{name}/result HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    head = connection.recv(12)
    assert head == b"HTTP/1.1 200", head
    return connection


def test_a_client_that_vanishes(server: Server) -> None:
    """A client that breaks off its upload leaves nothing; one that breaks off its download may come again."""
    begin_upload(server, video_of(4)).close()
    until(lambda: server.open_scopes() == 0 and server.files() == [])
    name = server.upload(video_of(16)).json()["name"]
    server.finished(name)
    begin_download(server, name).close()
    assert server.client.get(f"/jobs/{name}/result").status_code == 200
    until(lambda: server.open_scopes() == 0 and server.files() == [])


def test_a_result_that_is_being_sent(tmp_path: Path, unmeasured: dict[str, str]) -> None:
    """A response file lives until it is sent: whoever began to fetch gets all of it, however slowly."""
    video = video_of(16)
    with Server(tmp_path, unmeasured, VIDEO_API_KEEP_SECONDS="4") as server:
        name = server.upload(video).json()["name"]
        until(lambda: server.client.get(f"/jobs/{name}").json()["state"] == "done")
        with begin_download(server, name) as connection:
            # Its time is over, and the scope closed, while most of it is still to be sent.
            until(lambda: server.open_scopes() == 0 and server.files() == [])
            received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        content = received.partition(b"\r\n\r\n")[2]
        assert content == joined(video, tmp_path / "here")


def test_a_worker_killed_in_the_middle(server: Server) -> None:
    """What a killed worker was uploading, working on and waiting to send goes when the next one starts."""
    video = video_of(4)
    done = server.upload(video).json()["name"]
    server.finished(done)
    connection = begin_upload(server, video)
    server.upload(video)
    server.kill()
    connection.close()
    assert len([path for path in server.files() if path.name == "video"]) == 3
    server.start()
    assert server.files() == []
    assert server.client.get(f"/jobs/{done}").status_code == 404
    assert server.upload(video).status_code == 202


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(tmp_path: Path, unmeasured: dict[str, str], small_disk: Path) -> None:
    """Without room an upload is refused, or its job fails, and both give back all that they took."""
    with Server(tmp_path, unmeasured, small_disk) as server:
        assert server.upload(video_of(18)).status_code == 507
        assert (server.open_scopes(), server.files()) == (0, [])
        # Room for the upload, but not for the result as well.
        job = server.finished(server.upload(video_of(10)).json()["name"])
        assert (job["state"], "No space left" in job["problem"]) == ("failed", True), job
        assert (server.open_scopes(), server.files()) == (0, [])
        assert server.finished(server.upload(video_of(2)).json()["name"])["state"] == "done"


class Load:
    """Eight clients, who together do so many jobs; every tenth of which cannot succeed."""

    def __init__(self, server: Server, place: Path, jobs: int) -> None:
        self.server = server
        self.video = video_of(1)
        self.expected = joined(self.video, place)
        self.jobs = jobs
        self.outcomes: Counter[str] = Counter()
        self.ended = threading.Semaphore(0)

    def run(self) -> None:
        """Do them, and kill the server twice meanwhile."""
        with ThreadPoolExecutor(8) as clients:
            running = [clients.submit(self.job, number) for number in range(self.jobs)]
            for _ in range(2):
                for _ in range(self.jobs // 3):
                    assert self.ended.acquire(timeout=SECONDS)
                self.server.kill()
                self.server.start()
            for each in running:
                each.result(SECONDS)

    def job(self, number: int) -> None:
        """Do one, from its upload to its result."""
        try:
            outcome = self.outcome(b"no video" if number % 10 == 0 else self.video)
        except (httpx.TransportError, ValueError):
            outcome = "lost with its server"
            until(self.up)
        self.outcomes[outcome] += 1
        self.ended.release()

    def up(self) -> bool:
        """Whether there is a server, which the other thread starts again."""
        try:
            return bool(self.server.client.get("/health").is_success)
        except httpx.TransportError:
            return False

    def outcome(self, video: bytes) -> str:
        """Return in a word how a job went."""
        name = self.server.upload(video).json()["name"]
        deadline = time.monotonic() + SECONDS
        while True:
            assert time.monotonic() < deadline
            job = self.server.client.get(f"/jobs/{name}")
            if job.status_code == 404:
                return "lost with its server"
            if job.json()["state"] == "failed":
                return "failed"
            if job.json()["state"] == "done":
                break
            time.sleep(0.02)
        result = self.server.client.get(f"/jobs/{name}/result")
        if result.status_code == 404:
            return "lost with its server"
        return "intact" if result.content == self.expected else "damaged"


@pytest.mark.timeout(400)
def test_load(server: Server, tmp_path: Path) -> None:
    """
    200 jobs, 8 at once, a tenth failing, two SIGKILLs of the server: one sweep later no file is left.

    Every response that came is intact.
    """
    load = Load(server, tmp_path / "here", 200)
    load.run()
    assert sum(load.outcomes.values()) == 200
    assert load.outcomes["damaged"] == 0
    assert load.outcomes["lost with its server"] <= 2 * 8
    assert load.outcomes["failed"] >= 20 - 2 * 8
    assert load.outcomes["intact"] >= 180 - 2 * 8
    server.kill()
    sweep(server.base_dir)
    assert server.files() == []
