"""
An owner: makes a scope with one file, prints where it is, and waits.

``owner.py BASE [N]``: with N, that many scopes.
It ends when its standard input does: by ``os._exit``, without cleaning up.
"""

from __future__ import annotations

import os
import sys

from tempscope import LocalDiskStorage, TempScopes


scopes = TempScopes(LocalDiskStorage(sys.argv[1], sweep_on_start=False))
opened = [scopes.open(f"job {index}") for index in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1)]
files = [scope.new_file(".dat") for scope in opened]
for file in files:
    file.write_text("alive")
print(os.getpid(), files[0], flush=True)
sys.stdin.buffer.read()
os._exit(0)
