"""Opening scopes: ``TempScopes``, ``current_scope`` and ``in_scope``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from dependency_injector.wiring import Provide

from tempscope.errors import ConfigurationError, NoOpenScopeError, ScopeClosedError, UnsupportedError
from tempscope.manager import TempFileManager
from tempscope.policies import DeleteOnClose, KeepAll, KeepOnFailure
from tempscope.scopes import TempScopes, current_scope, in_scope
from tempscope.storages import LocalDiskStorage

from .faults import PATIENCE, Gate, HookedStorage, Keeping, PlainStorage


# Opening


def test_what_an_opener_tells(storage: LocalDiskStorage) -> None:
    """Storage, policy and label are there to read, and stand in its repr."""
    scopes = TempScopes(storage, KeepAll(), label="render")
    assert (scopes.storage, scopes.policy, scopes.label) == (storage, KeepAll(), "render")
    assert repr(scopes) == f"TempScopes({storage!r}, {KeepAll()!r}, label='render')"
    assert repr(TempScopes(storage)) == f"TempScopes({storage!r}, {DeleteOnClose()!r})"


def test_the_usual_policy_or_one_for_this_scope(storage: LocalDiskStorage) -> None:
    """A scope is judged by the opener's policy unless it is opened with another."""
    scopes = TempScopes(storage, KeepAll())
    with scopes.open() as usual, scopes.open(policy=KeepOnFailure()) as other:
        assert usual.policy == KeepAll()
        assert other.policy == KeepOnFailure()


def test_a_policy_that_is_falsy_is_still_a_policy(storage: LocalDiskStorage) -> None:
    """A policy that looks empty to ``bool`` is not replaced by the usual one."""

    class Empty(Keeping):
        def __len__(self) -> int:
            return 0

    policy = Empty()
    with TempScopes(storage).open(policy=policy) as job:
        assert job.policy is policy
    with TempFileManager(storage=storage, policy=policy) as job:
        assert job.policy is policy
        with job.scope(policy=Empty(on=())) as child:
            assert child.policy is not policy


def test_opening_makes_nothing(hooked: HookedStorage) -> None:
    """Neither opening, nor entering, nor closing a scope without files touches the storage."""
    with TempScopes(hooked).open("job") as job:
        child = job.scope()
        assert job.cleanup_all().removed == 0
        assert job.usage().files == 0
    assert child.closed
    assert hooked.hooks.opened == []
    assert hooked.hooks.calls == []


def test_an_opener_may_be_dropped(storage: LocalDiskStorage) -> None:
    """Scopes live on when what opened them is gone."""
    job = TempScopes(storage).open()
    path = job.new_file()
    assert path.exists()
    job.close()


def test_names_are_labels(scopes: TempScopes) -> None:
    """A job's name may be any text; it is no part of any path."""
    with scopes.open("../../etc\n\x00") as job:
        path = job.new_file()
        assert "etc" not in str(path.relative_to(scopes.storage.base_dir))  # type: ignore[attr-defined]
        assert job.name == "../../etc\n\x00"


def test_a_policy_that_may_keep_needs_a_storage_that_can(tmp_path: Any) -> None:
    """A mismatch of policy and storage is refused when the scope is opened, not when it closes."""
    scopes = TempScopes(PlainStorage(tmp_path), KeepAll())
    with pytest.raises(UnsupportedError, match="may keep scopes"):
        scopes.open()
    with TempScopes(PlainStorage(tmp_path)).open() as job, pytest.raises(UnsupportedError):
        job.scope(policy=KeepAll())


# Active


def test_active_tells_what_is_open(storage: LocalDiskStorage) -> None:
    """``active`` has a record for each open scope on this storage, oldest first, with its usage."""
    scopes = TempScopes(storage, label="kind")
    assert scopes.active() == []
    with scopes.open("first") as first, scopes.open("second"), TempFileManager(storage=storage) as alone:
        first.new_file().write_bytes(b"x" * 5000)
        records = scopes.active()
        assert [record.name for record in records] == ["first", "second"]
        assert records[0].usage is not None
        assert records[0].usage.bytes >= 5000
        assert records[0].directory == first.directory
        assert records[0].label == "kind"
        assert records[1].usage is None
        assert scopes.active() == records
        alone.new_file()
        assert len(scopes.active()) == 3
    assert scopes.active() == []


def test_active_knows_its_own_storage(storage: LocalDiskStorage, tmp_path: Any) -> None:
    """Scopes on another storage are not told."""
    other = TempScopes(LocalDiskStorage(tmp_path))
    with TempScopes(storage).open():
        assert other.active() == []


def test_active_passes_over_what_closes_meanwhile(hooked: HookedStorage) -> None:
    """A scope that closes while it is looked at is told without usage, and is no error."""
    scopes = TempScopes(hooked)
    job = scopes.open("job")
    job.new_file()
    hooked.hooks.before["usage"] = lambda: job.close() and None
    (record,) = scopes.active()
    assert record.name == "job"
    assert record.directory is None


def test_racing_threads_see_one_token(scopes: TempScopes) -> None:
    """A scope's token is the same whoever asks for it first."""
    with scopes.open() as job:
        start, tokens = threading.Barrier(8), set()

        def look() -> None:
            start.wait(PATIENCE)
            tokens.add(job._identity)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(tokens) == 1


# in_scope


def test_in_scope_opens_one_per_call(scopes: TempScopes) -> None:
    """Each call of a decorated function runs in a scope of its own, named like the function."""
    seen: list[TempFileManager] = []

    @in_scope(scopes)
    def render(value: int) -> int:
        seen.append(current_scope())
        current_scope().new_file()
        return value + 1

    assert [render(1), render(2)] == [2, 3]
    assert seen[0] is not seen[1]
    assert all(job.closed for job in seen)
    assert (seen[0].name or "").endswith("render")
    assert render.__name__ == "render"


def test_in_scope_knows_how_the_job_ended(scopes: TempScopes) -> None:
    """What the function raises is the scope's outcome, and comes out."""
    seen: list[TempFileManager] = []

    @in_scope(scopes, "mine")
    def fail() -> None:
        seen.append(current_scope())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert seen[0].name == "mine"
    assert seen[0].outcome is not None
    assert seen[0].outcome.exception is caught.value


def test_in_scope_takes_coroutine_functions(scopes: TempScopes) -> None:
    """Coroutine functions run in an async scope, current across their awaits."""

    @in_scope(lambda: scopes)
    async def render(value: int) -> tuple[int, TempFileManager]:
        await asyncio.sleep(0)
        assert current_scope()._async
        return value, current_scope()

    async def main() -> list[tuple[int, TempFileManager]]:
        return await asyncio.gather(render(1), render(2))

    (one, first), (two, second) = asyncio.run(main())
    assert (one, two) == (1, 2)
    assert first is not second
    assert first.closed


def test_in_scope_asks_its_provider_each_time(storage: LocalDiskStorage) -> None:
    """A provider is called per call, so that an override holds at once."""
    openers = [TempScopes(storage, label="one"), TempScopes(storage, label="two")]
    labels = []

    @in_scope(lambda: openers.pop(0))
    def look() -> None:
        labels.append(current_scope()._label)

    look()
    look()
    assert labels == ["one", "two"]


def test_in_scope_takes_any_callable(scopes: TempScopes) -> None:
    """What has no name of its own is named by its repr."""

    class Job:
        def __call__(self) -> str | None:
            return current_scope().name

        def __repr__(self) -> str:
            return "<a job>"

    assert in_scope(scopes)(Job())() == "<a job>"


def generate() -> Iterator[int]:
    """Yield a number."""
    yield 1


async def generate_async() -> AsyncIterator[int]:
    """Yield a number."""
    yield 1


@pytest.mark.parametrize("function", [generate, generate_async])
def test_in_scope_refuses_generators(scopes: TempScopes, function: Callable[[], object]) -> None:
    """A generator's body would run after the scope closed, so it is refused."""
    with pytest.raises(ConfigurationError, match="cannot decorate the generator"):
        in_scope(scopes)(function)


@pytest.mark.parametrize(
    ("scopes", "message"),
    [
        (None, "needs a TempScopes, or a provider of one, not None"),
        (Provide["scopes"], "marker of a container"),
    ],
)
def test_in_scope_refuses_what_opens_nothing(scopes: Any, message: str) -> None:
    """What is neither an opener nor a provider is refused when decorating."""
    with pytest.raises(ConfigurationError, match=message):
        in_scope(scopes)


@pytest.mark.parametrize(
    ("scopes", "message"),
    [(lambda: 5, "got 5 from its provider"), (lambda: Provide["scopes"], "marker of a container")],
)
def test_in_scope_refuses_a_provider_of_something_else(scopes: Any, message: str) -> None:
    """What a provider gives is looked at when the function is called."""
    with pytest.raises(ConfigurationError, match=message):
        in_scope(scopes)(print)()


# Markers


def test_a_marker_is_noticed(storage: LocalDiskStorage) -> None:
    """A marker that was never replaced is named, with what is missing."""
    with pytest.raises(ConfigurationError, match=r"storage is a marker of a container.*wire"):
        TempScopes(Provide["storage"])
    with pytest.raises(ConfigurationError, match=r"name is a marker of a container"):
        TempScopes(storage).open(Provide["name"])


def test_in_scope_hides_markers(scopes: TempScopes) -> None:
    """Parameters that the container fills in do not stand in the decorated function's signature."""
    import inspect

    def job(value: int, tool: object = Provide["tool"]) -> int:
        return value

    async def async_job(value: int, tool: object = Provide["tool"]) -> int:
        return value

    for function in (job, async_job):
        assert list(inspect.signature(in_scope(scopes)(function)).parameters) == ["value"]


# Current


def test_no_scope_is_current_outside(scopes: TempScopes) -> None:
    """Without a scope there is an error that is also a ``LookupError``, and says what to do."""
    with pytest.raises(LookupError, match=r"with scopes\.open"):
        current_scope()
    assert issubclass(NoOpenScopeError, LookupError)


def test_a_scope_is_current_while_its_files_go(hooked: HookedStorage) -> None:
    """A second closer returns at once, while the first is still removing."""
    gate = hooked.hooks.before["remove"] = Gate()
    job = TempScopes(hooked).open("job")
    job.new_file()
    closing = threading.Thread(target=job.close)
    closing.start()
    assert gate.arrived.wait(PATIENCE)
    report = job.close()
    assert report.removed == 0
    with pytest.raises(ScopeClosedError):
        job.new_file()
    gate.open()
    closing.join(PATIENCE)
    assert job.report is not None
    assert job.report.removed > 0
