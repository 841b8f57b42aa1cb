"""
Names of a package that are imported when they are first asked for (PEP 562).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


__all__ = ["late"]


def late(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """
    Return a module's ``__getattr__``.

    Args:
        package: The module whose names they are.

        homes: For each name the module in which it is made.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return get
