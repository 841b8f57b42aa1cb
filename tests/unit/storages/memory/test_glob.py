"""Patterns find in memory what they find on the disk, by the rules of the running Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


LAYOUT = [
    "a.txt",
    "b.py",
    ".hidden",
    "sub/a.txt",
    "sub/deep/b.py",
    "sub/deep/er/c",
    "other/",
    "other/x/a.txt",
    "[odd]",
]
PATTERNS = [
    "*",
    "*.txt",
    "**",
    "**/",
    "**/*",
    "**/*.txt",
    "**/a.txt",
    "*/",
    "sub/*",
    "sub/../*.py",
    "**/deep/**",
    "..",
    "**/**",
    "sub",
    "nothing/*",
    "a.txt/*",
    "sub/**/b.py",
    "?.py",
    "[ab].*",
    "**/deep/*",
    ".*",
    "[[]odd]",
    "**/deep/**/*",
    "a.txt/",
    "sub/",
    "*/*/*",
    "sub/..",
    "**/..",
    "**/*/**/*.txt",
]


@pytest.fixture
def both(area, tmp_path):
    """The same tree in memory and on the disk."""
    memory = area.directory / "top"
    for top in (memory, tmp_path):
        for name in LAYOUT:
            path = top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name.endswith("/") else path.write_text(name)
    return memory, tmp_path


def found(top: Path, paths) -> list[str]:
    """Return *paths* below *top* as comparable text."""
    return sorted(os.path.join(*path.parts[len(top.parts) :], "") for path in paths)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_the_same_as_on_disk(pattern, both):
    """Glob and rglob find what they find in the same tree on the disk, each path once."""
    memory, disk = both
    assert found(memory, memory.glob(pattern)) == sorted(set(found(disk, disk.glob(pattern))))
    assert found(memory, memory.rglob(pattern)) == sorted(set(found(disk, disk.rglob(pattern))))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="case_sensitive came with Python 3.12")
@pytest.mark.parametrize("sensitive", [True, False])
def test_case_counts_as_on_disk(sensitive, both):
    """case_sensitive= means what it means on the disk, for plain names too."""
    memory, disk = both
    for pattern in ("A.TXT", "*.TXT", "Sub/*"):
        assert found(memory, memory.glob(pattern, case_sensitive=sensitive)) == found(
            disk, disk.glob(pattern, case_sensitive=sensitive)
        )


@pytest.mark.parametrize("pattern", ["", "/absolute", *(["a**"] if sys.version_info < (3, 13) else [])])
def test_a_pattern_that_cannot_be_one_is_refused_as_on_disk(pattern, both):
    """An empty or absolute pattern raises as on the disk."""
    memory, disk = both
    with pytest.raises((ValueError, NotImplementedError)) as expected:
        list(disk.glob(pattern))
    with pytest.raises(expected.type):
        list(memory.glob(pattern))


def test_below_a_file_nothing_is_found(both):
    """A pattern below a file, or below nothing, finds nothing."""
    memory, _ = both
    assert list((memory / "a.txt").glob("*")) == list((memory / "nothing").rglob("*")) == []


@pytest.mark.parametrize("top_down", [True, False])
def test_walking_meets_the_same_as_on_disk(top_down, both):
    """Walk tells each directory with the names in it, and in which order is the caller's choice."""
    memory, disk = both
    expected = {
        Path(top).relative_to(disk).as_posix(): (sorted(inside), sorted(files))
        for top, inside, files in os.walk(disk)
    }
    met = [(path.relative_to(memory).as_posix(), *rest) for path, *rest in memory.walk(top_down)]
    assert {name: (sorted(inside), sorted(files)) for name, inside, files in met} == expected
    order = [name for name, *_ in met]
    assert (order.index("sub") < order.index("sub/deep")) is top_down
    assert len(order) == len(expected)


def test_walking_can_be_pruned_and_tells_errors(both):
    """Names taken out of a directory's list are not entered; what cannot be listed goes to on_error."""
    memory, _ = both
    errors = []
    met = []
    for path, inside, _files in memory.walk():
        met.append(path.name)
        inside[:] = [name for name in inside if name != "sub"]
    assert "deep" not in met
    assert list((memory / "nothing").walk()) == []
    assert list((memory / "a.txt").walk(on_error=errors.append)) == []
    assert isinstance(errors[0], NotADirectoryError)


def test_what_cannot_be_listed_is_passed_over(both):
    """A directory that may not be listed is found, and nothing in it."""
    memory, _ = both
    memory._tree.volume.privileged  # noqa: B018  asks who we are, which is then changed
    memory._tree.volume._privileged = False
    (memory / "sub").chmod(0o300)
    assert [path.name for path in memory.glob("sub/*")] == []
    (memory / "sub").chmod(0o600)
    assert [path.name for path in memory.glob("sub/*/*")] == []
    assert sorted(path.name for path in memory.rglob("sub/*")) == ["a.txt", "deep"]
    (memory / "sub").chmod(0o700)
    assert len(list(memory.glob("sub/*"))) == 2
