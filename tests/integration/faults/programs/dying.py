"""
An owner that is killed with a scope open: what it leaves is what a sweep is for.

It registers two outside paths and stops itself by SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys


ARGUMENTS = json.loads(sys.argv[1])
sys.path[:0] = ARGUMENTS["path"]

from tempscope import LocalDiskStorage, TempScopes  # noqa: E402


manager = TempScopes(LocalDiskStorage(ARGUMENTS["base"], application="job")).open("the dead")
manager.__enter__()
manager.new_file(".txt").write_bytes(b"left behind")
parts = manager.new_dir()
(parts / "deeper").mkdir()
(parts / "deeper" / "part").write_bytes(b"part")
for name in ARGUMENTS["outside"]:
    manager.register_file(name)
os.kill(os.getpid(), signal.SIGKILL)
