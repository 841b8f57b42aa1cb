"""
What dependency-injector really does, measured: the reasons for the shape of our container.

Each test here is about the library alone and would fail if a later version behaved otherwise; then
the decision that rests on it can be looked at again (docs/explanation).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import sys
import threading
import tracemalloc
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
from dependency_injector import containers, errors, providers, wiring


class Recorder:
    """A context manager that writes down how it was left."""

    def __init__(self) -> None:
        self.exits: list[tuple[Any, ...]] = []
        self.entered = 0

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.exits.append(exc_info)


class Parts:
    """Whatever it is given, by name."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


@pytest.fixture
def module_from() -> Iterator[Callable[..., types.ModuleType]]:
    """Make importable modules from source, which wiring wants, and take them away again."""
    made: list[str] = []

    def make(source: str, **names: Any) -> types.ModuleType:
        module = types.ModuleType(f"tempscope_wired_{len(made)}")
        made.append(module.__name__)
        sys.modules[module.__name__] = module
        module.__dict__.update(names)
        # Else the source would inherit the postponed annotations of this file.
        exec(compile(source, module.__name__, "exec", dont_inherit=True), module.__dict__)
        return module

    yield make
    for name in made:
        del sys.modules[name]


def run_in_threads(*jobs: Callable[[], object]) -> None:
    """Run all *jobs* at once, each in a thread of its own, and raise what any of them raised."""
    errors_seen: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            errors_seen.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    if errors_seen:
        raise errors_seen[0]


# Resource, Closing, ContextLocalResource


def test_a_resource_never_tells_how_the_job_went() -> None:
    """Shutting a ``Resource`` down passes ``(None, None, None)``, also while an error is flying."""
    recorder = Recorder()
    resource = providers.Resource(lambda: recorder)
    resource.init()
    with contextlib.suppress(ValueError):
        try:
            raise ValueError("job")
        finally:
            resource.shutdown()
    assert recorder.exits == [(None, None, None)]


def test_closing_never_tells_how_the_job_went(module_from: Callable[..., types.ModuleType]) -> None:
    """A function with ``Closing[...]`` that fails still leaves with ``(None, None, None)``."""
    recorder = Recorder()

    class Application(containers.DeclarativeContainer):
        job = providers.Resource(lambda: recorder)

    module = module_from(
        "from dependency_injector.wiring import Closing, Provide, inject\n"
        "@inject\n"
        "def work(job=Closing[Provide['job']]):\n"
        "    raise ValueError('job')\n"
    )
    application = Application()
    application.wire(modules=[module])
    with pytest.raises(ValueError, match="job"):
        module.work()
    application.unwire()
    assert recorder.exits == [(None, None, None)]


def test_a_context_local_resource_never_tells_how_the_job_went() -> None:
    """``ContextLocalResource`` passes ``(None, None, None)`` like its base."""
    recorder = Recorder()
    resource = providers.ContextLocalResource(lambda: recorder)
    resource.init()
    with contextlib.suppress(ValueError):
        try:
            raise ValueError("job")
        finally:
            resource.shutdown()
    assert recorder.exits == [(None, None, None)]


def test_two_threads_share_one_resource_and_the_first_closes_it() -> None:
    """A ``Resource`` is one object for all threads: the first that finishes closes it under the other."""
    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        return made[-1]

    resource = providers.Resource(make)
    resource.init()
    first_closed = threading.Event()
    both_have_it = threading.Barrier(2, timeout=10)
    seen: dict[str, Any] = {}

    def first() -> None:
        seen["first"] = resource()
        both_have_it.wait()
        resource.shutdown()
        first_closed.set()

    def second() -> None:
        seen["second"] = resource()
        both_have_it.wait()
        assert first_closed.wait(10)
        seen["closed under the second"] = len(seen["second"].exits)

    run_in_threads(first, second)
    assert seen["first"] is seen["second"]
    assert seen["closed under the second"] == 1


@pytest.mark.parametrize("how", ["gather", "TaskGroup"])
def test_child_tasks_close_their_parents_context_local_resource(how: str) -> None:
    """Child tasks inherit the context, and so close the ``ContextLocalResource`` their parent still uses."""
    recorder = Recorder()
    resource = providers.ContextLocalResource(lambda: recorder)

    async def child() -> None:
        assert resource() is recorder
        resource.shutdown()

    async def parent() -> int:
        assert resource() is recorder
        if how == "gather":
            await asyncio.gather(child(), child())
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                group.create_task(child())
        return len(recorder.exits)

    assert asyncio.run(parent()) == 2
    assert recorder.entered == 1


def test_one_failing_close_skips_the_rest() -> None:
    """``shutdown_resources`` stops at the first error; what it had not reached stays open."""
    closed: list[str] = []

    def make(name: str) -> Iterator[str]:
        yield name
        closed.append(name)
        raise OSError(f"cannot close {name}")

    class Application(containers.DeclarativeContainer):
        one = providers.Resource(make, "one")
        two = providers.Resource(make, "two")
        three = providers.Resource(make, "three")

    application = Application()
    application.init_resources()
    with pytest.raises(OSError, match="cannot close"):
        application.shutdown_resources()
    assert len(closed) == 1
    for resource in (application.one, application.two, application.three):
        with contextlib.suppress(OSError):
            resource.shutdown()
    assert sorted(closed) == ["one", "three", "two"]


# Singletons


def build_at_once(provider: Callable[..., Any], count: int, *, patience: float) -> int:
    """
    Return how many objects *count* racing threads get from one *provider*.

    The constructor waits until all of them are in it, or for *patience* seconds.
    """
    all_in = threading.Barrier(count, timeout=patience)
    built: list[Slow] = []

    class Slow:
        def __init__(self) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                all_in.wait()
            built.append(self)

    singleton = provider(Slow)
    run_in_threads(*[singleton] * count)
    return len(built)


def test_a_plain_singleton_builds_one_object_per_racing_thread() -> None:
    """``Singleton`` takes no lock: eight threads that race build eight objects."""
    assert build_at_once(providers.Singleton, 8, patience=10) == 8


def test_a_thread_safe_singleton_builds_one() -> None:
    """``ThreadSafeSingleton`` builds one object, whoever races."""
    assert build_at_once(providers.ThreadSafeSingleton, 4, patience=0.1) == 1


def test_a_singleton_that_captured_a_storage_ignores_a_later_override() -> None:
    """A singleton keeps what it was built with; a factory sees the override at once."""

    class Application(containers.DeclarativeContainer):
        storage = providers.ThreadSafeSingleton(Parts, kind="real")
        kept = providers.ThreadSafeSingleton(Parts, storage=storage)
        fresh = providers.Factory(Parts, storage=storage)

    application = Application()
    application.kept()
    with application.storage.override(Parts(kind="fake")):
        assert application.kept().storage.kind == "real"
        assert application.fresh().storage.kind == "fake"
    assert application.fresh().storage.kind == "real"


# Sub-containers


class Job(containers.DeclarativeContainer):
    storage = providers.Dependency()
    scopes = providers.Factory(Parts, storage=storage)


def test_a_sub_container_per_job_leaks_and_slows_down() -> None:
    """
    Every container made for a job stays registered at what it overrides with: about a kilobyte each.

    The registry is rebuilt whole for each one, so the next is always slower than the last.
    """
    application = providers.ThreadSafeSingleton(Parts)
    Job(storage=application).scopes()
    gc.collect()
    before_objects = len(application.overrides)
    tracemalloc.start()
    for _ in range(300):
        Job(storage=application).scopes()
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(application.overrides) - before_objects == 300
    assert grown / 300 > 1000


def test_a_factory_called_for_each_job_leaves_nothing() -> None:
    """Calling the same factory for each job keeps nothing: what tempscope does instead."""
    storage = providers.ThreadSafeSingleton(Parts)
    job = Job(storage=storage)
    job.scopes()
    gc.collect()
    tracemalloc.start()
    for _ in range(300):
        job.scopes()
    gc.collect()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 300 * 8
    assert len(storage.overrides) == 1


# Wiring


def entering(log: list[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that writes down when it is entered, as careful decorators are written."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            log.append("entered")
            return fn(*args, **kwargs)

        return wrapper

    return decorate


OUTSIDE_INJECT = """
from dependency_injector.wiring import Provide, inject

@around
@inject
def work(value=Provide["value"]):
    return value
"""


def wired(module: types.ModuleType, log: list[str]) -> containers.DynamicContainer:
    """Wire *module* to a container whose one value writes down when it is asked for."""

    def make() -> str:
        log.append("injected")
        return "value"

    class Application(containers.DeclarativeContainer):
        value = providers.Callable(make)

    application: Any = Application()
    application.wire(modules=[module])
    return application  # type: ignore[no-any-return]


def test_inject_wraps_again_what_stands_outside_of_it(module_from: Callable[..., types.ModuleType]) -> None:
    """
    Wiring replaces a decorator that stands outside ``@inject`` by a wrapper around it.

    So what is injected is made *before* the decorator is entered, unlike the code reads.
    """
    log: list[str] = []
    module = module_from(OUTSIDE_INJECT, around=entering(log))
    as_written = module.work
    wired(module, log)
    assert module.work is not as_written
    assert module.work() == "value"
    assert log == ["injected", "entered"]


def test_a_decorator_whose_signature_shows_no_marker_is_left_alone(
    module_from: Callable[..., types.ModuleType],
) -> None:
    """With a ``__signature__`` without the marked parameters, the order is the one that was written."""
    import inspect

    log: list[str] = []

    def around(fn: Callable[..., Any]) -> Callable[..., Any]:
        wrapper: Any = entering(log)(fn)
        wrapper.__signature__ = inspect.Signature()
        return wrapper  # type: ignore[no-any-return]

    module = module_from(OUTSIDE_INJECT, around=around)
    as_written = module.work
    wired(module, log)
    assert module.work is as_written
    assert module.work() == "value"
    assert log == ["entered", "injected"]


ANNOTATED = """
from typing import Annotated
from dependency_injector.wiring import Provide, inject

@inject
def work(value: Annotated[str, Provide["value"]]):
    return value
"""


def test_markers_in_annotated_break_under_postponed_annotations(
    module_from: Callable[..., types.ModuleType],
) -> None:
    """A marker in ``Annotated`` is found in a real annotation, and not in one that is only text."""
    module = module_from(ANNOTATED)
    wired(module, [])
    assert module.work() == "value"

    with pytest.warns(wiring.DIWiringWarning, match="not required"):
        postponed = module_from("from __future__ import annotations\n" + ANNOTATED)
    wired(postponed, [])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        postponed.work()


def test_an_unwired_function_receives_the_marker(module_from: Callable[..., types.ModuleType]) -> None:
    """Without wiring the parameter is the marker itself, an object that says what it is."""
    module = module_from(OUTSIDE_INJECT, around=lambda fn: fn)
    received = module.work()
    assert isinstance(received, wiring.Provide)
    assert type(received).__module__ == "dependency_injector.wiring"
    assert received.__IS_MARKER__ is True


# Configuration


class Part(containers.DeclarativeContainer):
    config = providers.Configuration(default={"backend": "disk"})
    backend = providers.Factory(str, config.backend)


def application_with(config: dict[str, Any], *, strict: bool = False) -> Any:
    """Return an application container that nests :class:`Part` with its own configuration."""

    class Application(containers.DeclarativeContainer):
        configuration = providers.Configuration(strict=strict)
        part = providers.Container(Part, config=configuration.part)

    application = Application()
    application.configuration.from_dict(config)
    return application


def test_nesting_with_config_replaces_the_configuration_and_its_defaults() -> None:
    """What the nested container gave as default is gone, wholly, as soon as ``config=`` is passed."""
    assert Part().config() == {"backend": "disk"}
    assert application_with({}).part.config() is None
    assert application_with({"part": {"size": 1}}).part.config() == {"size": 1}
    assert application_with({"part": {"size": 1}}).part.config.backend() is None


def test_strict_mode_raises_on_an_absent_key_and_says_nothing_of_a_mistyped_one() -> None:
    """``strict=True`` is about reading what is not there, never about what is there and is not read."""
    with pytest.raises(errors.Error, match="Undefined configuration option"):
        application_with({"other": 1}, strict=True).part.config()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mistyped = application_with({"part": {"backend": "ram", "bakcend": "disk"}}, strict=True)
        assert mistyped.part.backend() == "ram"
