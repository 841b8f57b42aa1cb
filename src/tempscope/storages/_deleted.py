"""
Files that have no name any more but are held open: they occupy room that no walk finds.

Linux tells them in ``/proc/<pid>/fd``, of the processes that we may look into: our own user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import monotonic


__all__ = ["DeletedFiles"]

_SHARE = 20
_MARK = " (deleted)"


class DeletedFiles:
    """
    What was found when they were looked for last.

    Lives as long as the process; shared by all threads.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[str, int]] = {}
        self._next = 0.0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def look(self, *, at_once: bool = False) -> bool:
        """
        Look for them through all processes; False if the last time was just now.

        Args:
            at_once: Look in any case.
        """
        begun = monotonic()
        if begun < self._next and not at_once:
            return False
        self._found = {
            (status.st_dev, status.st_ino): (path, getattr(status, "st_blocks", 0) * 512)
            for path, status in _held_open()
        }
        cost = monotonic() - begun
        self._next = begun + cost * (_SHARE + 1)
        return True

    def below(self, directory: str) -> int:
        """Return how many bytes those occupy, each once, that were in *directory*."""
        return sum(size for path, size in self._found.values() if path.startswith(f"{directory}/"))


def _held_open() -> Iterator[tuple[str, os.stat_result]]:
    for pid in _list("/proc"):
        if not pid.isdigit():
            continue
        for fd in _list(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{fd}"
            try:
                path = os.readlink(link)
                if path.endswith(_MARK) and path.startswith("/"):
                    status = os.stat(link)
                    if not status.st_nlink:
                        yield path, status
            except OSError:
                # Closed, or ended, meanwhile.
                continue


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
