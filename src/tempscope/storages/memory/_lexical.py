"""
The half of a path that only handles names: joining, comparing, taking apart.

Nothing here moves a file to disk but what asks for the path's text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Self

from tempscope.storages.memory._spill import settle
from tempscope.storages.memory._tree import Names, Tree


if TYPE_CHECKING:
    Plain = Path

    class Internals:
        """Depends on the version; see the modules of that name."""
else:
    Plain = type(Path())
    _VERSION = min(sys.version_info[1], 13)
    Internals = import_module(f"tempscope.storages.memory._internals_3{_VERSION}").Internals

__all__ = ["LexicalPath", "Plain"]

_SEPARATORS = tuple(part for part in (os.sep, os.altsep, ":" if os.name == "nt" else None) if part)


class LexicalPath(Internals, Plain):
    """
    A name in one area, as a path.

    Immutable; shared by everybody.
    """

    __slots__ = ("_hashed", "_names", "_tree")

    _tree: Tree
    _names: Names

    def __new__(cls, *segments: Any) -> Self:
        """Return the plain path of *segments*: a path in memory comes from its scope, or by joining."""
        return Path(*segments)  # type: ignore[return-value]

    @classmethod
    def of(cls, tree: Tree, names: Names) -> Self:
        """Return the path of *names* in *tree*."""
        path: Self = object.__new__(cls)
        path._tree = tree
        path._names = names
        return path

    def _at(self, names: Names) -> Self:
        path: Self = object.__new__(type(self))
        path._tree = self._tree
        path._names = names
        return path

    def _plain(self) -> PurePath:
        return PurePath(self._tree.text, *self._names)

    def _moved(self) -> str:
        """Return the text for a plain path; without a place to spill to that path leads nowhere."""
        return self._tree.shown(self._names) if self._tree.spill is None else str(self)

    # -- as text

    @property
    def display(self) -> str:
        """The path for people, as messages and logs show it; never moves anything."""
        return self._tree.shown(self._names)

    def __str__(self) -> str:
        """
        Return the path's text, and have the file there from now on.

        Raises:
            UnsupportedError: If there is nowhere to spill to.
        """
        with self._tree.volume.lock:
            return settle(self._tree, self._names)

    def __fspath__(self) -> str:
        return str(self)

    def __bytes__(self) -> bytes:
        return os.fsencode(str(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.display!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process has no part in this one's memory.
        return Path, (str(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def as_posix(self) -> str:
        """Return the text with forward slashes; the file moves to disk."""
        return Path(str(self)).as_posix()

    def as_uri(self) -> str:
        """Return the path as a ``file:`` URI; the file moves to disk."""
        return Path(str(self)).as_uri()

    # -- comparing

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LexicalPath):
            if other._tree is self._tree:
                return other._names == self._names
            return self._plain() == other._plain()
        return self._plain() == other if isinstance(other, PurePath) else NotImplemented

    def __hash__(self) -> int:
        try:
            return self._hashed
        except AttributeError:
            self._hashed: int = hash(self._plain())
            return self._hashed

    def __lt__(self, other: object) -> bool:
        return self._plain() < _bare(other) if isinstance(other, PurePath) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._plain() <= _bare(other) if isinstance(other, PurePath) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._plain() > _bare(other) if isinstance(other, PurePath) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._plain() >= _bare(other) if isinstance(other, PurePath) else NotImplemented

    # -- taking apart

    @property
    def parts(self) -> tuple[str, ...]:
        """The components of the text."""
        return self._plain().parts

    @property
    def drive(self) -> str:
        """The drive, where the platform has them."""
        return self._plain().drive

    @property
    def root(self) -> str:
        """The root of the text."""
        return self._plain().root

    @property
    def anchor(self) -> str:
        """Drive and root."""
        return self._plain().anchor

    @property
    def name(self) -> str:
        """The last component."""
        return self._names[-1] if self._names else self._plain().name

    @property
    def stem(self) -> str:
        """The last component without its suffix."""
        return PurePath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last suffix, with its dot."""
        return PurePath(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes, with their dots."""
        return PurePath(self.name).suffixes

    @property
    def parent(self) -> Self:
        """The directory; above the area's own it is a plain path."""
        return self._at(self._names[:-1]) if self._names else Path(self._tree.text).parent  # type: ignore[return-value]

    @property
    def parents(self) -> Sequence[Self]:
        """All directories from :attr:`parent` to the root."""
        inside = [self._at(self._names[:end]) for end in range(len(self._names) - 1, -1, -1)]
        return (*inside, *Path(self._tree.text).parents)  # type: ignore[arg-type]

    def is_absolute(self) -> bool:
        """Return True."""
        return True

    def is_reserved(self) -> bool:
        """Return whether the platform reserves the name; on POSIX never."""
        return self._plain().is_reserved()

    def match(self, path_pattern: str, **options: Any) -> bool:
        """Return whether the text matches the pattern."""
        return self._plain().match(path_pattern, **options)

    def relative_to(self, other: Any, /, *more: Any, **options: Any) -> Path:  # type: ignore[override]
        """Return the way from *other* to here, as a plain path."""
        base = self.with_segments(other, *more)
        if isinstance(base, LexicalPath) and base._tree is self._tree and not options:
            length = len(base._names)
            if self._names[:length] == base._names:
                return Path(*self._names[length:])
        return Path(self._plain().relative_to(_bare(base), **options))

    def is_relative_to(self, other: Any, /, *more: Any) -> bool:
        """Return whether *other* is one of the directories above, or the same."""
        base = self.with_segments(other, *more)
        if isinstance(base, LexicalPath) and base._tree is self._tree:
            return self._names[: len(base._names)] == base._names
        return self._plain().is_relative_to(_bare(base))

    # -- joining

    def joinpath(self, *segments: Any) -> Self:
        """Return the path of *segments* from here; outside of the area it is a plain one."""
        path: Any = self
        for segment in segments:
            path = (
                path._join(segment) if isinstance(path, LexicalPath) else self._known(path.joinpath(segment))
            )
        return path  # type: ignore[no-any-return]

    def _join(self, segment: Any) -> Path:
        if isinstance(segment, LexicalPath):
            return segment
        if type(segment) is str and segment not in ("", ".") and not any(s in segment for s in _SEPARATORS):
            return self._at((*self._names, segment))
        pure = segment if isinstance(segment, PurePath) else PurePath(segment)
        if pure.anchor:
            return self._known(Path(self._plain(), pure))
        return self._at((*self._names, *pure.parts))

    def _known(self, path: Path) -> Path:
        names = None if isinstance(path, LexicalPath) else self._tree.knows(str(path))
        return path if names is None else self._at(names)

    def with_segments(self, *segments: Any) -> Self:
        """Return the path of *segments*, in memory if it is in this area."""
        if not segments:
            return Path()  # type: ignore[return-value]
        first, *rest = segments
        start = first if isinstance(first, LexicalPath) else self._known(Path(first))
        if isinstance(start, LexicalPath):
            return start.joinpath(*rest)  # type: ignore[return-value]
        for segment in rest:
            start = segment if isinstance(segment, LexicalPath) else start.joinpath(segment)
        return start if isinstance(start, LexicalPath) else self._known(start)  # type: ignore[return-value]

    def __truediv__(self, key: Any) -> Any:
        try:
            return self._join(key)
        except TypeError:
            return NotImplemented

    def __rtruediv__(self, key: Any) -> Any:
        return self if isinstance(key, (str, PurePath)) else NotImplemented

    def with_name(self, name: str) -> Self:
        """Return the path with another last component."""
        if not self._names:
            return self._known(Path(self._plain().with_name(name)))  # type: ignore[return-value]
        return self._at((*self._names[:-1], PurePath(self.name).with_name(name).name))

    def with_stem(self, stem: str) -> Self:
        """Return the path with another stem."""
        return self.with_name(PurePath(self.name).with_stem(stem).name)

    def with_suffix(self, suffix: str) -> Self:
        """Return the path with another suffix."""
        return self.with_name(PurePath(self.name).with_suffix(suffix).name)

    def absolute(self) -> Self:
        """Return the path itself."""
        return self

    def expanduser(self) -> Self:
        """Return the path itself."""
        return self

    @classmethod
    def cwd(cls) -> Self:
        """Return the current directory, as a plain path."""
        return Path.cwd()  # type: ignore[return-value]

    @classmethod
    def home(cls) -> Self:
        """Return the user's home directory, as a plain path."""
        return Path.home()  # type: ignore[return-value]


def _bare(path: Any) -> PurePath:
    return path._plain() if isinstance(path, LexicalPath) else path
