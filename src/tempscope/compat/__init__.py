"""
The APIs that our first users had before, as thin layers over the core: change the import, and be safe.

:mod:`~tempscope.compat.temp_file_manager`, :mod:`~tempscope.compat.file_cleanup` and
:mod:`~tempscope.compat.resource_manager` are each one of them.
They are a way in, not the way to work: ``docs/how-to/move-from-...`` leads from each to scopes that
services receive by injection, and :func:`warn_on_use` shows where there is something to move.
"""

from __future__ import annotations

from tempscope.compat._superseded import warn_on_use


__all__ = ["warn_on_use"]
