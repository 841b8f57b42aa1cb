"""``check_container``: everything that is wrong with a container, found at start-up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dependency_injector import containers, providers

from tempscope.container import PerScope, TempContainer, check_container
from tempscope.errors import ConfigurationError
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes, current_scope
from tempscope.storages import LocalDiskStorage, MemoryStorage


class Cutter:
    """Works in one scope."""

    def __init__(self, manager: TempFileManager) -> None:
        self.manager = manager


class Service:
    """Owns jobs."""

    def __init__(self, scopes: TempScopes, cutter: Any = None, *, speed: int = 1) -> None:
        self.scopes = scopes
        self.cutter = cutter


class Anything:
    """Takes whatever it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def application(**more: providers.Provider[Any]) -> Any:
    """Return an application container that nests :class:`TempContainer`, with *more* providers."""

    class Application(containers.DeclarativeContainer):
        config = providers.Configuration()
        temp = providers.Container(TempContainer, config=config.temp)
        cutter = providers.Factory(Cutter, manager=temp.manager)
        service = providers.Factory(Service, scopes=temp.scopes, cutter=cutter.provider)

    made: Any = Application()
    for name, provider in more.items():
        made.set_provider(name, provider)
    return made


def findings(container: Any) -> list[str]:
    """Return what the check finds, one text a finding; it has to find something."""
    with pytest.raises(ConfigurationError) as caught:
        check_container(container)
    title, *lines = str(caught.value).splitlines()
    assert title.endswith("cannot work as it is wired:")
    assert all(line.startswith("- ") for line in lines)
    return [line[2:] for line in lines]


def only(container: Any) -> str:
    """Return the one thing that the check finds."""
    found = findings(container)
    assert len(found) == 1, found
    return found[0]


# What is right


def test_a_good_application_passes() -> None:
    """Nested, alone, as instance or class, wired to itself: nothing is found and nothing built."""
    check_container(application())
    check_container(TempContainer())
    check_container(TempContainer)


def test_factories_and_per_scope_objects_may_hold_what_is_of_a_scope() -> None:
    """What lives no longer than the scope may hold the scope's: factories, and PerScope itself."""
    app = application()
    app.set_provider("session", PerScope(Anything, manager=app.temp.manager, storage=app.temp.storage))
    app.set_provider("user", providers.Factory(Anything, app.session, app.temp.storage))
    check_container(app)


def test_a_singleton_may_hold_a_provider_uncalled() -> None:
    """A singleton that calls the provider itself for each job always gets what is right then."""
    app = application()
    app.set_provider(
        "pool",
        providers.ThreadSafeSingleton(
            Anything,
            app.temp.manager.provider,
            app.temp.storage.provider,
            scopes=app.temp.scopes.provider,
            cutters=providers.DelegatedFactory(Cutter, manager=app.temp.manager),
            container=providers.Self(app),
            settings=app.config.other,
        ),
    )
    check_container(app)


def test_a_container_in_use_passes() -> None:
    """Wiring adds the container itself to its providers; the check knows that."""
    app = application()
    app.providers["__self__"] = app.__self__
    check_container(app)


# Unresolved


def test_a_dependency_that_nobody_provides() -> None:
    """A placeholder without override or default is found; with one it is not."""
    app = application(clock=providers.Dependency())
    assert only(app).startswith("clock is a dependency that nobody provides")
    app.clock.override(providers.Object("clock"))
    check_container(app)
    check_container(application(clock=providers.Dependency(default=providers.Object("clock"))))


def test_a_nested_dependency_is_named_by_its_path() -> None:
    """What is missing deep inside is named the way one would write it."""

    class Inner(containers.DeclarativeContainer):
        clock = providers.Dependency()

    class Outer(containers.DeclarativeContainer):
        inner = providers.Container(Inner)

    class Application(containers.DeclarativeContainer):
        outer = providers.Container(Outer)

    assert only(Application()).startswith("outer.inner.clock is a dependency")
    assert only(Application).startswith("outer.inner.clock is a dependency")


def test_a_dependencies_container_is_looked_into() -> None:
    """What others ask of a ``DependenciesContainer`` has to be there too."""
    gateways: Any = providers.DependenciesContainer()
    app = application(user=providers.Factory(Anything, gateways.payment), gateways=gateways)
    assert only(app).startswith("gateways.payment is a dependency")


@pytest.mark.parametrize("kind", [providers.AbstractFactory, providers.AbstractSingleton])
def test_an_abstract_provider_without_override(kind: Any) -> None:
    """An abstract provider has to be overridden."""
    app = application(parser=kind(Anything))
    assert only(app).startswith("parser is abstract")
    app.parser.override(kind.__base__(Anything))
    check_container(app)


def test_a_provider_of_nothing() -> None:
    """A factory that was given no class is found."""
    assert only(application(nothing=providers.Factory())).startswith("nothing provides nothing")


# Captives


LONG_LIVED = [
    providers.Singleton,
    providers.ThreadSafeSingleton,
    providers.ThreadLocalSingleton,
    providers.ContextLocalSingleton,
    providers.DelegatedSingleton,
    providers.Resource,
    providers.ContextLocalResource,
]


@pytest.mark.parametrize("kind", LONG_LIVED, ids=lambda kind: kind.__name__)
def test_a_long_lived_object_that_holds_the_manager(kind: Any) -> None:
    """Whatever outlives the job must not hold its manager; the finding says which, where, what to do."""
    app = application()
    app.set_provider("cache", kind(Anything, manager=app.temp.manager))
    found = only(app)
    assert found.startswith(f"cache is a {kind.__name__} and holds temp.manager, the current scope's manager")
    assert "as cache(manager=)" in found
    assert ".provider" in found


def test_a_captive_is_found_through_factories() -> None:
    """Holding a factory's object that holds the manager is the same, however deep and of whatever kind."""
    app = application()
    inner = providers.Factory(Anything, app.cutter)
    app.set_provider("cache", providers.Singleton(Anything, providers.List(providers.Dict(cutter=inner))))
    found = only(app)
    assert found.startswith("cache is a Singleton and holds temp.manager")
    assert "as cache(0)(0)(cutter=)(0)(manager=)" in found


def test_an_attribute_can_be_a_captive() -> None:
    """What a singleton sets as attribute, or takes a part of, is held as well."""
    app = application()
    app.set_provider(
        "cache", providers.Singleton(Anything).add_attributes(name=app.temp.manager.provided.name)
    )
    assert only(app).startswith("cache is a Singleton and holds temp.manager")


def test_a_long_lived_object_that_holds_a_per_scope_object() -> None:
    """A PerScope object is closed with its scope; what outlives that must not hold it."""
    app = application(session=PerScope(Anything))
    app.set_provider("cache", providers.Singleton(Anything, app.session))
    assert only(app).startswith("cache is a Singleton and holds session, made per scope")


def test_a_chain_of_singletons_is_one_finding() -> None:
    """The singleton that does it answers for it, not every one above."""
    app = application()
    app.set_provider("inner", providers.Singleton(Anything, app.temp.manager))
    app.set_provider("outer", providers.Singleton(Anything, app.inner))
    assert only(app).startswith("inner is a Singleton")


def test_a_singleton_that_captures_the_storage() -> None:
    """A singleton of the scopes, or the storage, would ignore a later override."""
    app = application()
    app.set_provider("service2", providers.ThreadSafeSingleton(Service, scopes=app.temp.scopes))
    found = only(app)
    assert found.startswith("service2 is a ThreadSafeSingleton and captures temp.storage, a storage")
    assert "a later override" in found


def test_a_placeholder_is_seen_through() -> None:
    """A dependency that the manager fills, by override or default, is the manager."""
    app = application()
    filled = providers.Dependency(default=app.temp.manager)
    overridden = providers.Dependency()
    overridden.override(app.temp.manager)
    app.set_provider("one", providers.Singleton(Anything, filled))
    app.set_provider("two", providers.Singleton(Anything, overridden))
    assert [line.split(" and holds ")[0] for line in findings(app)] == [
        "one is a Singleton",
        "two is a Singleton",
    ]


def test_an_override_makes_a_captive_and_takes_one_away() -> None:
    """What counts is what answers now."""
    app = application(session=PerScope(Anything), cache=providers.Factory(Anything))
    app.cache.override(providers.Singleton(Anything, app.session))
    assert any("holds session" in line for line in findings(app))
    app.session.override(providers.Object("fake"))
    check_container(app)


def test_a_singleton_that_captures_a_storage_of_ones_own() -> None:
    """A storage that the application wires itself is captured just as well; a storage may build on one."""

    class Application(containers.DeclarativeContainer):
        disk = providers.ThreadSafeSingleton(LocalDiskStorage)
        storage = providers.ThreadSafeSingleton(MemoryStorage, spill_to=disk)
        scopes = providers.Factory(TempScopes, storage)
        service = providers.Singleton(Service, scopes)

    assert only(Application()).startswith("service is a Singleton and captures storage, a storage")


class Holding:
    """Holds something, without a ``__dict__``."""

    __slots__ = "held"  # noqa: PLC0205 -- a single slot may be written so

    def __init__(self, held: Any) -> None:
        self.held = held


@pytest.mark.parametrize("how", ["object", "in an object", "in slots", "argument", "keyword", "attribute"])
def test_a_manager_put_in_as_a_value(how: str, tmp_path: Any) -> None:
    """A manager as a value, in an ``Object`` or as an argument, would be every job's."""
    manager = TempFileManager(name="mine", base_dir=tmp_path)
    app = application(
        cutters={
            "object": providers.Object(manager),
            "in an object": providers.Object(Cutter(manager)),
            "in slots": providers.Object(Holding(manager)),
            "argument": providers.Factory(Cutter, manager),
            "keyword": providers.Factory(Cutter, manager=manager),
            "attribute": providers.Factory(Anything).add_attributes(manager=manager),
        }[how]
    )
    assert "cutters" in only(app)
    assert "is or holds the manager 'mine' itself" in only(app)


# Resources


def job_scope(scopes: TempScopes) -> Iterator[TempFileManager]:
    """Open a scope as a resource would."""
    with scopes.open() as manager:
        yield manager


@pytest.mark.parametrize("kind", [providers.Resource, providers.ContextLocalResource])
def test_a_resource_that_owns_a_scope(kind: Any) -> None:
    """Resources do not tell a scope how the job went: found as class, as scopes, and as a call of open."""
    app = application()
    app.set_provider("job", kind(TempFileManager))
    assert only(app).startswith(f"job is a {kind.__name__} and owns a scope")
    app.set_provider("job", kind(job_scope, app.temp.scopes))
    assert any("owns a scope" in line for line in findings(app))
    app.set_provider("job", kind(app.temp.scopes.provided.open.call("job")))
    assert any("owns a scope" in line for line in findings(app))


def test_a_resource_that_owns_the_scopes_given_as_a_value(scopes: TempScopes) -> None:
    """Scopes given as a value are as bad."""
    assert "owns a scope" in only(application(job=providers.Resource(job_scope, scopes)))


def test_other_resources_are_not_our_business() -> None:
    """A resource that has nothing to do with scopes passes."""
    check_container(application(pool=providers.Resource(Anything, 1)))


# Configuration


def test_an_unknown_backend() -> None:
    """A backend that is none is named, with those that are; once."""
    app = application()
    app.config.from_dict({"temp": {"backend": "tape"}})
    found = only(app)
    assert "tape" in found
    assert all(name in found for name in ("disk", "ram", "memory", "hardlink"))


def test_an_unknown_key() -> None:
    """A mistyped key is named."""
    app = application()
    app.config.from_dict({"temp": {"bakcend": "disk"}})
    assert "bakcend" in only(app)


def test_a_configuration_that_strict_mode_misses() -> None:
    """Where the application's configuration is strict, an absent section is found before it raises."""

    class Application(containers.DeclarativeContainer):
        config = providers.Configuration(strict=True)
        temp = providers.Container(TempContainer, config=config.temp)

    assert 'Undefined configuration option "config.temp"' in only(Application())


# Arguments


def test_an_argument_the_class_does_not_take() -> None:
    """An unknown keyword is named, with the class, what it takes, and the path."""
    app = application()
    app.set_provider("slow", providers.Factory(Service, scopes=app.temp.scopes, sped=3))
    found = only(app)
    assert found.startswith("slow: Service(scopes")
    assert "'sped'" in found


def test_a_mistyped_argument_is_named_as_it_stands() -> None:
    """Of a mistyped argument the finding tells what was written, not what is missing for it."""
    app = application()
    app.set_provider("mistyped", providers.Factory(Cutter, manger=app.temp.manager))
    assert "unexpected keyword argument 'manger'" in only(app)


def test_an_argument_that_is_missing() -> None:
    """A required argument that nobody gives is named."""
    app = application(cutter2=providers.Factory(Cutter))
    assert "cutter2: Cutter(manager" in only(app)
    assert "'manager'" in only(app)


def test_a_per_scope_object_and_a_resource_are_checked_too() -> None:
    """So are the other providers that build something."""
    app = application(
        session=PerScope(Cutter), pool=providers.Resource(Cutter), once=providers.Singleton(Cutter)
    )
    assert [line.split(":")[0] for line in findings(app)] == ["session", "pool", "once"]


def test_what_the_caller_passes_is_not_missing() -> None:
    """Where the factory itself is injected its caller may pass the rest; unknown keywords are found still."""
    app = application(cutter2=providers.Factory(Cutter), delegated=providers.DelegatedFactory(Cutter))
    app.set_provider("user", providers.Factory(Anything, app.cutter2.provider))
    app.set_provider("kinds", providers.FactoryAggregate(a=providers.Factory(Cutter)))
    app.set_provider("function", providers.Callable(Cutter))
    check_container(app)
    app.set_provider("delegated", providers.DelegatedFactory(Cutter, speed=1))
    assert "'speed'" in only(app)


def test_what_cannot_tell_its_arguments_is_left_alone() -> None:
    """Built-in types without a signature, and providers of classes, are not guessed at."""
    app = application(
        number=providers.Factory(int, 1, 2, 3), chosen=providers.Factory(providers.Object(Cutter))
    )
    check_container(app)


def test_an_overridden_provider_is_judged_by_its_override() -> None:
    """Arguments that are wrong but never used do not matter."""
    app = application(cutter2=providers.Factory(Cutter))
    app.cutter2.override(providers.Object("fake"))
    check_container(app)
    app.cutter2.override(providers.Factory(Cutter, speed=1))
    assert only(app).startswith("cutter2, overridden: Cutter")
    app.cutter2.override(providers.Object("fake"))
    check_container(app)


def test_an_inline_provider_is_named_by_its_place() -> None:
    """A provider without a name of its own is found where it is passed on."""
    app = application(user=providers.Factory(Anything, cutter=providers.Factory(Cutter, speed=1)))
    assert only(app).startswith("user(cutter=): Cutter")


# The report


def test_all_findings_come_at_once() -> None:
    """One error names everything, and the container it is about."""
    app = application(clock=providers.Dependency(), cutter2=providers.Factory(Cutter))
    app.set_provider("cache", providers.Singleton(Anything, app.temp.manager))
    app.config.from_dict({"temp": {"backend": "tape"}})
    assert len(findings(app)) == 4
    with pytest.raises(ConfigurationError, match="the container Application cannot work"):
        check_container(app)


def test_a_container_without_a_name() -> None:
    """A dynamic container is checked as well."""
    dynamic: Any = containers.DynamicContainer()
    dynamic.clock = providers.Dependency()
    with pytest.raises(ConfigurationError, match="^the container cannot work"):
        check_container(dynamic)


def test_the_manager_provider_is_what_is_recognised() -> None:
    """An own provider of ``current_scope`` is a scope's manager as much as ours."""
    app = application(mine=providers.Callable(current_scope))
    app.set_provider("cache", providers.Singleton(Anything, app.mine))
    assert only(app).startswith("cache is a Singleton and holds mine, the current scope's manager")
