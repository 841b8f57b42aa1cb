"""
The error tree: each error carries what it is about, is the built-in it resembles.

And survives pickling.
"""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
from pathlib import Path

import pytest

from tempscope import errors
from tempscope.errors import (
    CleanupFailed,
    HandOverError,
    LeftoverError,
    NameTakenError,
    StagedSourceChangedError,
    StorageError,
    StorageFull,
    TempscopeError,
)


CLASSES = [getattr(errors, name) for name in errors.__all__]
PLAIN = [cls for cls in CLASSES if cls is not CleanupFailed]
BUILT_IN = {
    "InvalidNameError": ValueError,
    "ConfigurationError": ValueError,
    "UnsupportedError": NotImplementedError,
    "ForeignPathError": ValueError,
    "ScopeError": RuntimeError,
    "NoOpenScopeError": LookupError,
    "ScopeClosedError": RuntimeError,
    "ScopeEnteredError": RuntimeError,
    "ScopeBusyError": RuntimeError,
    "ForkedScopeError": RuntimeError,
    "HandOverError": RuntimeError,
    "PickledScopeError": TypeError,
    "StorageError": OSError,
    "BaseDirectoryError": OSError,
    "NameTakenError": FileExistsError,
    "PathMissingError": FileNotFoundError,
    "StorageFull": OSError,
    "QuotaExceededError": OSError,
    "LeaseLostError": OSError,
    "LeftoverError": OSError,
    "CleanupFailed": ExceptionGroup,
    "TempscopeError": Exception,
    "StagedSourceChangedError": Exception,
}


def test_the_list_of_names_is_all_there_is():
    """Every error class is exported, and only error classes are."""
    defined = [
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    ]
    assert sorted(defined) == sorted(errors.__all__) == sorted(BUILT_IN)


def test_the_drawn_tree_is_the_real_one():
    """Each class stands in the tree at the top of the module, with the built-in that it is."""
    for cls in CLASSES[:]:
        (line,) = (
            line for line in errors.__doc__.splitlines() if line.lstrip("│├└─ ").split(" ")[0] == cls.__name__
        )
        if "(" in line:
            assert issubclass(cls, getattr(__import__("builtins"), line.split("(")[1].split(")")[0]))


@pytest.mark.parametrize("cls", CLASSES)
def test_each_is_ours_and_the_built_in_it_resembles(cls):
    """Old handlers keep working: each error is also the built-in exception that it resembles."""
    assert issubclass(cls, TempscopeError)
    assert issubclass(cls, BUILT_IN[cls.__name__])


def full(cls: type[TempscopeError]) -> TempscopeError:
    """Return an error with everything an error can have."""
    cause = ValueError("underneath")
    error = cls("what was wrong: 'é\udcff'", path="/p/é", scope="job", cause=cause)
    error.add_note("first")
    error.add_note("second")
    return error


def same(one: TempscopeError, two: TempscopeError) -> None:
    """Check that two errors tell the same."""
    assert type(one) is type(two)
    assert (str(one), one.path, one.scope, one.__notes__) == (str(two), two.path, two.scope, two.__notes__)
    assert (type(one.cause), str(one.cause)) == (type(two.cause), str(two.cause))
    assert two.__cause__ is two.cause
    if isinstance(one, StorageError):
        assert (one.errno, one.strerror, one.filename) == (two.errno, two.strerror, two.filename)


@pytest.mark.parametrize("cls", PLAIN)
def test_each_carries_path_scope_and_cause(cls):
    """The path, the scope and the cause are there; the cause is also shown by the traceback."""
    error = full(cls)
    assert (error.path, error.scope, str(error)) == ("/p/é", "job", "what was wrong: 'é\udcff'")
    assert error.__cause__ is error.cause
    bare = cls("only this")
    assert (bare.path, bare.scope, bare.cause, bare.__cause__, str(bare)) == (
        None,
        None,
        None,
        None,
        "only this",
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", PLAIN)
def test_each_survives_pickling_and_copying(cls, protocol):
    """An error that went through a pickle, or was copied, tells all that it told."""
    error = full(cls)
    same(error, pickle.loads(pickle.dumps(error, protocol)))
    same(error, copy.copy(error))
    same(error, copy.deepcopy(error))
    bare = pickle.loads(pickle.dumps(cls("bare"), protocol))
    assert (str(bare), bare.path, getattr(bare, "__notes__", None)) == ("bare", None, None)


def test_a_storage_error_has_the_systems_number():
    """
    The number is the given one, else the cause's, else the class's own.

    File name and text are the usual ones.
    """
    assert StorageError("x", errno=errno.EROFS, cause=OSError(errno.EIO, "x")).errno == errno.EROFS
    assert StorageError("x", cause=OSError(errno.EIO, "x")).errno == errno.EIO
    assert StorageError("x", cause=ValueError()).errno == errno.EIO
    assert NameTakenError("x").errno == errno.EEXIST
    error = StorageError("x", path=Path("/p"))
    assert (error.strerror, error.filename, str(error)) == ("x", Path("/p"), "x")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EMLINK, errno.EDQUOT])
def test_numbers_and_extras_survive_pickling(number):
    """What an error carries beyond the usual survives too: numbers, room, changes, reports."""
    error = StorageFull("x", errno=number, path="/p")
    error.wanted_bytes, error.free_bytes, error.free_inodes = 1, 2, 3
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.wanted_bytes, again.free_bytes, again.free_inodes) == (number, 1, 2, 3)
    changed = StagedSourceChangedError("x")
    changed.changed = ("size",)
    assert pickle.loads(pickle.dumps(changed)).changed == ("size",)
    left = LeftoverError("x")
    left.report = {"failed": 1}
    assert pickle.loads(pickle.dumps(left)).report == {"failed": 1}


def test_several_errors_are_one_group():
    """
    CleanupFailed is ours and a group.

    It is taken apart by except*, split and pickled with all it carries.
    """
    parts = [ValueError("a"), HandOverError("b", scope="inner")]
    error = CleanupFailed("closing failed", parts, path="/p", scope="job", cause=parts[0])
    assert list(error.exceptions) == parts
    assert (str(error), error.message, error.path, error.scope) == (
        "closing failed",
        "closing failed",
        "/p",
        "job",
    )
    with pytest.raises(ExceptionGroup) as left:
        try:
            raise error
        except* ValueError as group:
            assert (type(group), group.scope, len(group.exceptions)) == (CleanupFailed, "job", 1)
    assert type(left.value) is CleanupFailed
    error.add_note("n")
    again = pickle.loads(pickle.dumps(error))
    assert [type(each) for each in again.exceptions] == [ValueError, HandOverError]
    assert (again.exceptions[1].scope, again.scope, again.path, again.__notes__) == (
        "inner",
        "job",
        "/p",
        ["n"],
    )
    assert type(copy.copy(error)) is CleanupFailed
