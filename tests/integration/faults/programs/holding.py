"""
The canary that lives: holds a scope in each directory it is told, until standard input ends.

A line is the base directory; the answer is the path of a file in the scope.
An empty line asks whether all is well with them.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack


sys.path[:0] = json.loads(sys.argv[1])["path"]

from tempscope import LocalDiskStorage, TempScopes  # noqa: E402


with ExitStack() as held:
    files = []
    for line in sys.stdin:
        if line.strip():
            storage = held.enter_context(LocalDiskStorage(line.strip(), application="holder"))
            manager = held.enter_context(TempScopes(storage).open("the living"))
            path = manager.new_file(".canary")
            path.write_bytes(b"alive")
            files.append((manager, path))
            print(path, flush=True)
        else:
            well = all(
                path.read_bytes() == b"alive" and manager.new_file().exists() for manager, path in files
            )
            print("well" if well else "harmed", flush=True)
