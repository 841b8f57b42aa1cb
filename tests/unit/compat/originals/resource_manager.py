"""The third API as it was hand-written: what the rows of the test beside it fail on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class ResourceManager:
    LARGE_FILE_THRESHOLD_MB = 100

    def __init__(self, app="tempscope"):
        self.app = app
        self._files = []
        self._callbacks = []

    def register_temp_file(self, path):
        self._files.append(Path(path))

    def register_cleanup_callback(self, fn):
        self._callbacks.append(fn)

    def is_memory_pressure(self):
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return sizes["MemFree"] < sizes["MemTotal"] / 10

    should_cleanup_early = is_memory_pressure

    def create_temp_hardlink(self, input_path, *, writable=False):
        directory = Path(tempfile.mkdtemp(prefix=f"{self.app}_stage_"))
        link = directory / f"input_{Path(input_path).name}"
        try:
            os.link(input_path, link)
        except OSError:
            directory.rmdir()
            return Path(input_path)
        self.register_temp_file(link)
        self.register_cleanup_callback(lambda: self.cleanup_temp_directory(directory))
        return link

    def optimize_large_file_access(self, input_path):
        if Path(input_path).stat().st_size > self.LARGE_FILE_THRESHOLD_MB * 1024 * 1024:
            return self.create_temp_hardlink(input_path)
        return Path(input_path)

    def cleanup_temp_directory(self, path):
        try:
            path.rmdir()
        except OSError:
            pass

    def cleanup(self):
        for callback in self._callbacks:
            callback()
        for path in self._files:
            path.unlink(missing_ok=True)
