"""Chapter 8: concurrency, which here means threads."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from tempscope.errors import NameTakenError, ScopeClosedError
from tempscope.model import Removal
from tempscope.protocols import TempArea, TempStorage
from tempscope.testing.storage._calls import names_in, publish
from tempscope.testing.storage._chapter import Chapter, OpenArea, a_record
from tempscope.testing.storage._together import together


__all__ = ["Concurrency"]

_MANY = 8
_ROUNDS = 10


class Concurrency(Chapter):
    """That all threads of a job may use its area at once."""

    def test_8_1_one_name(self, area: TempArea) -> None:
        """Of several threads that make one name at once, one gets it and the others NameTakenError."""
        for number in range(_ROUNDS):
            creates = (area.create_file, area.create_dir)
            got = together([partial(creates[each % 2], f"name{number}") for each in range(_MANY)])
            assert [type(each) for each in got if isinstance(each, Exception)] == [NameTakenError] * (
                _MANY - 1
            )

    def test_8_2_many_names(self, open_area: OpenArea) -> None:
        """Several threads that make different names at once all get them, the area's first ones too."""
        for _ in range(_ROUNDS):
            area = open_area()
            got = together([partial(area.create_file, f"name{each}") for each in range(_MANY)])
            assert [each for each in got if isinstance(each, Exception)] == []
            assert names_in(area.directory) == [f"name{each}" for each in range(_MANY)]

    def test_8_3_one_destination(self, area: TempArea, outside: Path) -> None:
        """
        Of several threads that publish to one destination without overwrite, one does and no file is lost.
        """
        for number in range(_ROUNDS):
            paths = [area.create_file(f"file{each}") for each in range(_MANY)]
            for path in paths:
                path.write_bytes(path.name.encode())
            destination = outside / f"product{number}"
            got = together([partial(publish, area, path, destination, overwrite=False) for path in paths])
            assert [type(each) for each in got if isinstance(each, Exception)] == [NameTakenError] * (
                _MANY - 1
            )
            winner = next(each for each, result in enumerate(got) if result == destination)
            assert destination.read_bytes() == paths[winner].name.encode()
            assert names_in(area.directory) == [path.name for path in paths if path is not paths[winner]]
            area.delete(area.directory)

    def test_8_4_removed_meanwhile(self, open_area: OpenArea) -> None:
        """Whoever makes files while the area is removed gets a file or ScopeClosedError, and none stays."""
        for _ in range(_ROUNDS):
            area = open_area()
            home = area.directory
            calls = [partial(_create_until_closed, area, f"name{each}_") for each in range(_MANY - 1)]
            got = together([*calls, partial(_remove, area)])
            assert [each for each in got if isinstance(each, Exception)] == []
            assert not home.exists()

    def test_8_5_removed_by_many(self, open_area: OpenArea) -> None:
        """Several threads may remove an area at once: it is removed once, and none gets an error."""
        for _ in range(_ROUNDS):
            area = open_area()
            path = area.create_file("file")
            got = together([area.remove] * _MANY)
            assert [each for each in got if isinstance(each, Exception)] == []
            assert sum(each != Removal() for each in got) <= 1
            assert not path.exists()

    def test_8_6_closed_meanwhile(self, storage: TempStorage) -> None:
        """
        Whoever opens areas while the storage is closed gets ScopeClosedError at the latest at its first
        file.
        """

        def work() -> Path | None:
            try:
                return storage.open_area(a_record()).create_file("file")
            except ScopeClosedError:
                return None

        got = together([*[work] * (_MANY - 1), storage.close])
        assert [each for each in got if isinstance(each, Exception)] == []
        assert [path for path in got if isinstance(path, Path) and path.exists()] == []


def _create_until_closed(area: TempArea, prefix: str) -> None:
    """Make files until the area is closed, or there are many."""
    with contextlib.suppress(ScopeClosedError):
        list(map(area.create_file, [f"{prefix}{number}" for number in range(50)]))


def _remove(area: TempArea) -> None:
    area.remove()
