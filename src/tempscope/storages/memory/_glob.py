"""Finding paths by pattern, and walking, with the rules of the running Python's :mod:`pathlib`."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, TypeVar


__all__ = ["glob", "pattern_parts", "walk"]

_P = TypeVar("_P", bound=Path)
_STARS_MATCH_FILES = sys.version_info >= (3, 13)
_STARS_MIX = sys.version_info >= (3, 13)


def pattern_parts(pattern: Any) -> list[str]:
    """
    Return the components of *pattern*, with an empty one at the end if it ends with a slash.

    Raises:
        NotImplementedError: If it is absolute.

        ValueError: If ``**`` is a part of a component, where Python does not allow that.
    """
    text = os.fspath(pattern)
    pure = PurePath(text)
    if pure.anchor:
        raise NotImplementedError("Non-relative patterns are unsupported")
    parts = list(pure.parts)
    if not _STARS_MIX and any("**" in part and part != "**" for part in parts):
        raise ValueError("Invalid pattern: '**' can only be an entire path component")
    if parts and text[-1] in (os.sep, os.altsep):
        parts.append("")
    return parts


def glob(start: _P, parts: list[str], case_sensitive: bool | None, follow: bool) -> Iterator[_P]:
    """Yield each path below *start* that *parts* match, once."""
    if not start.is_dir():
        return
    seen = set()
    for path in _select(start, parts, case_sensitive, follow):
        key = path._names  # type: ignore[attr-defined]
        if key not in seen:
            seen.add(key)
            yield path


def _select(path: _P, parts: list[str], case_sensitive: bool | None, follow: bool) -> Iterator[_P]:
    if not parts:
        yield path
        return
    part, *rest = parts
    if part == "":
        yield path
    elif part == "**":
        while rest and rest[0] == "**":
            rest = rest[1:]
        for below in _descend(path, follow, files=_STARS_MATCH_FILES and not rest):
            yield from _select(below, rest, case_sensitive, follow)
    else:
        for child in _children(path, part, case_sensitive):
            if not rest or _is_directory(child, follow=True):
                yield from _select(child, rest, case_sensitive, follow)


def _children(path: _P, part: str, case_sensitive: bool | None) -> Iterator[_P]:
    if part == ".." or (case_sensitive is None and not re.search(r"[*?\[]", part)):
        child = path / part
        if _is_there(child):
            yield child
        return
    matches = _matcher(part, case_sensitive)
    yield from (child for child in _listed(path) if matches(child.name))


@functools.lru_cache
def _matcher(part: str, case_sensitive: bool | None) -> Callable[[str], object]:
    sensitive = os.name != "nt" if case_sensitive is None else case_sensitive
    return re.compile(fnmatch.translate(part), re.NOFLAG if sensitive else re.IGNORECASE).match


def _descend(path: _P, follow: bool, *, files: bool) -> Iterator[_P]:
    waiting = [path]
    yield path
    while waiting:
        for child in _listed(waiting.pop()):
            directory = _is_directory(child, follow)
            if directory:
                waiting.append(child)
            if directory or files:
                yield child


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_directory(path: Path, follow: bool) -> bool:
    try:
        return path.is_dir() and (follow or not path.is_symlink())
    except OSError:
        return False


def _listed(path: _P) -> list[_P]:
    try:
        return list(path.iterdir())
    except OSError:
        return []


def walk(
    start: _P, top_down: bool, on_error: Callable[[OSError], object] | None, follow: bool
) -> Iterator[tuple[_P, list[str], list[str]]]:
    """Yield each directory from *start* on with the names in it, directories and others apart."""
    waiting: list[_P | tuple[_P, list[str], list[str]]] = [start]
    while waiting:
        path = waiting.pop()
        if isinstance(path, tuple):
            yield path
            continue
        try:
            children = list(path.iterdir())
        except OSError as error:
            if on_error is not None:
                on_error(error)
            continue
        inside = [child.name for child in children if _is_directory(child, follow)]
        found = (path, inside, sorted({child.name for child in children} - set(inside)))
        if top_down:
            yield found
        else:
            waiting.append(found)
        waiting += [path / name for name in reversed(inside)]
