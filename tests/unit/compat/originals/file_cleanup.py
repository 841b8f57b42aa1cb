"""The second API as it was hand-written: what the rows of the test beside it fail on."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path


class TempFileContext:
    def __init__(self, file_path, cleanup_on_error=True):
        self.file_path = Path(file_path)
        self.cleanup_on_error = cleanup_on_error
        self._should_cleanup = True

    def __enter__(self):
        return self.file_path

    def __exit__(self, kind, error, trace):
        if self._should_cleanup and (self.cleanup_on_error or kind is None):
            self.file_path.unlink()
        return False

    def keep(self):
        self._should_cleanup = False


@asynccontextmanager
async def temp_file_async(file_path, cleanup_on_error=True):
    try:
        yield Path(file_path)
    finally:
        if cleanup_on_error or not asyncio.current_task().cancelled():
            Path(file_path).unlink()


class FileCleanupManager:
    def __init__(self, base_temp_dir, default_ttl_hours=24, cleanup_interval_minutes=30):
        self.base_temp_dir = Path(base_temp_dir)
        self.default_ttl_hours = default_ttl_hours
        self._tracked = set()

    def track_file(self, path):
        self._tracked.add(Path(path))

    async def cleanup_old_files(self, max_age_hours=None):
        hours = self.default_ttl_hours if max_age_hours is None else max_age_hours
        removed = 0
        for path in list(self._tracked):
            if path.exists() and path.stat().st_mtime < time.time() - hours * 3600:
                path.unlink()
                removed += 1
        return {"removed_count": removed}
