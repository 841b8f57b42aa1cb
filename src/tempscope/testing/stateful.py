"""
A storage against a dictionary: random sequences of calls, found and shrunk by hypothesis.

::

    class Machine(StorageMachine):
        def make_storage(self):
            return MyStorage()


    TestMyStorage = Machine.TestCase
"""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tempscope.errors import NameTakenError, PathMissingError, TempscopeError
from tempscope.model import Instant, ScopeRecord
from tempscope.protocols import TempArea, TempStorage
from tempscope.storages import new_token


try:
    import hypothesis.strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
except ImportError as error:
    raise ImportError(
        "tempscope.testing.stateful needs hypothesis, which is not installed: pip install hypothesis"
    ) from error


__all__ = ["StorageMachine"]

_names = st.sampled_from(["a", "b", "c.txt", "d d"])
_below = st.sampled_from(["x", "y"])
_content = st.binary(max_size=64)
_UNPUBLISHED = (PathMissingError, NameTakenError)


class StorageMachine(RuleBasedStateMachine):
    """
    Creates, writes, reads, lists, deletes, takes in and publishes, on one area and on a dictionary.

    Lives as long as one random sequence; used by one thread.
    A subclass gives :meth:`make_storage`, and hands its ``TestCase`` to the test runner.
    """

    def __init__(self) -> None:
        super().__init__()
        self._storage = self.make_storage()
        self._world = Path(tempfile.mkdtemp(prefix="tempscope-machine-"))
        self._area = self._open()
        self._files: dict[tuple[str, ...], bytes] = {}
        self._directories: set[str] = set()
        self._published: dict[str, bytes] = {}

    @abstractmethod
    def make_storage(self) -> TempStorage:
        """Return a new storage; it is closed after the sequence."""

    def teardown(self) -> None:
        """Close the storage, and see that nothing of the scope is left."""
        paths = [self._path(names) for names in self._files]
        try:
            self._storage.close()
            assert not any(path.exists() for path in paths)
        finally:
            shutil.rmtree(self._world)

    def _open(self) -> TempArea:
        record = ScopeRecord(token=new_token(), name="machine", opened=Instant(0.0, 0.0))
        return self._storage.open_area(record)

    def _path(self, names: tuple[str, ...]) -> Path:
        return self._area.directory.joinpath(*names)

    def _is_taken(self, name: str) -> bool:
        return (name,) in self._files or name in self._directories

    # -- what may happen

    @rule(name=_names)
    def create_file(self, name: str) -> None:
        """Make a file; a name that is taken is refused."""
        assert _refused(NameTakenError, self._area.create_file, name) == self._is_taken(name)
        if not self._is_taken(name):
            self._files[name,] = b""

    @rule(name=_names)
    def create_directory(self, name: str) -> None:
        """Make a directory; a name that is taken is refused."""
        assert _refused(NameTakenError, self._area.create_dir, name) == self._is_taken(name)
        if not self._is_taken(name):
            self._directories.add(name)

    @rule(name=_names, content=_content)
    def write(self, name: str, content: bytes) -> None:
        """Write to a file that is there."""
        if (name,) in self._files:
            self._path((name,)).write_bytes(content)
            self._files[name,] = content

    @rule(name=_names, below=_below, content=_content)
    def write_below(self, name: str, below: str, content: bytes) -> None:
        """Write to a file in a directory, which makes it."""
        if name in self._directories:
            self._path((name, below)).write_bytes(content)
            self._files[name, below] = content

    @rule(name=_names)
    def delete(self, name: str) -> None:
        """Delete what has the name, and all below it; what is not there counts as nothing."""
        gone = [names for names in self._files if names[0] == name]
        removal = self._area.delete(self._path((name,)))
        assert removal.complete
        assert removal.removed == len(gone) + (name in self._directories)
        self._directories.discard(name)
        for names in gone:
            del self._files[names]

    @rule(name=_names, content=_content)
    def take_in(self, name: str, content: bytes) -> None:
        """Take an outside file in; a name that is taken is refused."""
        source = self._world / "source"
        source.write_bytes(content)
        stage = partial(self._area.take_in, source, name, writable=True, progress=None)
        assert _refused(NameTakenError, stage) == self._is_taken(name)
        if not self._is_taken(name):
            self._files[name,] = content
        assert source.read_bytes() == content
        source.unlink()

    @rule(name=_names, product=_below, overwrite=st.booleans())
    def publish(self, name: str, product: str, overwrite: bool) -> None:
        """Publish a file; one that is missing, or a destination that is taken, is refused."""
        if name in self._directories:
            return
        known = self._files.get((name,))
        give_out = partial(self._area.give_out, durable=False, mode=None, overwrite=overwrite, progress=None)
        refused = _refused(_UNPUBLISHED, give_out, self._path((name,)), self._world / product)
        assert refused == (known is None or (product in self._published and not overwrite))
        if known is not None and not refused:
            del self._files[name,]
            self._published[product] = known

    @rule()
    def begin_again(self) -> None:
        """Remove the area and open another, in which nothing is."""
        self._area.remove()
        self._files.clear()
        self._directories.clear()
        self._area = self._open()

    # -- what always holds

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        """What is there is what the dictionary has, and reads so."""
        top = {path.name for path in self._area.directory.iterdir()}
        assert top == {names[0] for names in self._files} | self._directories
        for directory in self._directories:
            inside = {(directory, path.name) for path in self._path((directory,)).iterdir()}
            assert inside == {names for names in self._files if names[:-1] == (directory,)}
        assert {names: self._path(names).read_bytes() for names in self._files} == self._files
        usage = self._area.usage()
        assert (usage.files, usage.directories) == (len(self._files), len(self._directories))

    @invariant()
    def products_are_whole(self) -> None:
        """What was published is at its destination, and nothing else is."""
        assert {path.name: path.read_bytes() for path in self._world.iterdir()} == self._published


def _refused(
    kinds: type[TempscopeError] | tuple[type[TempscopeError], ...], call: Callable[..., object], *args: object
) -> bool:
    try:
        call(*args)
    except kinds:
        return True
    return False
