"""
Removing trash in a thread, so that closing a huge scope costs one rename.

The thread is only the quick way: what it does not get to, any sweep removes.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque

from tempscope import _log
from tempscope.storages._delete import remove_entry
from tempscope.storages._root import Root


__all__ = ["BackgroundRemoval", "wait_for_all"]


class BackgroundRemoval:
    """
    Removes directories one after the other in a daemon thread that ends when there is no more.

    Lives as long as its storage; shared by all threads of the process that made it, and of no
    use in a forked child.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._waiting: deque[tuple[Root, str]] = deque()
        # Reentrant: a finaliser may close a scope while this very thread is inside.
        self._lock = threading.RLock()
        self._working = False
        self._thread: threading.Thread | None = None
        _all.add(self)

    def put(self, root: Root, name: str) -> None:
        """Have the directory *name* of *root* removed soon, or now where no thread can be started."""
        self._waiting.append((root, name))
        with self._lock:
            if self._working:
                return
            self._working = True
        try:
            thread = threading.Thread(target=self._work, name="tempscope-removal", daemon=True)
            thread.start()
            self._thread = thread
        except RuntimeError:
            # The interpreter is shutting down, or the system has no more threads.
            self._working = False
            self._drain()

    def wait(self, seconds: float | None = None) -> None:
        """Return when everything that was put is removed or reported, or *seconds* have passed."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        if thread is None or not thread.is_alive():
            self._drain()

    def _work(self) -> None:
        while True:
            self._drain()
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return

    def _drain(self) -> None:
        while True:
            try:
                root, name = self._waiting.popleft()
            except IndexError:
                return
            _remove(root, name)


def _remove(root: Root, name: str) -> None:
    try:
        removal = remove_entry(root.fd, name)
    except (OSError, ValueError) as error:
        # The root was closed or taken away under us.
        _log.warn("trash could not be removed; the next sweep tries again", error=type(error).__name__)
        return
    if not removal.complete:
        _log.warn("trash could not be removed; the next sweep tries again", failed=removal.failed)


_all: weakref.WeakSet[BackgroundRemoval] = weakref.WeakSet()


def wait_for_all(seconds: float) -> None:
    """Wait for all removals of this process, each for at most *seconds*; used when the process ends."""
    for each in list(_all):
        if each.pid == os.getpid():
            each.wait(seconds)
