"""
The API of a video-learning service: one manager for the whole process, or one that is handed over.

:func:`get_temp_manager` is how to leave a global behind step by step, not how to work:
what a job makes lives until the process ends, unless each file is deleted by its own ``with``.
"""

from __future__ import annotations

from tempscope.compat._default_storage import default_storage
from tempscope.compat._superseded import superseded
from tempscope.manager import TempFileManager


__all__ = ["TempFileManager", "get_temp_manager"]

_default: dict[str, TempFileManager] = {}


def get_temp_manager() -> TempFileManager:
    """
    Return the process's default manager: one object for all callers and threads, in and out of scopes.

    Lives until the interpreter exits, which deletes what is left of its files; never close it.
    After a fork the same object starts anew in the child, which deletes nothing of the parent's.
    Nothing is made before its first file.
    """
    superseded("get_temp_manager()", "the TempFileManager of the job, received by injection")
    manager = _default.get("manager")
    if manager is None:
        # One step, so that of racing threads all get the same, without a lock that a fork could leave held.
        manager = _default.setdefault("manager", TempFileManager(storage=default_storage(), name="default"))
    return manager
