"""
A server of recordings on this machine, standing in for the ones that people give addresses of.

Each path is one way that a download can go.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from recording import make_recording


__all__ = ["Recordings", "serving"]


class Recordings(ThreadingHTTPServer):
    """
    Serves ``/talk`` whole, ``/cut-off`` up to a point, and ``/stalling`` up to a point, and then waits.

    Lives inside :func:`serving`.

    Attributes:
        stalled: Set when somebody waits for the rest of ``/stalling``.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stalled = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @cached_property
    def talk(self) -> bytes:
        """The recording that it serves."""
        made = io.BytesIO()
        make_recording(made)
        return made.getvalue()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer one request."""
        recordings = cast("Recordings", self.server)
        if self.path not in ("/talk", "/cut-off", "/stalling"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(recordings.talk)))
        self.end_headers()
        if self.path == "/talk":
            self.wfile.write(recordings.talk)
            return
        self.wfile.write(recordings.talk[: len(recordings.talk) // 2])
        if self.path == "/stalling":
            self.wfile.flush()
            recordings.stalled.set()
            recordings.closing.wait()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Recordings]:
    """Let a server run while the block does."""
    with Recordings() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
