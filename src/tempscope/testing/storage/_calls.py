"""The calls of an area that take many arguments, with those filled in that a test does not care about."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tempscope.model import ScopeRecord
from tempscope.protocols import Progress, StagedFile, TempArea, TempStorage


__all__ = ["brief", "content_of", "names_in", "publish", "stage", "told_by"]


def stage(
    area: TempArea,
    source: Path,
    name: str = "staged",
    *,
    writable: bool = True,
    progress: Progress | None = None,
) -> StagedFile:
    """Take *source* into *area*."""
    return area.take_in(source, name, writable=writable, progress=progress)


def publish(
    area: TempArea,
    path: Path,
    destination: Path,
    *,
    overwrite: bool = True,
    durable: bool = False,
    mode: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Give *path* of *area* out."""
    return area.give_out(
        path, destination, overwrite=overwrite, durable=durable, mode=mode, progress=progress
    )


def names_in(directory: Path) -> list[str]:
    """Return the names of all that is in *directory*, sorted."""
    return sorted(path.name for path in directory.iterdir())


def told_by(storage: TempStorage, record: ScopeRecord) -> list[ScopeRecord]:
    """Return what *storage* tells of the scope of *record*."""
    return [told for told in storage.areas() if told.token == record.token]


def content_of(path: Path) -> bytes:
    """Return what *path* holds, or what it amounts to."""
    return brief(path.read_bytes())


def brief(content: bytes) -> bytes:
    """
    Return *content*, or its length and digest if it is long.

    pytest takes minutes to tell how two megabytes differ, which it does in full under continuous integration.
    """
    if len(content) <= 1000:
        return content
    return f"{len(content)} bytes with the SHA-256 {hashlib.sha256(content).hexdigest()}".encode()
