"""What can be wrong with a container, one rule a function: each yields its findings as text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from dependency_injector import errors, providers

from tempscope.container._graph import LONG_LIVED, Node, arguments, effective, reached
from tempscope.container._per_scope import PerScope
from tempscope.container._storage_choice import StorageChoice
from tempscope.errors import ConfigurationError
from tempscope.manager import TempFileManager
from tempscope.scopes import TempScopes, current_scope
from tempscope.settings import Settings


_ABSTRACT = (
    providers.AbstractCallable,
    providers.AbstractCoroutine,
    providers.AbstractFactory,
    providers.AbstractSingleton,
)
_STORAGE_METHODS = ("open_area", "areas", "reclaim")
_CALLED_BY_OTHERS = (providers.DelegatedFactory, providers.Callable)


def unresolved(nodes: Sequence[Node]) -> Iterator[str]:
    """Find placeholders that nothing fills."""
    for node in nodes:
        if node.provider.last_overriding is not None:
            continue
        if isinstance(node.provider, providers.Dependency) and not node.provider.is_defined:
            yield f"{node.path} is a dependency that nobody provides: override it, or give it a default"
        elif isinstance(node.provider, _ABSTRACT):
            yield f"{node.path} is abstract and not overridden: override it with a provider"
        elif _provides(node.provider, otherwise=node) is None:
            yield f"{node.path} provides nothing: name its class or function"


def captive(nodes: Sequence[Node]) -> Iterator[str]:
    """Find long-lived objects that keep something of one job, or a storage that can be overridden."""
    names = {id(node.provider): node.path for node in nodes}
    for node in _long_lived(nodes):
        kind = type(effective(node.provider)).__name__
        for met in reached(node):
            name = names.get(id(met.provider), met.path)
            what = _of_one_scope(met.provider)
            if what is not None:
                yield (
                    f"{node.path} is a {kind} and holds {name}, {what}, as {met.path}: every later job "
                    "would get the first job's; make it a Factory or PerScope, or inject the provider "
                    "itself (.provider) and call it for each job"
                )
            elif _is_storage(met.provider) and not _is_storage(node.provider):
                yield (
                    f"{node.path} is a {kind} and captures {name}, a storage, as {met.path}: a later "
                    "override would not reach it; make it a Factory, or inject the provider itself "
                    "(.provider)"
                )


def constants(nodes: Sequence[Node]) -> Iterator[str]:
    """Find managers that were put in as values."""
    for node in nodes:
        provider: Any = node.provider
        values = [(node.path + label, value) for label, value in arguments(provider)]
        if isinstance(provider, providers.Object):
            values.append((node.path, provider.provides))
        for path, value in values:
            for manager in _managers_in(value):
                yield (
                    f"{path} is or holds the manager {manager._shown!r} itself: every job would write into "
                    "that one scope; inject TempContainer's manager, which is the current job's"
                )


def owned_by_resource(nodes: Sequence[Node]) -> Iterator[str]:
    """Find resources that own a scope: they never learn how the job went."""
    for node in _long_lived(nodes):
        if not isinstance(effective(node.provider), providers.BaseResource):
            continue
        if _makes_scopes(node.provider) or any(_makes_scopes(met.provider) for met in reached(node)):
            yield (
                f"{node.path} is a {type(effective(node.provider)).__name__} and owns a scope: it would "
                "close it without telling it how the job went, and share it between threads; inject the "
                "scopes into a service, and open one there by 'with scopes.open(name):'"
            )


def configuration(nodes: Sequence[Node]) -> Iterator[str]:
    """Find settings that cannot be, and backends that are not there."""
    seen: set[str] = set()
    for node in nodes:
        try:
            _settle(effective(node.provider))
        except (ConfigurationError, errors.Error) as error:
            if str(error) not in seen:
                seen.add(str(error))
                yield f"{node.path}: {error}"


def wrong_arguments(nodes: Sequence[Node]) -> Iterator[str]:
    """Find arguments that the class does not take, and ones that it misses."""
    called_by_others = _called_by_others(nodes)
    for node in nodes:
        provider: Any = node.provider
        signature = _signature(_provides(provider, otherwise=None))
        if signature is None or provider.last_overriding is not None:
            continue
        try:
            # What is not taken is told first: a mistyped argument is missing too.
            signature.bind_partial(*provider.args, **provider.kwargs)
            if not (isinstance(provider, _CALLED_BY_OTHERS) or id(provider) in called_by_others):
                signature.bind(*provider.args, **provider.kwargs)
        except TypeError as error:
            yield (
                f"{node.path}: {_name(provider)}{signature}: {error}; declare it with the provider, or, "
                "if the caller passes it, make this a DelegatedFactory or inject .provider"
            )


def _long_lived(nodes: Sequence[Node]) -> Iterator[Node]:
    return (node for node in nodes if isinstance(effective(node.provider), LONG_LIVED))


def _called_by_others(nodes: Sequence[Node]) -> set[int]:
    """Return which factories are handed on uncalled: their callers may pass the rest."""
    called: set[int] = set()
    for node in nodes:
        provider: Any = node.provider
        if isinstance(provider, providers.Delegate):
            called.add(id(provider.provides))
        elif isinstance(provider, providers.Aggregate):
            called.update(id(one) for one in provider.providers.values())
    return called


def _of_one_scope(thing: Any) -> str | None:
    if not providers.is_provider(thing):
        return None
    provider = effective(thing)
    if isinstance(provider, PerScope):
        return "made per scope"
    if _provides(provider, otherwise=None) is current_scope:
        return "the current scope's manager"
    return None


def _is_storage(thing: Any) -> bool:
    if isinstance(thing, StorageChoice):
        return True
    provided = _provides(thing, otherwise=None)
    return isinstance(provided, type) and all(hasattr(provided, name) for name in _STORAGE_METHODS)


def _managers_in(value: Any) -> Iterator[TempFileManager]:
    if isinstance(value, TempFileManager):
        yield value
    elif not isinstance(value, type) and not providers.is_provider(value):
        yield from (part for part in _parts(value) if isinstance(part, TempFileManager))


def _parts(value: Any) -> Iterator[Any]:
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        yield from (getattr(value, name, None) for name in ([slots] if isinstance(slots, str) else slots))


def _makes_scopes(thing: Any) -> bool:
    if not providers.is_provider(thing):
        return isinstance(thing, TempScopes)
    provided = _provides(effective(thing), otherwise=None)
    return isinstance(provided, type) and issubclass(provided, (TempScopes, TempFileManager))


def _settle(provider: providers.Provider[Any]) -> None:
    if isinstance(provider, StorageChoice):
        provider.chosen()
    elif _provides(provider, otherwise=None) == Settings.from_mapping:
        provider()


def _provides(provider: Any, *, otherwise: object) -> Any:
    if isinstance(provider, (providers.Factory, providers.Callable, *LONG_LIVED)):
        return provider.provides
    return otherwise


def _signature(provided: Any) -> inspect.Signature | None:
    if provided is None or providers.is_provider(provided):
        return None
    try:
        return inspect.signature(provided)
    except (TypeError, ValueError):
        # Some of the built-in classes cannot tell.
        return None


def _name(provider: Any) -> str:
    return getattr(provider.provides, "__qualname__", None) or repr(provider.provides)
