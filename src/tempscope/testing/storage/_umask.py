"""The process's umask, for one block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


__all__ = ["umask"]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Have the umask *mask* in the block; it is all threads' meanwhile."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
