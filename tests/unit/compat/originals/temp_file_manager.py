"""The first API as it was hand-written: what the rows of the test beside it fail on."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path


_manager = None


class TempFileManager:
    def __init__(self, prefix="original_", base_dir=None):
        self.prefix = prefix
        self.base_dir = Path(base_dir) if base_dir else Path(tempfile.gettempdir())
        self._files = set()
        self._dirs = set()
        atexit.register(self.cleanup_all)

    @contextmanager
    def create_temp_file(self, suffix="", prefix=None, delete=True):
        try:
            fd, name = tempfile.mkstemp(suffix=suffix, prefix=prefix or self.prefix, dir=self.base_dir)
            os.close(fd)
            path = Path(name)
            self._files.add(path)
            yield path
        finally:
            if delete and path.exists():
                path.unlink()
                self._files.discard(path)

    @contextmanager
    def create_temp_dir(self, prefix=None):
        path = Path(tempfile.mkdtemp(prefix=prefix or self.prefix, dir=self.base_dir))
        self._dirs.add(path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def register_file(self, file_path):
        self._files.add(Path(file_path))

    def cleanup_all(self):
        for path in self._files:
            try:
                if path.exists():
                    path.unlink()
            except OSError:
                pass
        for path in self._dirs:
            shutil.rmtree(path, ignore_errors=True)
        self._files.clear()
        self._dirs.clear()


def get_temp_manager():
    global _manager
    if _manager is None:
        _manager = TempFileManager()
    return _manager
