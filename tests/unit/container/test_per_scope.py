"""``PerScope``: one instance per scope, closed with it, told how the job went."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import tracemalloc
import weakref
from typing import Any, Self

import pytest
import trio
from dependency_injector import containers, providers

from tempscope.container import PerScope
from tempscope.errors import ConfigurationError, NoOpenScopeError, ScopeClosedError, ScopeError
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes, current_scope

from .conftest import AsyncEntering, Entering, Log, in_threads


class Plain:
    """Whatever it is given, by name."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


class NotesItsScope:
    """Remembers which scope was current while it was built, and while it was entered."""

    def __init__(self) -> None:
        self.built_in = current_scope()

    def __enter__(self) -> Self:
        self.entered_in = current_scope()
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


def run_and_fail(job: TempFileManager, provider: PerScope[Any], failure: Exception) -> None:
    """Run *job*, in which the provider is asked for its object and *failure* is raised."""
    with job:
        provider()
        raise failure


# One instance per scope


def test_a_scope_has_one_instance(scopes: TempScopes) -> None:
    """Within a scope the provider gives the same object every time; another scope gets another."""
    provider = PerScope(Plain)
    with scopes.open():
        first = provider()
        assert provider() is first
    with scopes.open():
        assert provider() is not first


def test_children_share_the_root_scopes_instance(scopes: TempScopes) -> None:
    """By default the instance is the whole job's: child scopes receive the root's, at any depth."""
    provider = PerScope(Plain)
    with scopes.open() as job:
        with job.scope() as stage, stage.scope():
            first = provider()
        assert provider() is first


def test_per_scope_means_the_innermost(scopes: TempScopes) -> None:
    """With ``per="scope"`` each scope, child or root, has its own."""
    provider = PerScope(Plain, per="scope")
    with scopes.open() as job:
        ours = provider()
        with job.scope():
            assert provider() is not ours
            assert provider() is provider()
        assert provider() is ours


@pytest.mark.parametrize("per", ["root", "scope"])
def test_racing_threads_receive_one_instance(scopes: TempScopes, per: Any) -> None:
    """Eight threads of one scope that ask at once receive the same object, built once."""
    built: list[object] = []
    all_ask = threading.Barrier(8, timeout=10)

    class Slow:
        def __init__(self) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                second_is_in.wait(timeout=0.05)
            built.append(self)

    second_is_in = threading.Barrier(2)
    provider = PerScope(Slow, per=per)

    def ask() -> Any:
        all_ask.wait()
        return provider()

    with scopes.open() as job:
        received = in_threads(*[job.bind(ask)] * 8)
    assert len(built) == 1
    assert {id(one) for one in received} == {id(built[0])}


def test_different_scopes_in_different_threads_share_nothing(scopes: TempScopes) -> None:
    """Threads that are each in a scope of their own each receive their own object."""
    provider = PerScope(Plain)
    all_in = threading.Barrier(4, timeout=10)

    def job() -> Any:
        with scopes.open():
            all_in.wait()
            one = provider()
            all_in.wait()
            assert provider() is one
            return one

    received = in_threads(*[job] * 4)
    assert all(isinstance(one, Plain) for one in received)
    assert len({id(one) for one in received}) == 4


def test_building_one_object_may_wait_for_a_thread_that_builds_another(scopes: TempScopes) -> None:
    """A constructor may have a thread of its scope fetch another object: each waits for its own kind."""
    other = PerScope(Plain)

    class Delegating:
        def __init__(self) -> None:
            self.other = in_threads(current_scope().bind(other))[0]

    provider = PerScope(Delegating)
    with scopes.open():
        assert provider().other is other()


def test_outside_of_any_scope_it_says_so() -> None:
    """Without an entered scope there is no instance: ``NoOpenScopeError``, and nothing is built."""
    log = Log()
    provider = PerScope(Entering, log)
    with pytest.raises(NoOpenScopeError):
        provider()
    assert log.events == []


def test_while_it_is_built_its_scope_is_the_current_one(scopes: TempScopes) -> None:
    """A root scope's object that is first asked for in a child is built, and entered, in the root."""
    provider = PerScope(NotesItsScope)
    innermost = PerScope(NotesItsScope, per="scope")
    with scopes.open() as job, job.scope() as stage:
        assert provider().built_in is job
        assert provider().entered_in is job
        assert innermost().built_in is stage
        assert current_scope() is stage


def test_other_providers_are_injected_for_its_scope(scopes: TempScopes) -> None:
    """Injected providers are called as by ``Factory``, with the object's own scope as the current one."""
    manager = providers.Callable(current_scope)
    inner = PerScope(Plain, manager=manager)
    provider = PerScope(Plain, manager=manager, inner=inner, factory=manager.provider, number=3)
    with scopes.open() as job, job.scope() as stage:
        it = provider()
        assert (it.manager, it.inner.manager, it.number) == (job, job, 3)
        assert it.inner is inner()
        assert it.factory() is stage


# Closing


def test_a_context_manager_is_entered_and_left_with_the_scope(scopes: TempScopes) -> None:
    """It is entered when built, once, and left when the scope closes well, with no exception."""
    log = Log()
    provider = PerScope(Entering, log)
    with scopes.open():
        provider()
        provider()
        assert log.events == [("built", "it"), ("entered", "it")]
    assert log.events[2:] == [("left", "it", None, None)]


def test_a_context_manager_is_left_with_the_jobs_exception(scopes: TempScopes) -> None:
    """A failed job's exception, the very object, is what the context manager is left with."""
    log = Log()
    provider = PerScope(Entering, log)
    failure = ValueError("job")
    with pytest.raises(ValueError, match="job"):
        run_and_fail(scopes.open(), provider, failure)
    assert log.events[-1] == ("left", "it", ValueError, failure)


def test_what_entering_gives_is_what_users_receive(scopes: TempScopes) -> None:
    """The provider gives what ``with … as`` would give, here from a generator."""

    @contextlib.contextmanager
    def number() -> Any:
        yield 42

    with scopes.open():
        assert PerScope(number)() == 42


def test_an_object_of_the_scope_cannot_swallow_the_jobs_exception(scopes: TempScopes) -> None:
    """What ``__exit__`` returns is for nobody: the job's failure goes on."""
    provider = PerScope(contextlib.suppress, ValueError)
    job = scopes.open()
    with pytest.raises(ValueError, match="job"):
        run_and_fail(job, provider, ValueError("job"))
    assert job.outcome.kind == "failed"


def test_an_exit_that_raises_the_jobs_exception_again_has_not_failed(scopes: TempScopes) -> None:
    """Raising what was passed in, as some exits do, is not an error of the exit's own."""

    class Raising(Entering):
        def __exit__(self, *exc_info: Any) -> None:
            raise exc_info[1]

    failure = ValueError("job")
    job = scopes.open()
    with pytest.raises(ValueError, match="job") as caught:
        run_and_fail(job, PerScope(Raising, Log()), failure)
    assert caught.value is failure
    assert not getattr(failure, "__notes__", [])
    assert job.report.errors == ()


def test_an_exit_that_fails_is_reported(scopes: TempScopes) -> None:
    """An error of the exit's own does not get lost: it raises when the job was fine."""

    class Failing(Entering):
        def __exit__(self, *exc_info: object) -> None:
            raise OSError("exit")

    with pytest.raises(Exception, match="exit"), scopes.open():
        PerScope(Failing, Log())()


def test_close_is_called_where_there_is_no_exit(scopes: TempScopes) -> None:
    """An object that is no context manager has its ``close()`` called when the scope closes."""
    closed: list[str] = []

    class Closable:
        def close(self) -> None:
            closed.append("closed")

    with scopes.open():
        PerScope(Closable)()
        assert closed == []
    assert closed == ["closed"]


def test_a_child_scopes_object_is_closed_with_the_child(scopes: TempScopes) -> None:
    """An object of the innermost scope is left when that closes; the root's lives on."""
    log = Log()
    inner = PerScope(Entering, log, "inner", per="scope")
    outer = PerScope(Entering, log, "outer")
    with scopes.open() as job:
        with job.scope():
            inner()
            outer()
        assert log.events[-1] == ("left", "inner", None, None)
    assert log.events[-1] == ("left", "outer", None, None)


def test_objects_are_closed_newest_first(scopes: TempScopes) -> None:
    """What an object was built from outlives it: exits run in reverse order of building."""
    log = Log()
    base = PerScope(Entering, log, "base")
    user = PerScope(Entering, log, "user", base=base)
    with scopes.open():
        user()
    assert [event[1] for event in log.events if event[0] == "left"] == ["user", "base"]


def test_a_failed_construction_is_tried_again(scopes: TempScopes) -> None:
    """When building fails nothing is held, and the next caller builds anew."""
    attempts: list[int] = []

    class Fickle:
        def __init__(self) -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise OSError("not yet")

    provider = PerScope(Fickle)
    with scopes.open():
        with pytest.raises(OSError, match="not yet"):
            provider()
        assert provider() is provider()
    assert len(attempts) == 2


def test_an_object_entered_while_its_scope_closes_is_left_at_once(scopes: TempScopes) -> None:
    """If the scope closes while the object is entered, the object is left and the caller told."""
    log = Log()
    job = scopes.open()

    class ClosesItsScope(Entering):
        def __enter__(self) -> Entering:
            job.close()
            return super().__enter__()

    provider = PerScope(ClosesItsScope, log)
    with job, pytest.raises(ScopeClosedError):
        provider()
    assert [event[0] for event in log.events] == ["built", "entered", "left"]
    assert log.events[-1][2] is ScopeClosedError


def test_a_closed_object_is_not_handed_out_again(scopes: TempScopes) -> None:
    """An exit that asks for an object which was closed before it is told so; nothing is built again."""
    log = Log()
    errors: list[Exception] = []
    newest = PerScope(Entering, log, "newest")

    class AsksTooLate:
        def __init__(self) -> None:
            self.ask = current_scope().bind(newest)

        def close(self) -> None:
            try:
                self.ask()
            except ScopeClosedError as error:
                errors.append(error)

    oldest = PerScope(AsksTooLate)
    with scopes.open():
        oldest()
        newest()
    assert len(errors) == 1
    assert [event[0] for event in log.events] == ["built", "entered", "left"]


def test_an_object_first_asked_for_while_closing_is_closed_too(scopes: TempScopes) -> None:
    """An exit may still have an object built; its own exit runs as well."""
    log = Log()
    late = PerScope(Entering, log, "late")

    class AsksLate:
        def __init__(self) -> None:
            self.ask = current_scope().bind(late)

        def close(self) -> None:
            self.ask()

    with scopes.open():
        PerScope(AsksLate)()
    assert [event[0] for event in log.events] == ["built", "entered", "left"]


# Memory


def test_an_instance_goes_with_its_scope(scopes: TempScopes) -> None:
    """Once closed, a scope holds its objects no more, even while somebody holds the manager."""
    provider = PerScope(Plain, manager=providers.Callable(current_scope))
    with scopes.open() as job:
        instance = weakref.ref(provider())
    gc.collect()
    assert instance() is None
    assert job.closed


def test_an_instance_goes_as_soon_as_it_is_left(scopes: TempScopes) -> None:
    """What was left is let go of at once, while older exits still run."""
    provider = PerScope(Plain)
    alive: list[object] = []
    with scopes.open() as job:
        job.register_cleanup_callback(lambda: alive.append(instance()))
        instance = weakref.ref(provider())
    assert alive == [None]


def test_many_scopes_leave_nothing(scopes: TempScopes) -> None:
    """Memory does not grow with the number of scopes: nothing stays at the provider."""
    provider = PerScope(Plain, manager=providers.Callable(current_scope))

    def jobs(count: int) -> None:
        for _ in range(count):
            with scopes.open():
                provider()

    jobs(50)
    gc.collect()
    tracemalloc.start()
    jobs(500)
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 500 * 20


# As a provider


def test_each_container_has_instances_of_its_own(scopes: TempScopes) -> None:
    """A container's copy of the provider keeps its arguments and kind of scope, and its own instances."""

    class Application(containers.DeclarativeContainer):
        base = PerScope(Plain, per="scope")
        user = PerScope(Plain, base=base)

    one, two = Application(), Application()
    assert (one.base.per, one.user.per) == ("scope", "root")
    with scopes.open():
        assert one.user().base is one.base()
        assert one.user() is not two.user()


def test_it_can_be_overridden(scopes: TempScopes) -> None:
    """An override answers, in or outside of a scope, and the provider answers again afterwards."""
    provider = PerScope(Plain)
    with provider.override("fake"):
        assert provider() == "fake"
        copied = providers.deepcopy(provider)
        assert copied() == "fake"
    with scopes.open():
        assert isinstance(provider(), Plain)


def test_a_copy_is_made_once(scopes: TempScopes) -> None:
    """Copying a graph in which the provider stands twice copies it once."""
    provider = PerScope(Plain)
    one, two = providers.deepcopy([provider, provider])
    assert one is two


def test_an_unknown_kind_of_scope_is_refused() -> None:
    """``per`` is "root" or "scope"; the error says so."""
    with pytest.raises(ConfigurationError, match="'job'.*'root' and 'scope'"):
        PerScope(Plain, per="job")  # type: ignore[arg-type]


def test_arguments_of_the_call_are_refused(scopes: TempScopes) -> None:
    """The second caller's arguments could not be heeded, so the first caller's are not either."""
    with scopes.open(), pytest.raises(ConfigurationError, match="Plain.*declare them"):
        PerScope(Plain)(number=3)


def test_an_object_that_asks_for_itself_is_found_out(scopes: TempScopes) -> None:
    """A constructor that asks for the object it is building gets a clear error, no endless recursion."""

    def make() -> Any:
        return provider()

    provider = PerScope(make)
    with scopes.open(), pytest.raises(ConfigurationError, match="asks for itself"):
        provider()


# Async scopes


@pytest.mark.parametrize("run", [asyncio.run, trio.run])
def test_an_async_context_manager_lives_in_an_async_scope(scopes: TempScopes, run: Any) -> None:
    """It is awaited, entered once, and left with the job's exception, on asyncio and trio."""
    log = Log()
    failure = ValueError("job")

    async def job() -> None:
        provider: Any = PerScope(AsyncEntering, log)
        async with scopes.open():
            first = await provider()
            assert await provider() is first
            raise failure

    with pytest.raises(ValueError, match="job"):
        run(job) if run is trio.run else run(job())
    assert log.events == [("built", "it"), ("entered", "it"), ("left", "it", ValueError, failure)]


def test_racing_tasks_receive_one_instance(scopes: TempScopes) -> None:
    """Tasks that ask while the object is being entered wait for it, and receive the same."""
    log = Log()

    async def job() -> None:
        all_ask = asyncio.Event()

        class Slow(AsyncEntering):
            async def __aenter__(self) -> AsyncEntering:
                await all_ask.wait()
                return await super().__aenter__()

        provider: Any = PerScope(Slow, log)
        async with scopes.open():
            tasks = [asyncio.create_task(provider()) for _ in range(5)]
            for _ in range(5):
                await asyncio.sleep(0)
            all_ask.set()
            received = await asyncio.gather(*tasks)
        assert len({id(one) for one in received}) == 1

    asyncio.run(job())
    assert [event[0] for event in log.events] == ["built", "entered", "left"]


def test_a_cancelled_construction_is_tried_again(scopes: TempScopes) -> None:
    """A task that is cancelled while entering leaves nothing behind; the next one builds anew."""
    log = Log()

    async def job() -> None:
        entering = asyncio.Event()
        never = asyncio.Event()

        class StuckAtFirst(AsyncEntering):
            async def __aenter__(self) -> AsyncEntering:
                if not entering.is_set():
                    entering.set()
                    await never.wait()
                return await super().__aenter__()

        provider: Any = PerScope(StuckAtFirst, log)
        async with scopes.open():
            task = asyncio.create_task(provider())
            await entering.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await provider() is await provider()

    asyncio.run(job())
    assert [event[0] for event in log.events] == ["built", "built", "entered", "left"]


def test_in_a_sync_scope_an_async_object_is_refused(scopes: TempScopes) -> None:
    """What must be left by awaiting is refused where nobody awaits, before anything is built."""
    log = Log()
    with scopes.open("job"), pytest.raises(ScopeError, match="AsyncEntering.*'job'.*async with"):
        PerScope(AsyncEntering, log)()
    assert log.events == []


def test_in_a_sync_scope_the_async_object_of_a_function_is_refused(scopes: TempScopes) -> None:
    """What a function makes is looked at once it is made; it was not entered then."""
    log = Log()
    with scopes.open("job"), pytest.raises(ScopeError, match="async with"):
        PerScope(lambda: AsyncEntering(log))()
    assert log.events == [("built", "it")]


def test_an_async_exit_that_fails_is_reported(scopes: TempScopes) -> None:
    """An async exit may raise the job's exception again; an error of its own does not get lost."""

    class Failing(AsyncEntering):
        async def __aexit__(self, *exc_info: Any) -> None:
            raise exc_info[1] or OSError("exit")

    async def job(failure: Exception | None) -> None:
        provider: Any = PerScope(Failing, Log())
        async with scopes.open():
            await provider()
            if failure is not None:
                raise failure

    with pytest.raises(Exception, match="exit"):
        asyncio.run(job(None))
    with pytest.raises(ValueError, match="job") as caught:
        asyncio.run(job(ValueError("job")))
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("method", ["close", "aclose"])
def test_a_close_that_must_be_awaited_is_awaited(scopes: TempScopes, method: str) -> None:
    """An object with an async ``close``, or only ``aclose``, is closed by awaiting it."""
    closed: list[str] = []

    async def close(self: object) -> None:
        closed.append("closed")

    kind: Any = type("Client", (), {method: close})

    async def job() -> None:
        async with scopes.open():
            await PerScope(kind)()
            assert closed == []

    asyncio.run(job())
    assert closed == ["closed"]
    with scopes.open(), pytest.raises(ScopeError, match="Client"):
        PerScope(kind)()


def test_what_serves_both_ways_is_entered_by_with(scopes: TempScopes) -> None:
    """An object for ``with`` and ``async with`` needs no async scope, and is no awaitable in one."""

    class Both(Entering, AsyncEntering):
        pass

    log = Log()

    async def job() -> None:
        async with scopes.open():
            assert isinstance(PerScope(Both, log)(), Both)

    asyncio.run(job())
    assert [event[0] for event in log.events] == ["built", "entered", "left"]


def test_an_async_dependency_makes_its_user_awaitable(scopes: TempScopes) -> None:
    """Objects that have an awaited one injected are awaited themselves, and may be of any kind."""
    log = Log()

    async def job() -> None:
        base: Any = PerScope(AsyncEntering, log, "base")
        user: Any = PerScope(Entering, log, "user", base=base)
        service: Any = providers.Factory(Plain, user=user)
        async with scopes.open():
            made = await service()
            assert made.user is await user()
            assert made.user.parts["base"] is await base()

    asyncio.run(job())
    assert [event[1] for event in log.events if event[0] == "left"] == ["user", "base"]


def test_an_async_function_makes_an_object(scopes: TempScopes) -> None:
    """A coroutine function may make the object; its scope is the current one meanwhile."""

    async def make() -> Plain:
        await asyncio.sleep(0)
        return Plain(scope=current_scope())

    async def job() -> None:
        async with scopes.open() as job, job.scope():
            provider: Any = PerScope(make)
            assert (await provider()).scope is job

    asyncio.run(job())


def test_an_async_object_entered_while_its_scope_closes_is_left_at_once(scopes: TempScopes) -> None:
    """If the scope closes while the object is entered, the object is left and the caller told."""
    log = Log()

    async def work() -> None:
        job = scopes.open()

        class ClosesItsScope(AsyncEntering):
            async def __aenter__(self) -> AsyncEntering:
                await job.aclose()
                return await super().__aenter__()

        provider: Any = PerScope(ClosesItsScope, log)
        async with job:
            with pytest.raises(ScopeClosedError):
                await provider()

    asyncio.run(work())
    assert [event[0] for event in log.events] == ["built", "entered", "left"]
    assert log.events[-1][2] is ScopeClosedError
