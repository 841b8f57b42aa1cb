"""
A WSGI application that was loaded before its server forks the workers.

It makes files while it is imported, in the server's master process, and uses the library in each request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tempscope import ForkedScopeError, LocalDiskStorage, TempFileManager, TempScopes


BASE = os.environ["TEST_BASE"]
scopes = TempScopes(LocalDiskStorage(BASE))
alone = TempFileManager(base_dir=BASE)
preloaded = alone.new_file(".model")
preloaded.write_text("made by the master")
of_master = scopes.open("the master's scope")
in_scope = of_master.new_file()
in_scope.write_text("made by the master")
MASTER = os.getpid()
in_worker: list[Path] = []


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what this worker sees."""
    if not in_worker:
        in_worker.append(alone.new_file(".cache"))
        in_worker[0].write_text(str(os.getpid()))
    try:
        of_master.new_file()
        refused = False
    except ForkedScopeError:
        refused = True
    with scopes.open("request") as scope:
        path = scope.new_file()
        path.write_text("the request's")
        present = path.exists()
    answer = {
        "pid": os.getpid(),
        "master": MASTER,
        "refused": refused,
        "present": present and not path.exists(),
        "preloaded": [preloaded.read_text(), in_scope.read_text()],
        "own_cache": in_worker[0].read_text(),
        "instance": path.parent.parent.name,
        "instance_of_cache": in_worker[0].parent.parent.name,
        "instance_of_master": preloaded.parent.parent.name,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
